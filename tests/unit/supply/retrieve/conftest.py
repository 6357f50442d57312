import hashlib
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

TOYS = Path(__file__).parents[4] / "benchmarks" / "retrieval_toys.py"


class FakeEmbedder:
    """Texts of equal words get equal vectors; counts what it is asked."""

    def __init__(self):
        self.asked = []

    async def embed(self, texts):
        self.asked.append(list(texts))
        return [self.vector(text) for text in texts]

    def vector(self, text, size=8):
        words = [np.frombuffer(hashlib.sha256(w.encode()).digest()[:size], np.uint8) - 127.5 for w in text.split()]
        summed = np.sum(words, axis=0)
        return tuple(summed / np.linalg.norm(summed))


@pytest.fixture
def embedder():
    return FakeEmbedder()


@pytest.fixture(scope="session")
def toys():
    """The toy worlds that the benchmark measures."""
    spec = importlib.util.spec_from_file_location("retrieval_toys", TOYS)
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
