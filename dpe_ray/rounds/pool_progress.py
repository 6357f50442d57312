"""How far the rounds have come in the pool: RUN/rounds/NN/pool.json, and the images that were seen, pool.npz."""

from collections.abc import Callable

from dpe_ray.pool.cursor import BEGINNING, Cursor
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.sets import Draw, ImagePool
from dpe_ray.rounds.store import RunFolder


class PoolProgress:
    """Each round goes on where the last one that drew stopped. A round that is run again begins where it began."""

    def __init__(self, pool: Callable[[], ImagePool], run: RunFolder, seed: int) -> None:
        """`pool` is asked when a round draws."""
        self._pool, self._run, self._seed = pool, run, seed
        self._drawn: tuple[Draw, SeenImages] | None = None

    def begin(self, index: int) -> Draw:
        """The images for a round."""
        cursor, seen = self._behind(index)
        draw = self._pool().draw(seed=self._seed, cursor=cursor, seen=seen)
        self._drawn = draw, seen
        return draw

    def end(self, index: int, used: int) -> None:
        """Write down that a round used up the first `used` images of its draw. Does nothing when it never drew."""
        if self._drawn is None:
            return
        draw, seen = self._drawn
        cursor, folder = draw.behind(used), self._run.round(index)
        folder.path.mkdir(parents=True, exist_ok=True)
        seen.save(folder.path / "pool.npz", cursor.rows)
        folder.save_json("pool", cursor)
        self._drawn = None

    def _behind(self, index: int) -> tuple[Cursor, SeenImages]:
        for folder in (self._run.round(i) for i in range(index - 1, 0, -1)):
            if folder.has("pool"):
                return folder.load_json("pool", Cursor), self._pool().seen(folder.path / "pool.npz")
        return BEGINNING, self._pool().seen()
