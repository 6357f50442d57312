"""What the tests of the second environment share: real questions of the micro world, and policies to swap in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dpe_ray.grading.prompt import answer_prompt
from dpe_ray.micro.sources import materialise
from dpe_ray.models.policy import load_policy, save_policy
from dpe_ray.pool.images import ImageStore
from dpe_ray.pool.samples import read_samples
from dpe_ray.runtime import session
from dpe_ray.types import PolicyRef, Prompt

session.prepare_environment(throw_away_token=True)  # before any test module imports ray
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def student() -> str:
    """The checkpoint that ships with the package."""
    import dpe_ray.micro

    return str(Path(dpe_ray.micro.__file__).with_name("checkpoint"))


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> list[Prompt]:
    """Questions of all categories about pictures like those it was trained on."""
    folder = tmp_path_factory.mktemp("world")
    samples = read_samples(str(materialise(folder, share=0.03) / "probe.parquet"), ImageStore(folder / "images"))
    return [answer_prompt(sample) for sample in samples[:24]]


@pytest.fixture(scope="session")
def policies(student: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `adapter` (language model), `projector` (an adapter on the projector alone), `tuned` (a whole)."""
    folder = tmp_path_factory.mktemp("policies")
    adapted = load_policy(PolicyRef(student), trainable="lora")
    _disturb(adapted.model, 0.05)
    save_policy(adapted.model, adapted.processor, folder / "adapter")
    save_policy(adapted.model.merge_and_unload(), adapted.processor, folder / "tuned")
    _save_projector_adapter(student, folder / "projector")
    return folder


def _save_projector_adapter(student: str, folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    plain = load_policy(PolicyRef(student))
    settings = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=r".*multi_modal_projector\.linear_\d")
    model = get_peft_model(plain.model, settings)
    _disturb(model, 0.2)
    save_policy(model, plain.processor, folder)


def _disturb(model: torch.nn.Module, scale: float) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=scale)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray with 4 logical CPUs."""
    session.start(num_cpus=4, object_store_mb=150)
    yield
    session.stop()
