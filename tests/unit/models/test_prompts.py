import pickle
import sys

import pytest

from dpe_ray.errors import ConfigError
from dpe_ray.models.prompts import PromptFile


@pytest.fixture
def package(tmp_path, monkeypatch):
    prompts = tmp_path / "somepackage" / "prompts"
    prompts.mkdir(parents=True)
    (tmp_path / "somepackage" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield prompts
    sys.modules.pop("somepackage", None)


def test_a_packaged_prompt_states_its_version(package):
    text = "{# version: 3 #}\nQ: {{ q }}\n{% for o in options %}\n({{ o }})\n{% endfor %}\nEnd\n"
    (package / "ask.jinja").write_text(text)
    prompt = PromptFile.load("somepackage", "ask")
    assert prompt.label == "ask@3"
    assert prompt.render(q="<b>?", options=["x", "y"]) == "Q: <b>?\n(x)\n(y)\nEnd"
    assert pickle.loads(pickle.dumps(prompt)) == prompt


def test_an_own_file_is_versioned_by_its_hash(tmp_path):
    (tmp_path / "mine.txt").write_text("Hello {{ name }}")
    prompt = PromptFile.load("", "ask", str(tmp_path / "mine.txt"))
    assert prompt.label.startswith("ask@")
    assert len(prompt.version) == 8
    assert prompt.render(name="you") == "Hello you"


@pytest.mark.parametrize("text", ["no version", "{# version: 1 #}{{ open"])
def test_an_unusable_packaged_prompt_is_a_config_error(package, text):
    (package / "ask.jinja").write_text(text)
    with pytest.raises(ConfigError, match="prompt ask"):
        PromptFile.load("somepackage", "ask")


def test_missing_files_and_values_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.txt"):
        PromptFile.load("nowhere", "ask", str(tmp_path / "none.txt"))
    with pytest.raises(ConfigError, match="it may use known"):
        PromptFile("ask", "1", "{{ unknown }}").render(known=1)


def test_a_users_prompt_may_ask_for_what_ours_asks_for_alone(tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text("{% for cell in cells %}{{ cell }}{% endfor %} {{ nosuchvar }}")
    with pytest.raises(ConfigError, match=r"prompt planner: .*mine\.jinja asks for 'nosuchvar'; it may use .*cells"):
        PromptFile.load("dpe_ray.supply.annotate", "planner", str(file))
    file.write_text("{% for cell in cells %}{{ cell }}{% endfor %}")
    assert PromptFile.load("dpe_ray.supply.annotate", "planner", str(file)).render(cells=["a"]) == "a"
