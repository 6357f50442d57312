import numpy as np
import pytest
import ray

from dpe_ray.errors import ClusterError
from dpe_ray.runtime.sharded_index import ActorParts
from dpe_ray.supply.retrieve.dense import DenseIndex
from dpe_ray.supply.retrieve.shards import split
from dpe_ray.supply.retrieve.sparse import SparseIndex

WORDS = np.array([f"word{i}" for i in range(60)] + ["common"])


def make_documents(count=600):
    """Short texts with a word in seven of ten, many of them equal."""
    rng = np.random.default_rng(0)
    texts = [" ".join(WORDS[rng.zipf(1.5, 4) % 60]) + (" common" if i % 10 < 7 else "") for i in range(count)]
    return {f"{i:04d}": text for i, text in enumerate(texts)}


async def test_words_over_actors_rank_as_in_one_process(ray_session):
    documents = make_documents()
    queries = ["word1 word2 common", "word5 word7 word9", "common", "unknown"]
    sharded = await ActorParts().words(split(documents, 3))
    for limit in (1, 10, 600):
        assert await sharded.rank(queries, limit) == await SparseIndex(documents).rank(queries, limit)


async def test_vectors_over_actors_rank_as_in_one_process(ray_session):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 16)).astype(np.float32)
    vectors[100:120] = vectors[100]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{i:03d}" for i in range(300)]
    sharded = await ActorParts().vectors((ids[i::2], vectors[i::2]) for i in range(2))
    queries = list(vectors[[5, 110]])
    assert await sharded.rank(queries, 40) == await DenseIndex(ids, vectors).rank(queries, 40)


async def test_a_lost_shard_is_an_error_and_no_shorter_ranking(ray_session):
    sharded = await ActorParts().words(split(make_documents(60), 2))
    ray.kill(sharded.shards[0].actor)
    with pytest.raises(ClusterError, match="a shard broke"):
        await sharded.rank(["word1"], 5)
