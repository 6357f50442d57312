"""What is looked for before a run starts anything; every case ended late and after long loading before."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import make_png

from dpe_ray.config import parse_config
from dpe_ray.errors import ConfigError
from dpe_ray.runtime import preflight
from dpe_ray.runtime.preflight import look, require


def write_rows(file, *images, split="train"):
    file.parent.mkdir(exist_ok=True)
    rows = [{"image": image, "question": "What?", "answer": "1", "split": split} for image in images]
    pq.write_table(pa.Table.from_pylist(rows), file)


@pytest.fixture
def tree(tmp_path):
    """A config in whose every place something is."""
    (tmp_path / "pool.png").write_bytes(make_png(1))
    (tmp_path / "judge.jinja").write_text("text")
    for number, name in enumerate(("probe", "gate", "support"), start=2):
        write_rows(tmp_path / f"{name}.parquet", make_png(number), split="test")
    (tmp_path / "taxonomy.yaml").write_text("map: [reading]")
    return {
        "name": "x",
        "models": {
            "student": {"source": "builtin:micro-student", "engine": "transformers"},
            "teacher": {"base_url": "https://host/v1", "api_key_env": "TEACHER_KEY"},
        },
        "pool": {"source": str(tmp_path / "*.png")},
        "probe": {"source": str(tmp_path / "probe.parquet") + "#test"},
        "decision": {"suite": str(tmp_path / "gate.parquet")},
        "prompts": {"judge": str(tmp_path / "judge.jinja")},
        "taxonomy": str(tmp_path / "taxonomy.yaml"),
    }


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("TEACHER_KEY", "secret")


def missing(tree, joined=False):
    return [finding for finding in look(parse_config(tree, "test"), joined=joined) if not finding.ok]


def test_a_config_that_names_what_is_there_passes(tree):
    assert missing(tree) == []
    require(parse_config(tree, "test"), joined=False)


def test_the_first_rows_of_labelled_sets_are_read_and_told(tree, tmp_path):
    found = {f.what: f.found for f in look(parse_config(tree, "test"), joined=False)}
    assert found["probe.source"].endswith("parquet#test: 1 rows can be read, the first a number with 64 x 64 pixels")


@pytest.mark.parametrize(("name", "ok"), [("gate", False), ("support", True)])
def test_a_broken_first_picture_is_missed_in_a_measured_set_and_doubtful_in_one_to_learn_from(tree, tmp_path, name, ok):
    write_rows(tmp_path / f"{name}.parquet", b"no picture", make_png(5))
    tree["support"] = {"source": str(tmp_path / "support.parquet")}
    key = {"gate": "decision.suite", "support": "support.source"}[name]
    (finding,) = [f for f in look(parse_config(tree, "test"), joined=False) if f.what == key]
    assert (finding.ok, finding.doubtful) == (ok, ok)
    assert f"{name}.parquet row 0: image: is no readable PNG" in finding.found


WRONG = [
    ("models", {"teacher": {"base_url": "https://h/v1", "api_key_env": "NOT_SET"}}, "$NOT_SET is not set"),
    ("models", {"teacher": {"source": "builtin:oracle", "engine": "oracel"}}, "did you mean oracle?"),
    ("models", {"teacher": {"source": "builtin:orakle", "engine": "oracle"}}, "builtin:orakle: no such built-in"),
    ("models", {"teacher": {"source": "./no/weights", "engine": "oracle"}}, "./no/weights: does not exist"),
    ("prompts", {"judge": "my/nope.jinja"}, "my/nope.jinja cannot be used"),
    ("taxonomy", "my/nope.yaml", "my/nope.yaml: cannot be read"),
    ("pool", {"source": "builtin:micro-wrld"}, "did you mean micro-world?"),
    ("pool", {"source": "nowhere/*.png"}, "nowhere/*.png: does not exist"),
    ("pool", {"source": "http2x://bucket/images/"}, "http2x://bucket/images/: "),
    ("support", {"source": "nowhere#train"}, "nowhere#train: does not exist"),
    ("decision", {"suite": "nowhere.parquet"}, "nowhere.parquet: does not exist"),
    ("final", [{"suite": "nowhere.parquet"}], "nowhere.parquet: does not exist"),
]


@pytest.mark.parametrize(("part", "value", "told"), WRONG)
def test_what_is_missing_is_named_in_one_line(tree, part, value, told):
    tree[part] = {**tree[part], **value} if part == "models" else value
    with pytest.raises(ConfigError) as caught:
        require(parse_config(tree, "test"), joined=False)
    assert told in str(caught.value)
    assert str(caught.value).startswith(part)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("tools", "named", "told"), [
    ({"edit": {"how": "operations", "limits": "my/nope.yaml"}}, "tools.edit.limits", "my/nope.yaml: cannot be read"),
    ({"search": {"source": "web", "token_env": "NO_TOKEN"}}, "tools.search.token_env", "$NO_TOKEN is not set"),
    ({"edit": {"how": "model", "model": "painter"}}, "models.painter.api_key_env", "$NO_KEY is not set"),
])  # fmt: skip
def test_files_and_variables_of_the_tools_are_looked_for(tree, tools, named, told):
    painter = {"base_url": "https://h/v1", "api_key_env": "NO_KEY"}
    tree |= {"models": {**tree["models"], "painter": painter}, "supply": {"annotate": {"start": "cell"}}}
    assert missing(tree) == []
    (finding,) = missing(tree | {"tools": tools})
    assert (finding.what, told in finding.found) == (named, True)


@pytest.mark.parametrize(("num_gpus", "device", "told"), [
    (0, "cuda", "cuda, and num_gpus is 0"), (0, "cuda:1", "cuda:1, and num_gpus is 0"),
    (1, "cpu", "cpu, and num_gpus: 1 keeps GPUs from others"),
])  # fmt: skip
def test_a_device_that_contradicts_the_reserved_gpus_is_refused(tree, num_gpus, device, told):
    tree["models"]["student"] |= {"num_gpus": num_gpus, "options": {"device": device}}
    (finding,) = missing(tree)
    assert (finding.what, told in finding.found) == ("models.student.options.device", True)


def test_local_rollouts_on_a_gpu_need_a_trainer_on_one(tree):
    tree["models"]["student"] |= {"num_gpus": 1, "options": {"device": "cuda"}}
    (finding,) = missing(tree | {"train": {"rollouts": "local"}})
    assert "beside a trainer without a GPU; set train.use_gpu: true" in finding.found
    assert missing(tree | {"train": {"rollouts": "local", "use_gpu": True}}) == []


@pytest.mark.parametrize(("num_gpus", "options"), [(1, {"device": "cuda"}), (0, {"device": "cpu"}), (1, {}), (0, {})])
def test_a_device_that_fits_the_reserved_gpus_passes(tree, num_gpus, options):
    tree["models"]["student"] |= {"num_gpus": num_gpus, "options": options}
    assert missing(tree) == []


OWN = """
from dpe_ray.supply.construct.programs.bar_chart import BarChart

