"""Errors, named by the border that broke.

    DpeError
    +-- ConfigError       the YAML, an override or a preset                     (ValueError)
    +-- PoolError         images, samples or suites that cannot be read         (ValueError)
    |   +-- PoolUnreachable   their place did not answer: nothing is wrong with them
    +-- ModelError        an endpoint or engine
    |   +-- ModelUnavailable  it did not answer: an outage, never a wrong answer (ConnectionError)
    |   |   +-- ModelTimeout      it took too long
    |   |   +-- ModelCutOff       its reply broke off
    |   +-- EndpointDown      it answered nothing for minutes: the stage ends     (ConnectionError)
    |   +-- BadRequest        it refused the request itself: retrying is useless (ValueError)
    |   +-- BadReply          it answered, but not in the form that was asked    (ValueError)
    |   +-- ControlToken      a text would steer the model that is to read it    (ValueError)
    |   +-- UnfitPicture      its processor cannot take a picture                (ValueError)
    +-- BudgetExceeded    the calls or the money the user allowed are spent
    +-- TrainingError     an update that cannot be done                         (RuntimeError)
    +-- ClusterError      Ray: resources, actors, deployments, jobs             (RuntimeError)
    +-- StoreError        the run directory                                     (OSError)

Rules: the message is one line, names what broke and says what to do. A failure that belongs to one sample is no
exception at a stage's border but a counted `Rejection` or a `not judged` verdict. Every error pickles.
"""


class DpeError(Exception):
    """Base of all errors that dpe_ray raises on purpose; the command line prints them as one line."""


class ConfigError(DpeError, ValueError):
    """A key or value of the configuration is wrong."""


class PoolError(DpeError, ValueError):
    """Images, samples or a suite cannot be read, or are empty."""


class PoolUnreachable(PoolError):
    """A disk or store did not give what may well be there: no fault of a row, which must not be left out for it."""


class ModelError(DpeError):
    """A model endpoint or engine failed."""


class ModelUnavailable(ModelError, ConnectionError):
    """An endpoint did not answer after all retries: the item stays *not judged*."""


class ModelTimeout(ModelUnavailable):
    """An endpoint took too long: HTTP 408."""


class ModelCutOff(ModelUnavailable):
    """The connection to an endpoint broke off in the middle of its reply."""


class EndpointDown(ModelError, ConnectionError):
    """An endpoint answered nothing for minutes: no outage of one item, so it ends the stage."""


class BadRequest(ModelError, ValueError):
    """An endpoint refused the request (4xx other than 408 and 429)."""


class BadReply(ModelError, ValueError):
    """A reply does not parse into the type that was asked for."""


class ControlToken(ModelError, ValueError):
    """A text holds what the model that is to read it takes for a control token."""


class UnfitPicture(ModelError, ValueError):
    """A picture can be read, but not by a model's processor: it is too thin, or has too few pixels."""


class BudgetExceeded(DpeError):
    """The budget of calls or money is spent."""


class TrainingError(DpeError, RuntimeError):
    """An update cannot be done: no usable samples, a loss that is not finite, a model that does not fit."""


class ClusterError(DpeError, RuntimeError):
    """Ray could not do what was asked: too few resources, a dead deployment, a lost job."""


class StoreError(DpeError, OSError):
    """The run directory cannot be read or written, or belongs to another run."""
