"""A run of an `error_driven` or `unified` preset whose models are scripted here, wired as in one process."""

import json
import re
from types import SimpleNamespace

import pytest
from builders import FakeChat, make_image_ref, make_sample

from dpe_ray.config import load_config
from dpe_ray.errors import ModelUnavailable
from dpe_ray.models.call_budget import Calls
from dpe_ray.pool.cursor import BEGINNING
from dpe_ray.pool.duplicates import SeenImages
from dpe_ray.pool.sets import Draw
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import Machine
from dpe_ray.rounds.sets import Sets
from dpe_ray.rounds.stages import make_stages
from dpe_ray.rounds.store import RunFolder
from dpe_ray.supply.quota_book import Quotas
from dpe_ray.types import PolicyRef, TrainResult

SKILLS = {"map": "follow a road to its end", "chart": "compare the heights of bars"}
PRESET = """
preset: {preset}
name: test
rounds: 2
models: {{student: {{source: s, engine: transformers}}, teacher: {{base_url: "http://t/v1"}}}}
pool: {{source: p}}
support: {{source: s}}
probe: {{source: b, size: 40}}
decision: {{suite: g}}
plan: {{total: 12, replay: 0.25}}
"""


def items(name, count):
    """Items of two categories; the right answer is always 3."""
    return tuple(
        make_sample(f"How many in {category} {name} {i}?", "3", kind="number", category=category,
                    image=make_image_ref(f"{name}-{category}-{i}"))
        for category in SKILLS
        for i in range(count)
    )  # fmt: skip


SUPPORT = items("support", 20)


class Models:
    """All roles: a student that writes steps and learns the maps of a round, and a teacher that knows why it fails."""

    def __init__(self):
        self.version, self.asked = 0, {}
        self.doors = []
        self.lessons = []
        self.chat = FakeChat(self.say)

    def door(self, role, stage, version):
        self.doors.append((role, stage, version))
        return self.chat

    def say(self, request):
        text = request.messages[0].text
        kind = "lister" if "skill lister" in text else "errors" if "error analyst" in text else request.role
        self.asked[kind] = self.asked.get(kind, 0) + request.n
        return getattr(self, kind)(text, request)

    def student(self, text, request):
        if request.n > 1 and "support" in text:
            return self.wavering(text, request)
        return self.settled(text)

    def wavering(self, text, request):
        """Right in none, one half or all of its answers by the item's number, one third of the items each."""
        right = (0, request.n // 2, request.n)[int(re.search(r"(\d+)\?", text)[1]) % 3]
        return [f"answer: {3 if place < right else 4}" for place in range(request.n)]

    def settled(self, text):
        number = int(re.search(r"(\d+)\?", text)[1])
        right = ("chart" in text and number % 2 == 0) or ("map" in text and number % 4 < 2 * self.version)
        said = 3 if right else 4
        return f"1. I look at all of them.\n2. I count {said} of them there.\n3. So there are {said}.\nanswer: {said}"

    def reader(self, text, request):
        options = dict(re.findall(r"\(([AB])\) (\d)", text))
        wanted = "4" if "count 4" in text else "3"
        return next(letter for letter, option in options.items() if option == wanted)

    def errors(self, text, request):
        category = re.search(r"^Category: (\w+)$", text, re.MULTILINE)[1]
        words = SKILLS[category]
        skill = {"name": "_".join(words.split()[:3]), "skill": words, "weight": 1.0}
        more = {"name": "count_things", "skill": "count small things in a row", "weight": 1.0}
        wanted = [skill] if "Skills wanted: 1\n" in text else [skill, more]
        return json.dumps({"skills": wanted, "evidence": "I count 4", "error_kind": "perception"})

    def lister(self, text, request):
        return json.dumps({"skills": [SKILLS[re.search(r"^Category: (\w+)$", text, re.MULTILINE)[1]]]})

    def skill_analyst(self, text, request):
        return json.dumps({"skill": "read_plan"})

    def observer(self, text, request):
        return ModelUnavailable("there are no pictures here")

    def judge(self, text, request):
        return json.dumps({"correct": False, "error_type": "reasoning", "description": "It miscounts."})

    async def finetune(self, policy, samples, *, out, seed):
        self.lessons.append(list(samples))
        return TrainResult(PolicyRef("base", out, policy.version + 1), 3, ({"loss": 1.0}, {"loss": 0.5}))

    async def publish(self, policy):
        self.version = policy.version


@pytest.fixture
def models():
    return Models()


@pytest.fixture
def wired(tmp_path, models):
    """(config, run, sets, stages) of a preset, with overrides in the way of `--set`."""

    def wire(preset, *overrides, support=SUPPORT):
        (tmp_path / "run.yaml").write_text(PRESET.format(preset=preset))
        config = load_config(tmp_path / "run.yaml", overrides)
        run = RunFolder(tmp_path / "run")
        held_out = SimpleNamespace(shas=frozenset())
        empty = Draw(iter(()), BEGINNING)
        pool = SimpleNamespace(draw=lambda seed, cursor, seen: empty, seen=lambda stored=None: SeenImages(str))
        sets = Sets(pool, support, 0, items("probe", 40), items("gate", 40), (), {}, held_out)
        machine = Machine(LocalMapper(), models.door, None, Quotas, Calls(), models, models.publish)
        return config, run, sets, make_stages(config, run, sets, machine)

    return wire
