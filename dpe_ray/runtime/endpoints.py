"""The models of a run as endpoints for others: `dpe-ray serve`."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from dpe_ray.config import ModelConfig, RunConfig
from dpe_ray.models.image_urls import check_allowed
from dpe_ray.pool.sources import resolve
from dpe_ray.runtime import session
from dpe_ray.runtime.listening import Listen, wait_until_ready
from dpe_ray.types import content_id


def serve_forever(config: RunConfig, listen: Listen, notify: Callable[[str], None], *, key_variable: str = "") -> None:
    """Serve the models of a run until interrupted. Raises ConfigError where others could ask without a key."""
    listen.check(key_variable)
    check_allowed(listen.image_urls)
    models = resolve_models(config, Path("runs") / config.name / "sources")
    with session.open(config, session.asked_by_models) as ours:
        # behind the session, which sets what Ray reads when it is imported
        from dpe_ray.runtime import serve_app
        from dpe_ray.runtime.head_node import head_elsewhere, on_head

        serve_app.require_key(listen)
        head = head_elsewhere()
        prefix = "" if ours else run_prefix(config.name, Path.cwd())
        threads = config.runtime.torch_threads
        with serve_app.serving(models, prefix=prefix, ours=ours, listen=listen, threads=threads) as served:
            for name, one in served.items():
                on_head(wait_until_ready, one.url)
                notify(f"{name}: {one.url}{f' on the head node, {head}' if head else ''}")
            while True:
                time.sleep(3600)


def resolve_models(config: RunConfig, folder: Path) -> dict[str, ModelConfig]:
    """Give every model that this run serves a source that its engine can open, and the options of the whole run.

    A path becomes absolute: replicas and training workers run elsewhere.
    """

    def resolved(model: ModelConfig) -> ModelConfig:
        options = model.options
        if config.runtime.deterministic and model.engine == "transformers":
            options = {**options, "one_by_one": True}
        source = resolve(model.source, folder, config.seed)
        if Path(source).exists():
            source = str(Path(source).absolute())
        return model.model_copy(update={"source": source, "options": options})

    return {name: resolved(model) if model.engine else model for name, model in config.models.items()}


def run_prefix(name: str, folder: Path) -> str:
    """What tells the apps of a run from those of other runs on the same cluster."""
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)}-{content_id(str(folder.absolute()))[:6]}"