class Bars(BarChart):
    name, categories = "bars", ("chart_graph",)
"""


def test_programs_are_loaded_where_a_run_constructs_and_nowhere_else(tree, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    ordered = {"order": ["construct"], "construct": {"programs": ["triangle", f"{tmp_path}/own.py:Bars"]}}
    found = {
        finding.what: finding.found for finding in look(parse_config(tree | {"supply": ordered}, "x"), joined=True)
    }
    assert found["supply.construct.programs"] == "triangle, bars can be loaded; they draw chart_graph, geometric"
    assert missing(tree | {"supply": {"construct": {"programs": ["nowhere.py:None"]}}}) == []


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("traingle", "traingle is no program; give bar_chart, "),
        ("nowhere/own.py:Bars", "nowhere/own.py is no file"),
        ("{}/own.py:Unchecked", "own.py:Unchecked lacks check"),
    ],
)
def test_a_program_that_cannot_be_used_is_named_before_anything_starts(tree, tmp_path, program, told):
    unchecked = "class Unchecked(Program):\n    name = summary = 'x'\n    categories, params = ('map',), Params\n"
    methods = "    def sample(self, *args): ...\n    def make(self, *args): ...\n"
    imports = "from dpe_ray.supply.construct.program import Params, Program\n"
    (tmp_path / "own.py").write_text(imports + unchecked + methods)
    supply = {"order": ["construct", "annotate"], "construct": {"programs": [program.format(tmp_path)]}}
    with pytest.raises(ConfigError) as caught:
        require(parse_config(tree | {"supply": supply}, "test"), joined=True)
    assert told in str(caught.value)
    assert str(caught.value).startswith("supply.construct.programs: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("{}/nowhere.py:near", "nowhere.py is no file"),
        ("{}/own.py:far", "own.py has no function far"),
        ("{}/own.py:alone", "own.py:alone must take a sample and a completion"),
        ("{}/broken.py:near", "broken.py cannot be loaded (SyntaxError"),
    ],
)
def test_a_reward_that_cannot_be_used_is_named_before_anything_starts(tree, tmp_path, address, told):
    (tmp_path / "own.py").write_text("def near(sample, completion): return 1.0\ndef alone(sample): return 1.0")
    (tmp_path / "broken.py").write_text("def near(sample, completion) return 1.0")
    reward = {"accuracy": 0.9, address.format(tmp_path): 0.1}
    with pytest.raises(ConfigError) as caught:
        require(parse_config(tree | {"train": {"reward": reward}}, "test"), joined=False)
    assert told in str(caught.value)
    assert str(caught.value).startswith("train.reward: ")
    assert missing(tree | {"train": {"reward": reward, "method": "sft"}}) == []
    fine = {"train": {"reward": {f"{tmp_path}/own.py:near": 1.0}}}
    found = {finding.what: finding.found for finding in look(parse_config(tree | fine, "test"), joined=False)}
    assert found["train.reward"] == f"{tmp_path}/own.py:near can be loaded"


def test_on_a_cluster_nothing_is_said_of_what_only_its_workers_see(tree):
    teacher = {"base_url": "https://h/v1", "api_key_env": "NOT_SET"}
    own = {"source": "./no/weights", "engine": "of-the-gpu-image"}
    tree |= {"models": {**tree["models"], "teacher": teacher, "own": own}, "prompts": {"judge": "on/workers.jinja"}}
    assert len(missing(tree)) == 3
    assert missing(tree, joined=True) == []
    assert [finding.what for finding in missing(tree | {"taxonomy": "nope.yaml"}, joined=True)] == ["taxonomy"]


def test_an_endpoint_that_no_role_asks_needs_no_key(tree):
    tree["models"]["spare"] = {"base_url": "https://h/v1", "api_key_env": "NOT_SET"}
    assert missing(tree) == []


@pytest.mark.parametrize("source", ["{}/*.parquet#train", "{}/a.parquet#train", "file://{}/a.parquet", "local://{}"])
def test_a_source_is_looked_for_as_it_is_read(tree, tmp_path, source):
    write_rows(tmp_path / "set/a.parquet", make_png(1))
    assert missing(tree | {"probe": {"source": source.format(tmp_path / "set"), "size": 1}}) == []


@pytest.mark.parametrize(("installed", "missed"), [(True, 0), (False, 1)])
def test_deepspeed_is_looked_for_where_a_backend_needs_it(tree, monkeypatch, installed, missed):
    monkeypatch.setattr(preflight, "find_spec", lambda name: object() if installed else None)
    assert missing(tree | {"train": {"backend": "fsdp2"}}) == []
    found = missing(tree | {"train": {"backend": "zero3"}})
    assert [finding.what for finding in found] == ["train.backend"] * missed
    assert all("pip install 'dpe-ray[deepspeed]'" in finding.found for finding in found)
    assert missing(tree | {"train": {"backend": "zero3"}}, joined=True) == []


@pytest.mark.parametrize("installed", [True, False])
def test_bitsandbytes_is_looked_for_where_weights_are_in_4_bits(tree, monkeypatch, installed):
    monkeypatch.setattr("dpe_ray.models.quantized.find_spec", lambda name: object() if installed else None)
    assert missing(tree) == []
    tree["models"]["student"]["options"] = {"quantize": "nf4"}
    found = missing(tree | {"train": {"quantize": "nf4"}})
    told = [(finding.what, finding.found) for finding in found]
    message = "nf4 needs bitsandbytes: pip install 'dpe-ray[qlora]'"
    assert told == ([] if installed else [("train.quantize", message)])


def test_a_tracker_whose_package_is_missing_is_told_before_the_run(tree, monkeypatch):
    tracked = tree | {"tracking": {"to": ["tensorboard", "wandb"]}}
    assert missing(tracked) == []
    monkeypatch.setattr("dpe_ray.runtime.preflight.find_spec", lambda name: None if name == "wandb" else name)
    (finding,) = missing(tracked)
    assert "wandb needs the package wandb, which is not installed; pip install 'dpe-ray[tracking]'" in finding.found
    assert missing(tracked, joined=True) == []
