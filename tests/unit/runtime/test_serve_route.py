"""The one line that is told of a remote error."""

from ray.data._internal.util import _annotate_exception_with_retry_context
from ray.exceptions import RayError

from dpe_ray.runtime.serve_route import last_line


def test_the_advice_that_ray_data_writes_behind_an_error_is_not_taken_for_it():
    error = _annotate_exception_with_retry_context(
        ValueError("Traceback\n  ConfigError: $KEY is not set"),
        description="map rows",
        attempts=1,
        max_attempts=1,
        total_backoff_s=0.0,
        exception_str="",
    )
    assert "To change retry attempts" in str(error)
    assert last_line(error) == "ConfigError: $KEY is not set"


def test_a_line_is_told_without_its_indent():
    assert last_line(RayError("The actor died:\n\tthe node was terminated.")) == "the node was terminated."


def test_an_error_without_a_text_is_told_by_its_kind():
    assert last_line(ValueError()) == "ValueError"
