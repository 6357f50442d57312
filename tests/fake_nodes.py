"""A cluster on one machine whose worker nodes come and go: Ray's own autoscaler starts and ends fake ones.

    python fake_nodes.py FILE

Joins the Ray at $RAY_ADDRESS and writes a JSON line {t, alive} whenever other worker nodes are alive.
"""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

HEAD_ID = "f" * 51 + "00000"
"""The id that `FakeMultiNodeProvider` expects of its head."""
MARK = "annotation"
"""The resource by which a worker node is known."""


@contextmanager
def fake_cluster(folder, node_types, **scaling):
    """Hold a head with an autoscaler for the time of the block; gives the environment of those who join it.

    `node_types` as in a cluster file, `head` among them. `folder` is short: Ray puts sockets below it. All processes
    are in the head's group, fake nodes too.
    """
    port, token = free_port(), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = {**os.environ, **token, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    address = f"{node_address(environment)}:{port}"
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(autoscaling(address, node_types, **scaling)))
    head = {
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", f"--port={port}",
        f"--temp-dir={folder}", "--include-dashboard=false", f"--autoscaling-config={config}",
        f"--num-cpus={node_types['head']['resources']['CPU']}", "--object-store-memory=200000000",
        "--min-worker-port=0", "--max-worker-port=0",
    ]  # fmt: skip
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=environment | head
        )
    try:
        wait_for(address, process)
        yield {**environment, "RAY_ADDRESS": address}
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def autoscaling(address, node_types, **scaling):
    """What the autoscaler reads, with the fake provider."""
    types = {name: {"node_config": {}, "min_workers": 0, "max_workers": 0, **node} for name, node in node_types.items()}
    return {
        "cluster_name": "fake",
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "head_node_id": HEAD_ID,
            "gcs_address": address,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
        },
        # the provider knows its head by this name alone
        "head_node_type": "ray.head.default",
        "available_node_types": {"ray.head.default" if name == "head" else name: types[name] for name in types},
        "max_workers": sum(node["max_workers"] for node in types.values()),
        "auth": {},
        "docker": {},
        "file_mounts": {},
        **{f"{part}_commands": [] for part in ("initialization", "setup", "head_setup", "worker_setup")},
        **{f"{kind}_start_ray_commands": [] for kind in ("head", "worker")},
        **{key: [] for key in ("cluster_synced_files", "rsync_exclude", "rsync_filter")},
        "file_mounts_sync_continuously": False,
        **scaling,
    }


def free_port():
    """Some port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def node_address(environment):
    """The address by which Ray knows this machine."""
    told = "import ray.util; print(ray.util.get_node_ip_address())"
    return subprocess.check_output([sys.executable, "-c", told], text=True, env=environment).strip()


def wait_for(address, process, seconds=90):
    """Until the head takes connections."""
    host, _, port = address.partition(":")
    deadline = time.monotonic() + seconds
    while True:
        assert process.poll() is None, "the head ended"
        assert time.monotonic() < deadline, "the head does not answer"
        try:
            socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


def raylets(folder):
    """Process ids of the worker nodes of the cluster in `folder`."""
    processes = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sorted(int(path.name) for path in processes if is_worker_node(path, folder))


def is_worker_node(process, folder):
    """Whether a process is a node of the cluster in `folder`, its head aside."""
    words = [""]
    with suppress(OSError):  # it ended meanwhile
        words = (process / "cmdline").read_bytes().decode().split("\0")
    return words[0].endswith("/raylet") and str(folder) in "".join(words) and any(MARK in word for word in words)


def node_id(raylet):
    """Ray's id of the node that a process is."""
    variables = Path("/proc", str(raylet), "environ").read_bytes().decode().split("\0")
    return dict(variable.partition("=")[::2] for variable in variables)["RAY_OVERRIDE_NODE_ID_FOR_TESTING"]


def watch(file):
    """Write down who is alive until ended; what Ray says of a lost node goes to stdout."""
    import ray

    ray.init(logging_level="error", log_to_driver=False)
    known = None
    while True:
        alive = sorted(node["NodeID"] for node in ray.nodes() if node["Alive"] and MARK in node["Resources"])
        if alive != known:
            known = alive
            with file.open("a") as lines:
                lines.write(json.dumps({"t": time.time(), "alive": alive}) + "\n")
        time.sleep(0.25)


if __name__ == "__main__":
    watch(Path(sys.argv[1]))
