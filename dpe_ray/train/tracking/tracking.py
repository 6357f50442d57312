"""All trackers of a training behind one."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from dpe_ray.train.tracking.shown import shown_of
from dpe_ray.train.tracking.trackers import TRACKERS, LinesTracker, Tracker, TrackingSettings
from dpe_ray.types import RolloutGroup

log = logging.getLogger(__name__)


class Tracking:
    """Tells every tracker of the settings, and as a context how the training ended.

    A tracker that fails is left out from then on: it must not end a training.
    """

    def __init__(self, settings: TrackingSettings) -> None:
        self._settings = settings
        self._trackers: dict[str, Tracker] = {}
        self._open("files", LinesTracker)
        for name in settings.to:
            self._open(name, TRACKERS[name][1])

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[RolloutGroup]) -> None:
        """Tell the metrics of a finished step, counted from 1, and some of its completions."""
        shown = shown_of(groups, self._settings.completions, step)
        if shown:
            self._each(lambda tracker: tracker.show(step, shown))
        self._each(lambda tracker: tracker.log(step, metrics))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._each(lambda tracker: tracker.close(failed=kind is not None))

    def _open(self, name: str, make: Callable[[TrackingSettings], Tracker]) -> None:
        try:
            self._trackers[name] = make(self._settings)
        except Exception as error:  # recording border: whatever a tracker's package raises, the training goes on
            self._failed(f"{name} cannot be opened; this training is not told to it", error)

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                tell(tracker)
            except Exception as error:  # recording border: whatever a tracker's package raises, the training goes on
                self._failed(f"{name} fails and is left out from now on", error)
                del self._trackers[name]

    def _failed(self, told: str, error: Exception) -> None:
        """Log it here, and leave a line for whoever drives the run from elsewhere."""
        log.error("tracking: %s", told, exc_info=error)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        with suppress(OSError), (Path(self._settings.folder) / "failures.log").open("a", encoding="utf-8") as file:
            file.write(f"{told} ({reason})\n")


class Untold:
    """Tracking of the ranks that tell nobody."""

    def log(self, step: int, metrics: Mapping[str, float], groups: Sequence[RolloutGroup]) -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing."""
