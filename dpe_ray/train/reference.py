"""The policy at the start of a round, which the KL of GRPO is measured against."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


class Reference:
    """The trained weights as they were when training began, frozen: this rank's part of them."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        """`parts` are those of a `Backend`."""
        self._parts = {name: part.detach() for name, part in parts.items()}
        self._copies = {name: part.clone() for name, part in self._parts.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The reference's weights stand in the policy. Not between a forward pass and its backward pass."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def hash(self) -> str:
        """SHA-256 of this rank's part: stays the same for the whole round."""
        digest = hashlib.sha256()
        for name, copy in sorted(self._copies.items()):
            digest.update(name.encode())
            digest.update(copy.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _swap(self) -> None:
        """Its own inverse; needs room for one more weight at a time."""
        for name, part in self._parts.items():
            held, copy = part.clone(), self._copies[name]
            part.copy_(copy)
            copy.copy_(held)
