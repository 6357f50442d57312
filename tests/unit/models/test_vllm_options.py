import pytest

from dpe_ray.errors import ConfigError
from dpe_ray.models.vllm_options import VllmOptions, require_vllm


@pytest.mark.parametrize(("options", "message"), [
    ({"max_num_seq": 8}, r"options.max_num_seq: engine vllm has no such option; it has .*max_num_seqs"),
    ({"max_num_seqs": 0}, r"options.max_num_seqs: .*greater than or equal to 1 \(got 0\)"),
    ({"gpu_memory_utilization": 1.5}, r"options.gpu_memory_utilization: .*less than or equal to 1"),
    ({"dtype": "int8"}, r"options.dtype: .*float32"),
    ({"max_lora_rank": 513}, r"options.max_lora_rank: .*512"),
])  # fmt: skip
def test_a_wrong_option_is_one_line_that_names_it(options, message):
    with pytest.raises(ConfigError, match=message) as caught:
        VllmOptions.read(options)
    assert "\n" not in str(caught.value)


def test_the_checkpoints_dtype_is_kept_unless_another_is_asked_for():
    assert VllmOptions.read({}).engine_args("m", "float32", on_cpu=True)["dtype"] == "float32"
    assert VllmOptions.read({"dtype": "bfloat16"}).engine_args("m", "float32", on_cpu=True)["dtype"] == "bfloat16"


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (16, 16), (20, 32), (512, 512)])
def test_room_for_adapters_is_the_next_that_vllm_has(rank, room):
    args = VllmOptions.read({"max_lora_rank": rank}).engine_args("m", "float32", on_cpu=False)
    assert (args["enable_lora"], args["max_lora_rank"], args["max_cpu_loras"]) == (True, room, 2)


def test_no_room_for_adapters_is_asked_of_vllm_when_there_are_none():
    assert "enable_lora" not in VllmOptions.read({"max_lora_rank": 0}).engine_args("m", "float32", on_cpu=False)


def test_a_cpu_is_given_a_small_cache_and_no_compilation_and_a_gpu_neither():
    cpu, gpu = (VllmOptions.read({}).engine_args("m", "float32", on_cpu=on_cpu) for on_cpu in (True, False))
    assert (cpu["kv_cache_memory_bytes"], cpu["enforce_eager"]) == (2**30, True)
    assert ("kv_cache_memory_bytes" in gpu, gpu["enforce_eager"]) == (False, False)


def test_where_vllm_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("dpe_ray.models.vllm_options.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"vLLM is not installed; pip install 'dpe-ray\[gpu\]'"):
        require_vllm()
