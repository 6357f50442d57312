"""`ray up` accepts the cluster file: Ray's own parser says so."""

from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

CLUSTER = Path(__file__).parents[3] / "cluster"


@pytest.fixture
def config():
    return yaml.safe_load((CLUSTER / "ray-up.yaml").read_text(encoding="utf-8"))


def test_rays_parser_accepts_the_cluster_file(config):
    prepared = prepare_config(deepcopy(config))
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "annotation", "gpu"}


@pytest.mark.parametrize(
    ("where", "key"), [((), "max_worker"), (("docker",), "imagge"), (("available_node_types", "gpu"), "cpu")]
)
def test_rays_parser_refuses_a_planted_wrong_key(config, where, key):
    part = config
    for step in where:
        part = part[step]
    part[key] = 1
    with pytest.raises(jsonschema.ValidationError, match=key):
        validate_config(prepare_config(config))


def test_annotation_and_gpu_nodes_scale_from_zero_and_the_head_takes_no_work(config):
    types = config["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert types["annotation"]["min_workers"] == types["gpu"]["min_workers"] == 0
    assert types["annotation"]["resources"]["annotation"] >= 1
    assert "GPU" not in types["annotation"]["resources"]
    assert types["gpu"]["resources"]["GPU"] >= 1
    assert config["max_workers"] == types["annotation"]["max_workers"] + types["gpu"]["max_workers"]


def test_all_nodes_share_the_token_and_the_runs(config):
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    assert any(option.endswith(":/runs") for option in config["docker"]["run_options"])
    assert "/home/ray/.ray/auth_token" in config["file_mounts"]
