"""Functions of the micro world: make and draw scenes, ask, solve, and name errors."""

import zlib
from random import Random

from PIL import Image

from dpe_ray.micro.world import (
    artistic,
    chart_graph,
    diagram,
    everyday_object,
    geometric,
    map_view,
    math_formula,
    medical,
    natural_scene,
    text_dense,
)
from dpe_ray.micro.world.base import CELLS, LETTERS, Args, Category, Item, Scene, Skill, Work
from dpe_ray.micro.world.judge import Finding, find_error

_MODULES = (
    geometric,
    medical,
    chart_graph,
    text_dense,
    diagram,
    math_formula,
    map_view,
    natural_scene,
    artistic,
    everyday_object,
)
CATEGORIES: dict[str, Category] = {module.CATEGORY.name: module.CATEGORY for module in _MODULES}
"""All categories of pictures by name."""
SKILLS: dict[str, Skill] = {skill.name: skill for category in CATEGORIES.values() for skill in category.skills}
"""All skills by name; names are unique over the categories."""
CATEGORY_OF: dict[str, str] = {skill.name: name for name, category in CATEGORIES.items() for skill in category.skills}
"""Category of each skill."""


def make_scene(category: str, level: int, rng: Random, *, split: str = "train") -> Scene:
    """Make a random scene about which every skill of its category can be asked.

    Args:
        category: a key of `CATEGORIES`.
        level: 1 to 3.
        rng: source of the facts and of the draw seed.
        split: `train`, `pool` or `heldout`; says which handwritten digits the scene may use (text_dense only).
    """
    kind = CATEGORIES[category]
    while True:
        facts = kind.make(level, rng)
        if all(skill.pick(facts, rng) is not None for skill in kind.skills):
            break
    if "split" in facts:
        facts["split"] = split
    return Scene(category, level, facts, rng.getrandbits(32))


def draw(scene: Scene) -> Image.Image:
    """Draw the scene as a 64x64 RGB picture; equal scenes give equal pixels."""
    return CATEGORIES[scene.category].paint(scene)


def skills_for(category: str) -> tuple[str, ...]:
    """Names of the skills of a category."""
    return tuple(skill.name for skill in CATEGORIES[category].skills)


def ask(scene: Scene, skill_name: str, rng: Random) -> Item:
    """Ask a random question of a skill about a scene, with the right rationale; ValueError if it cannot be asked."""
    skill = SKILLS[skill_name]
    args = skill.pick(scene.facts, rng)
    if args is None or CATEGORY_OF[skill_name] != scene.category:
        raise ValueError(f"scene of {scene.category} cannot be asked for {skill_name}")
    phrasing = rng.randrange(len(skill.phrasings))
    question = skill.phrasings[phrasing].format(**args)
    return _item(scene, skill, question, phrasing, skill.work(scene.facts, args), ())


def solve(scene: Scene, question: str, options: tuple[str, ...] = ()) -> tuple[str, Item] | None:
    """Recognise a question and work it out; None if no skill of the category asks so or the scene cannot answer.

    Args:
        scene: what the question is about.
        question: any paraphrase of any skill of the scene's category.
        options: the order of options to answer in (kind `choice`); without it the world's own order.
    """
    found = _recognise(scene, question)
    if found is None:
        return None
    skill, phrasing, args = found
    try:
        item = _item(scene, skill, question, phrasing, skill.work(scene.facts, args), options)
    except (KeyError, ValueError):
        return None
    return skill.name, item


def wrong_item(scene: Scene, item: Item, rule_name: str) -> Item | None:
    """Work the item out as a student with that wrong rule would; None where the rule does not apply."""
    skill = SKILLS[item.skill]
    rule = next(rule for rule in skill.rules if rule.name == rule_name)
    found = skill.match(item.question)
    assert found is not None, f"not a question of {item.skill}: {item.question!r}"
    work = rule.work(scene.facts, found[1])
    if work is None or (item.options and work.answer not in item.options):
        return None
    return _item(scene, skill, item.question, item.phrasing, work, item.options)


def error_type(scene: Scene, question: str, text: str, options: tuple[str, ...] = ()) -> Finding:
    """Kind of the first mistake in a student's text, with a reason; `none` for a faultless one."""
    solved = solve(scene, question, options)
    if solved is None:
        return Finding("other", "the question is not one the world can answer")
    return find_error(solved[1], text)


def cell_labels(scene: Scene) -> dict[str, str]:
    """Say what each of the 16 cells shows, in reading order; `empty` where there is nothing."""
    label = CATEGORIES[scene.category].cell_label
    return {cell: label(scene.facts, cell) for cell in CELLS}


def _recognise(scene: Scene, question: str) -> tuple[Skill, int, Args] | None:
    for skill in CATEGORIES[scene.category].skills:
        if found := skill.match(question):
            return skill, *found
    return None


def _item(scene: Scene, skill: Skill, question: str, phrasing: int, work: Work, options: tuple[str, ...]) -> Item:
    answer = work.answer
    if skill.kind == "choice":
        options = options or _options(scene, skill, question, answer)
        answer = LETTERS[options.index(answer)]
    return Item(
        skill=skill.name,
        question=question,
        kind=skill.kind,
        options=options,
        target=work.target,
        facts_text=work.facts,
        conclusion=work.conclusion,
        answer=answer,
        phrasing=phrasing,
    )


def _options(scene: Scene, skill: Skill, question: str, answer: str) -> tuple[str, ...]:
    """Collect the truth, answers of the wrong rules and others up to four, in an order fixed by scene and skill."""
    found = skill.match(question)
    wrong = [rule.work(scene.facts, found[1]) for rule in skill.rules] if found else []
    rng = Random(zlib.crc32(f"{scene.seed} {skill.name}".encode()))
    others = [value for value in skill.options if value != answer]
    rng.shuffle(others)
    likely = [work.answer for work in wrong if work is not None and work.answer != answer]
    chosen = [answer, *dict.fromkeys(likely + others)][:4]
    rng.shuffle(chosen)
    return tuple(chosen)
