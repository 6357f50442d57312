import pytest
import torch
from PIL import Image

from dpe_ray.micro.student import build_model, build_processor, save_student
from dpe_ray.types import Answer, AnswerKind, ImageRef, Prompt, Sample

WORDS = "What colour has the shape below a1 ? red blue green circle square 1. 2. answer: of the largest"


@pytest.fixture(scope="session")
def student(tmp_path_factory):
    """Directory of a random micro student."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("student")
    processor = build_processor([WORDS])
    save_student(build_model(processor, seed=0), processor, folder)
    return str(folder)


@pytest.fixture
def make_prompt(tmp_path):
    def make(text, colour="red"):
        path = tmp_path / f"{colour}.png"
        Image.new("RGB", (64, 64), colour).save(path)
        image = ImageRef(f"{colour:0>64}", "0" * 16, 64, 64, "image/png", str(path))
        return Prompt(Sample((image,), text, Answer(AnswerKind.TEXT, colour)), text)

    return make
