"""LLaVA's JSON, as Vision-Flan and most instruction sets come: a list of `{id, image, conversations}`.

The image is a path from the folder of the file or from a folder beside it (Vision-Flan: `images_191task_1k/`). The
first question and its answer are the sample. Options within the question become options where they are told as
lettered lines (LLaVA-1.5 mix) or as `Options: (a) ... (b) ...` (Vision-Flan); an answer that names none of them is
refused.
Form: LLaVA's docs/Finetune_Custom_Data.md; Vision-Flan, arXiv 2402.11690, annotation_191-task_1k.json.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from dpe_ray.errors import PoolError
from dpe_ray.grading.extract import answer_span, extract_answer
from dpe_ray.grading.lettered import Asked, split_options
from dpe_ray.grading.rows import LETTERS
from dpe_ray.grading.rules import normalise
from dpe_ray.pool.formats.rows import NO_LIST, Reading
from dpe_ray.pool.readers import Beside
from dpe_ray.types import AnswerKind

ASKING, ANSWERING = ("human", "user"), ("gpt", "assistant", "model")
IMAGE_TOKEN = "<image>"

_ANSWER_LINE = re.compile(r"^[ \t]*answer[ \t]*:", re.IGNORECASE | re.MULTILINE)


def conversation_fields(item: Any, beside: Beside, reading: Reading) -> dict[str, Any] | None:
    """Read one conversation; None for one that is left out: no image, no question or no answer.

    Further turns of a longer one are counted and dropped. Raises PoolError, also for an image that is not there.
    """
    if not isinstance(item, dict) or not isinstance(item.get("conversations"), list):
        own = isinstance(item, dict) and "question" in item
        hint = f"; rows of question and answer are read from JSONL: {NO_LIST}" if own else ""
        raise PoolError(f"has no conversations; LLaVA rows are {{id, image, conversations}}{hint}")
    if not reading.in_split(item.get("split")):
        return None
    images = item.get("image") or item.get("images") or []
    question, answer = _first_pair(item["conversations"])
    for missing, part in (
        ("without an image", images),
        ("without a question", question),
        ("without an answer", answer),
    ):
        if not part:
            reading.leave_out(missing)
            return None
    if sum(_said(turn, ASKING) is not None for turn in item["conversations"]) > 1:
        reading.leave_out("with more turns, of which the first was taken")
    asked, stated = _choice(question, answer)
    return {
        "images": [beside.cell(str(name)) for name in ([images] if isinstance(images, str) else images)],
        "question": asked.question,
        "options": list(asked.options),
        "answer": stated,
        "rationale": _before_answer_line(answer),
        "category": str(item.get("task_name") or item.get("category") or "").replace("/", "-"),
        "skills": item.get("skills"),
    }


def _choice(question: str, answer: str) -> tuple[Asked, str]:
    """The question with its options and the letter of the answer, or as it was when it has none.

    Raises PoolError when the answer is none of its options.
    """
    asked = split_options(question)
    letters = LETTERS[: len(asked.options)]
    if asked.options and all(asked.options) and len(set(asked.options)) == len(asked.options) <= len(LETTERS):
        if letter := extract_answer(answer, AnswerKind.CHOICE, letters):
            return asked, letter
        same = [option for option in asked.options if normalise(option) == normalise(answer)]
        if len(same) == 1:
            return asked, same[0]
        raise PoolError(
            f"answer {answer[:80]!r} is none of its options; give a letter of {letters} or an option's text"
        )
    stated = answer_span(answer) if _ANSWER_LINE.search(answer) else answer
    return Asked(question), stated or answer


def _before_answer_line(answer: str) -> str:
    ends = [line.start() for line in _ANSWER_LINE.finditer(answer)]
    return answer[: ends[-1]].strip() if ends else ""


def _first_pair(turns: Sequence[Any]) -> tuple[str, str]:
    """First question, without its image tokens, and the first answer behind it; empty where there is none."""
    question = ""
    for turn in turns:
        if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
            raise PoolError("a turn is no {from, value}")
        if not question:
            question = (_said(turn, ASKING) or "").replace(IMAGE_TOKEN, "").strip()
        elif (answer := _said(turn, ANSWERING)) is not None:
            return question, answer.strip()
    return question, ""


def _said(turn: Mapping[str, Any], who: Sequence[str]) -> str | None:
    return str(turn["value"]) if turn.get("from") in who else None
