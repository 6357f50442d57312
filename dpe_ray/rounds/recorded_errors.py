"""Mistakes and missing skills from recorded rationales: the teacher of a config is asked, in this process.

The pictures are not in a log, so reader and skill analyst see texts alone.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dpe_ray.config import RunConfig
from dpe_ray.diagnose.lacking import find_lacking
from dpe_ray.diagnose.outages import Outages
from dpe_ray.grading.rules import needs_judge
from dpe_ray.models.call_budget import Calls
from dpe_ray.models.openai_chat import ChatSpec
from dpe_ray.models.openai_embed import EmbedSpec
from dpe_ray.rounds.diagnosing import locator, missing_settings
from dpe_ray.rounds.ledger import prices
from dpe_ray.rounds.local import LocalMapper
from dpe_ray.rounds.machine import grant
from dpe_ray.rounds.store import RunFolder
from dpe_ray.seeds import child_seed
from dpe_ray.taxonomy import load_taxonomy
from dpe_ray.types import ErrorRecord, Graded

STAGE = "recorded"
"""Of the journal."""
ASKED = ("reader", "skill_analyst")


def why_nobody_is_asked(config: RunConfig | None) -> str:
    """Why the rationales stay as they are, in words; empty when a config names endpoints and wants it."""
    if config is None:
        return "no teacher was asked about the rationales: --config RUN.yaml names one"
    if config.diagnose.method == "categories":
        return "diagnose.method: categories asks nothing of rationales; answer_switch or both does"
    for role in ASKED:
        if not config.models[config.model_of(role)].base_url:
            name = config.model_of(role)
            return f"roles.{role}: models.{name} has no base_url, and no model is served here; give an endpoint"
    return ""


async def find_errors(
    graded: Sequence[Graded], config: RunConfig, run: RunFolder
) -> tuple[tuple[ErrorRecord, ...], int]:
    """What the wrong answers lacked, and how many of them an outage left unexplained.

    Right, undecidable and not judged answers are left out; equal answers to equal questions are looked at once. Every
    call is kept in the journal of `run` and on the config's budget. Raises ModelUnavailable when more than half stay
    unanswered, EndpointDown, BudgetExceeded, and ConfigError without a key.
    """
    calls, outages = Calls(), Outages()
    await grant(calls, run, config, STAGE)
    seed = child_seed(config.seed, "diagnosis", 1)
    mapper, tree = LocalMapper(), load_taxonomy(config.taxonomy)
    errors: list[ErrorRecord] = []
    for some in turns(graded):
        found = await find_lacking(
            some,
            locator(_door("reader", config, run, calls), mapper, config, seed),
            _door("skill_analyst", config, run, calls),
            mapper,
            tree,
            outages,
            workers=(1, 1),
            concurrency=config.answer.concurrency,
            settings=missing_settings(config),
            embedder=EmbedSpec(**_endpoint(config.diagnose.embedder, config)) if config.diagnose.embedder else None,
            prompt_file=config.prompts.get("error_analyst", ""),
        )
        errors += found
        for error in found:
            tree = tree.grown(error.category, [skill.name for skill in error.skills])
    return tuple(errors), len(outages)


def turns(graded: Sequence[Graded]) -> list[list[Graded]]:
    """Wrong answers so dealt out that no two of a turn answer the same question, equal ones left out.

    Questions about different pictures are the same here when their words and options are.
    """
    seen, dealt, found = set[tuple[str, str]](), Counter[str](), list[list[Graded]]()
    for one in graded:
        key = (one.sample.id, one.text)
        wrong = one.verdict.judged and not one.verdict.correct and not needs_judge(one.verdict)
        if wrong and key not in seen:
            seen.add(key)
            if dealt[one.sample.id] == len(found):
                found.append([])
            found[dealt[one.sample.id]].append(one)
            dealt[one.sample.id] += 1
    return found


def _door(role: str, config: RunConfig, run: RunFolder, calls: Calls) -> ChatSpec:
    name = config.model_of(role)
    journal, model = str(run.journal(STAGE)), config.models[name]
    return ChatSpec(**_endpoint(name, config), journal=journal, json_schema=model.json_schema, budget=calls)


def _endpoint(name: str, config: RunConfig) -> dict[str, Any]:
    model = config.models[name]
    return {
        "name": name,
        "base_url": model.base_url,
        "model": model.model or name,
        "api_key_env": model.api_key_env,
        "concurrency": model.concurrency,
        "timeout_s": model.timeout_s,
        "retries": model.retries,
        "price": prices(config)[name],
    }
