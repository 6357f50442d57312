"""Who is told of a training while it runs."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dpe_ray.config.part import Part


class TrackingConfig(Part):
    """The steps of every training stand in RUN/rounds/NN/tracking; these are told besides."""

    to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Their packages are the extra `tracking`. Keys and addresses come from the environment: WANDB_API_KEY, WANDB_MODE,
    MLFLOW_TRACKING_URI, ..., set where the training workers run."""
    project: str = "dpe_ray"
    """W&B's project, MLflow's experiment. Trainings of one run share a group of the run's name."""
    completions: Annotated[int, Field(ge=0)] = 4
    """Sampled completions shown of every step, best and worst of a group, with their images."""
    options: dict[Literal["tensorboard", "wandb", "mlflow"], dict[str, Any]] = {}
    """Further arguments by tracker: of tensorboardX's SummaryWriter, of wandb.init; MLflow takes `tracking_uri`, all
    else become tags. Not for secrets: they stand in the run's config.json."""
