"""KubeRay and Ray's autoscaler accept the manifests.

The operator's definitions (CRDs) are looked for beside the checkout, or in the folder that KUBERAY_CRDS names, such as
`ray-operator/config/crd/bases` of a KubeRay checkout.
"""

import os
import re
import shlex
from copy import deepcopy
from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "cluster"
MANIFESTS = ("kuberay-raycluster.yaml", "kuberay-rayjob.yaml")
CRDS = next(
    (
        path.parent
        for folder in (Path(os.environ.get("KUBERAY_CRDS", ".")), *ROOT.glob("*/crds"), *ROOT.parent.glob("*/crds"))
        for path in folder.glob("ray.io_rayclusters.yaml")
    ),
    None,
)
needs_crds = pytest.mark.skipif(CRDS is None, reason="KubeRay's definitions are not here; set KUBERAY_CRDS")


def read(name):
    return yaml.safe_load((CLUSTER / name).read_text(encoding="utf-8"))


@cache
def schema(kind):
    """The definition of a kind at v1; unknown keys are refused wherever keys are listed, as by a strict API server."""
    text = (CRDS / f"ray.io_{kind.lower()}s.yaml").read_text(encoding="utf-8")
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    return strict(next(version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"))


def strict(node):
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: strict(value) for key, value in node.items()}
    if (
        isinstance(node.get("properties"), dict)
        and node["properties"]
        and not node.get("x-kubernetes-preserve-unknown-fields")
    ):
        # metadata is listed as a bare object: Kubernetes knows its keys, the definition does not
        node.setdefault("additionalProperties", False)
    return node


def validate(manifest):
    jsonschema.Draft7Validator(schema(manifest["kind"])).validate(manifest)


def cluster_spec(manifest):
    return manifest["spec"] if manifest["kind"] == "RayCluster" else manifest["spec"]["rayClusterSpec"]


@needs_crds
@pytest.mark.parametrize("name", MANIFESTS)
def test_the_manifest_keeps_to_the_published_definition(name):
    manifest = read(name)
    validate(manifest)
    assert manifest["apiVersion"] == "ray.io/v1"


@needs_crds
@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize(
    "where", [(), ("autoscalerOptions",), ("workerGroupSpecs", 0), ("workerGroupSpecs", 1, "template", "spec")]
)
def test_a_planted_wrong_key_is_refused(name, where):
    manifest = deepcopy(read(name))
    part = cluster_spec(manifest)
    for step in where:
        part = part[step]
    part["minReplica"] = 0
    with pytest.raises(jsonschema.ValidationError, match="minReplica"):
        validate(manifest)


@pytest.mark.parametrize("name", MANIFESTS)
def test_rays_autoscaler_reads_groups_that_start_at_zero(name):
    manifest = read(name)
    cluster = {"metadata": {"name": "dpe", "namespace": "default"}, "spec": cluster_spec(manifest)}
    types = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    head, annotation, gpu = types["headgroup"], types["annotation"], types["gpu"]
    assert head["resources"]["CPU"] == 0
    assert annotation["min_workers"] == gpu["min_workers"] == 0
    assert annotation["resources"]["annotation"] == 1
    assert annotation["labels"] == {"ray.io/market-type": "spot"}
    assert "GPU" not in annotation["resources"]
    assert gpu["resources"]["GPU"] == 4


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_cluster_asks_for_a_token_and_scales_by_itself(name):
    spec = cluster_spec(read(name))
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["enableInTreeAutoscaling"] is True
    assert (
        spec["workerGroupSpecs"][1]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "4"
    )


def test_the_job_brings_the_same_cluster():
    cluster, job = (read(name) for name in MANIFESTS)
    assert cluster_spec(job) == cluster_spec(cluster)


def test_the_job_runs_a_mounted_yaml_into_the_shared_folder():
    job = read("kuberay-rayjob.yaml")["spec"]
    words = shlex.split(job["entrypoint"])
    container = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert words[:4] == ["python", "-m", "dpe_ray", "run"]
    assert str(Path(words[4]).parent) in mounts
    assert str(Path(words[words.index("--run-dir") + 1]).parent) in mounts


def test_the_manifests_name_the_pinned_ray():
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned is not None
    assert {cluster_spec(read(name))["rayVersion"] for name in MANIFESTS} == {pinned[1]}
