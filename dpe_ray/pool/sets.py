"""The unlabelled pool, drawn from in a seeded order that goes on where the last round stopped."""

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from random import Random

from dpe_ray.errors import PoolError
from dpe_ray.models.images import decode
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.readers import Address, Found, find_images, load_images
from dpe_ray.seeds import child_seed
from dpe_ray.types import ImageRef, Rejection

CHUNK = 32
"""Images read together, so that a row group is opened once for all of them that it holds."""
CHECKED = 64
"""Images that a check looks at before it says that none can be read."""


class ImagePool:
    """Images of one source. Knows their addresses, holds no bytes."""

    def __init__(self, source: str, store: ImageStore) -> None:
        self._source, self._store = source, store

    @cached_property
    def addresses(self) -> list[Address]:
        """All images, in the order of the source. Raises PoolError when there is none."""
        return find_images(self._source)

    def check(self) -> None:
        """Look for images now rather than at the first draw. Raises PoolError when there is none, or none to be read.

        Costs one image where the first one is sound; gives up after `CHECKED`, spread over the pool.
        """
        step = -(-len(self.addresses) // CHECKED)
        some, reason = self.addresses[::step], ""
        for address in some:
            found = next(load_images([address]))
            try:
                decode(found.data)
            except PoolError as error:
                reason = reason or f"{found.name}: {found.error or error}"
            else:
                return
        count = f"{len(some)} of {len(self.addresses)}"
        raise PoolError(f"{self._source}: none of the images can be read, {count} looked at ({reason})")

    def draw(self, count: int, *, seed: int, cursor: int = 0) -> Iterator[ImageRef | Rejection]:
        """Yield one result for each of `count` positions from `cursor` on, lazily; the next draw begins behind them.

        A position whose image cannot be read, or was drawn before in this draw, yields a Rejection (gate `image` or
        `duplicate`, slot = the position). Behind the last image the pool begins anew in another order, and duplicates
        count anew. Equal arguments, equal results. Raises PoolError when a whole pass finds no image.
        """
        seen: set[str] = set()
        last_good = cursor - 1
        for position, found in enumerate(islice(self._read(seed, cursor), count), start=cursor):
            if position % len(self.addresses) == 0:
                seen.clear()
            result = self._admit(position, found, seen)
            if isinstance(result, ImageRef):
                last_good = position
            elif position - last_good >= len(self.addresses):
                raise PoolError(f"{self._source}: no readable image among {len(self.addresses)} ({result.reason})")
            yield result

    def _read(self, seed: int, cursor: int) -> Iterator[Found]:
        order = self._order(seed, cursor)
        while chunk := list(islice(order, CHUNK)):
            yield from load_images(chunk)

    def _order(self, seed: int, cursor: int) -> Iterator[Address]:
        lap, start = divmod(cursor, len(self.addresses))
        while True:
            order = list(range(len(self.addresses)))
            Random(child_seed(seed, "pool", lap)).shuffle(order)
            yield from (self.addresses[i] for i in order[start:])
            lap, start = lap + 1, 0

    def _admit(self, slot: int, found: Found, seen: set[str]) -> ImageRef | Rejection:
        if found.error:
            return Rejection(slot, "image", f"{found.name}: {found.error}")
        try:
            image = self._store.put(found.data)
        except PoolError as error:
            return Rejection(slot, "image", f"{found.name}: {error}")
        if image.sha256 in seen:
            return Rejection(slot, "duplicate", f"{found.name}: the same bytes were drawn before")
        seen.add(image.sha256)
        return image
