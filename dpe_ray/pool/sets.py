"""The unlabelled pool, drawn from in a seeded order that goes on where the last round stopped."""

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dpe_ray.errors import PoolError
from dpe_ray.models.images import decode
from dpe_ray.pool.blocks import Block, find_blocks
from dpe_ray.pool.cursor import BEGINNING, Cursor, Turn, read_lap
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.layouts.fields import PoolRow
from dpe_ray.pool.rows import read_block
from dpe_ray.types import ImageRef, Rejection

CHECKED = 64
"""Images that a check looks at before it says that none can be read."""


class Drawn(NamedTuple):
    """One row of the pool."""

    image: ImageRef | Rejection
    """Gate `image` or `duplicate`, slot = the row's number since the beginning."""
    cursor: Cursor
    """Behind this row."""


class Draw:
    """Images one by one, as they come; may be cut off anywhere and gone on behind any of them."""

    def __init__(self, rows: Iterator[Drawn], start: Cursor) -> None:
        self._rows, self._cursors = rows, [start]

    def __iter__(self) -> Iterator[ImageRef | Rejection]:
        return self

    def __next__(self) -> ImageRef | Rejection:
        drawn = next(self._rows)
        self._cursors.append(drawn.cursor)
        return drawn.image

    def behind(self, count: int) -> Cursor:
        """Where to go on when the first `count` of the images given so far are used up."""
        return self._cursors[count]


class ImagePool:
    """Images of one source. Knows their blocks, holds no bytes."""

    def __init__(self, source: str, store: ImageStore) -> None:
        self._source, self._store = source, store

    @cached_property
    def blocks(self) -> list[Block]:
        """Parts of the source: an image, a row group, a tar. Raises PoolError when there is none."""
        return find_blocks(self._source)

    def check(self) -> None:
        """Look for images now rather than at the first draw. Raises PoolError when there is none, or none to be read.

        Costs one image where the first one is sound; gives up after `CHECKED`, spread over the pool.
        """
        step = -(-len(self.blocks) // CHECKED)
        rows = islice((row for block in self.blocks[::step] for row in read_block(block)), CHECKED)
        looked, reason = 0, "no rows"
        for looked, row in enumerate(rows, 1):
            try:
                decode(_bytes(row))
            except PoolError as error:
                reason = f"{row.where}: {error}" if looked == 1 else reason
            else:
                return
        raise PoolError(f"{self._source}: none of the images can be read, {looked} looked at ({reason})")

    def seen(self, stored: Path | None = None) -> SeenImages:
        """What a pass has seen: nothing at its beginning, or what `SeenImages.save` wrote. Raises StoreError."""

        def place(sha256: str) -> str:
            return str(self._store.folder / sha256)

        return SeenImages.load(stored, place) if stored else SeenImages(place)

    def read(self, *, seed: int, cursor: Cursor = BEGINNING, seen: SeenImages | None = None) -> Iterator[Drawn]:
        """Yield the rows from the cursor on, one after the other, without end: a new pass takes another order.

        A row whose image cannot be read, or is the same as one that was drawn before in this pass, is a Rejection.
        `seen` holds the images of the pass before the cursor and goes on growing; without it nothing was seen. Equal
        arguments, equal results. Raises PoolError when a whole pass finds no image.
        """
        seen = self.seen() if seen is None else seen
        whole = cursor == Cursor(cursor.rows, cursor.lap)
        while True:
            found = 0
            refused: Rejection | None = None
            for turn in read_lap(self.blocks, seed, cursor):
                image = self._admit(turn, seen)
                cursor = turn.cursor
                if isinstance(image, Rejection):
                    refused = image
                else:
                    found += 1
                yield Drawn(image, cursor)
            if whole and not found:
                why = refused.reason if refused else "it is empty"
                raise PoolError(f"{self._source}: no readable image in {len(self.blocks)} files or parts ({why})")
            cursor, whole = Cursor(cursor.rows, cursor.lap + 1), True
            seen.clear()

    def captions(self) -> Iterator[tuple[str, str]]:
        """What a search can find: rows, as `take` reads them, and the texts about their images; no image is read.

        A file without a text is known by its folder and name.
        """
        for number, block in enumerate(self.blocks):
            for row, read in enumerate(read_block(block, bare=True)):
                known_by = (
                    " ".join(PurePosixPath(block.file).with_suffix("").parts[-2:]) if block.kind == "file" else ""
                )
                if text := read.caption or known_by:
                    yield f"{number}:{row}", text

    def check_captions(self) -> None:
        """Look for a text that a search can find. Raises PoolError when no image has one; reads no image."""
        if next(self.captions(), None) is None:
            raise PoolError(
                f"{self._source}: no image has a caption, title or tag, so nothing can be searched for; add such a "
                "column, or set tools.search.source: web or supply.annotate.start: image"
            )

    def take(self, row: str) -> ImageRef | Rejection:
        """Read the image of a row that `captions` named; a Rejection (slot 0) when it cannot be read."""
        number, _, at = row.partition(":")
        found = next(read_block(self.blocks[int(number)], int(at)), None)
        try:
            if found is None:
                raise PoolError(f"{self.blocks[int(number)].file}: has no row {at} any more")
            return self._stored(found)
        except PoolError as error:
            return Rejection(0, "image", f"{found.where}: {error}" if found else str(error))

    def draw(self, *, seed: int, cursor: Cursor = BEGINNING, seen: SeenImages | None = None) -> "Draw":
        """As `read`, image by image; the draw knows the cursor behind each of them."""
        return Draw(self.read(seed=seed, cursor=cursor, seen=seen), cursor)

    def _admit(self, turn: Turn, seen: SeenImages) -> ImageRef | Rejection:
        row, slot = turn.row, turn.cursor.rows - 1
        try:
            image = self._stored(row)
            same = seen.why_same(image)
        except PoolError as error:
            return Rejection(slot, "image", f"{row.where}: {error}")
        if same:
            return Rejection(slot, "duplicate", f"{row.where}: {same}")
        seen.add(image, slot)
        return image

    def _stored(self, row: PoolRow) -> ImageRef:
        return self._store.put(_bytes(row), licence=row.licence, source=row.where)


def _bytes(row: PoolRow) -> bytes:
    if row.error:
        raise PoolError(row.error)
    return row.data
