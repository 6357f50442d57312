"""Outages of the models that explain: a few leave items unexplained and are counted, many are no diagnosis."""

from collections.abc import Mapping

from dpe_ray.errors import ModelUnavailable


class Outages:
    """Items that a model out of reach, or one that refuses us, left unexplained."""

    def __init__(self) -> None:
        self._items: set[str] = set()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, asked: str, role: str, total: int, reasons: Mapping[str, str]) -> None:
        """Note what one step got no answer to: `reasons` by sample id, of `total` items that it asked about.

        Raises ModelUnavailable above one half: so little must not be kept, and a resumed run asks again.
        """
        if 2 * len(reasons) > total:
            why = next(iter(reasons.values()))
            raise ModelUnavailable(
                f"diagnosis: no answer about {asked} for {len(reasons)} of {total} items ({why}); "
                f"check roles.{role} and resume"
            )
        self._items.update(reasons)
