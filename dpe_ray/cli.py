"""The command line. Thin: parse, call, print; everything heavy is imported inside the command that needs it."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from dpe_ray.errors import ConfigError, DpeError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make a vision-language model better where it is weak: diagnose, plan, supply, train, evaluate, repeat.",
)
out = Console(markup=False, highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 140)
err = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)

Yaml = Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run, as jobs/micro.yaml.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a run.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="a.b=c", help="Override a key; repeatable.")]
RunDir = Annotated[Path | None, typer.Option("--run-dir", help="Where the run lives; runs/NAME when left out.")]


@app.command()
def run(
    yaml: Yaml,
    set_: Overrides = None,
    run_dir: RunDir = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Move an earlier run aside and begin anew.")] = False,
    until_round: Annotated[int, typer.Option(min=0, help="Pause after this round; 0 runs all.")] = 0,
) -> None:
    """Run all rounds, or go on with a run that stopped."""
    with _told_if_interrupted():
        from dpe_ray.config import keys_without_effect, load_config, written_keys
        from dpe_ray.runtime.evolve import evolve

        overrides = tuple(set_ or ())
        config = load_config(yaml, overrides)
        for line in keys_without_effect(config, written_keys(yaml, overrides)):
            out.print(f"config  {line}")
        folder = run_dir or Path("runs") / config.name
        evolve(config, folder, fresh=fresh, until_round=until_round, notify=out.print)
    _show(folder)


@app.command()
def resume(run: Run) -> None:
    """Go on with a run where it stopped; its config is read from the run itself."""
    with _told_if_interrupted():
        from dpe_ray.config import parse_config
        from dpe_ray.rounds.store import RunFolder
        from dpe_ray.runtime.evolve import evolve

        config = parse_config(RunFolder(run).config(), str(run / "config.json"))
        evolve(config, run, notify=out.print)
    _show(run)


@app.command()
def show(run: Run, as_json: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False) -> None:
    """Print what a run measured and decided."""
    from dpe_ray.rounds.store import RunFolder

    if as_json:
        out.print_json(json.dumps(RunFolder(run).summary()))
    else:
        _show(run)


@app.command()
def report(run: Run) -> None:
    """Write RUN/report.html anew."""
    from dpe_ray.rounds.reporting import write_report
    from dpe_ray.rounds.store import RunFolder

    out.print(f"wrote {write_report(RunFolder(run))}")


@app.command()
def diagnose(
    responses: Annotated[
        Path,
        typer.Option(
            metavar="LOG",
            help="MMMU-Pro's outputs, lmms-eval's *_samples_*.jsonl, VLMEvalKit's .xlsx, .tsv, .csv or .json, "
            "inspect_ai's .eval or .json; or JSONL, an answer a line: question, answer, response; if there are any: "
            "id, options, category (or subject), skills, kind (choice, number, text), aliases (other right answers), "
            "tolerance (of a number).",
        ),
    ],
    out_dir: Annotated[
        Path, typer.Option("--out", help="Folder for diagnosis.json, plan.json and report.html.")
    ] = Path("diagnosis"),
    yaml: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="RUN.yaml",
            help="Takes plan, taxonomy and budget from a run, and the endpoints of reader and skill_analyst, which are "
            "asked about the rationales of wrong answers where diagnose.method is answer_switch or both.",
        ),
    ] = None,
    set_: Overrides = None,
) -> None:
    """Say where a model is weak, and what to add, from answers that were recorded; runs no model and no Ray.

    Rules grade. unparsable: no answer of the wanted form was found; undecidable: free text that is neither equal to the
    answer or an alias nor clearly another. Both count as wrong, so the accuracy is a lower bound. Not judged: the log
    records an outage; it counts nowhere. A log's own scores are shown beside ours.
    """
    from dpe_ray.config import load_config
    from dpe_ray.rounds.recorded import diagnose_recorded
    from dpe_ray.rounds.recorded_table import accuracy_table

    if set_ and yaml is None:
        raise ConfigError("--set changes a key of --config; give RUN.yaml")
    config = load_config(yaml, tuple(set_ or ())) if yaml else None
    recorded = diagnose_recorded(responses, out_dir, config, notify=out.print)
    out.print(accuracy_table(recorded))
    out.print(f"mistakes: {recorded.mistakes()}")
    out.print(f"plan: {recorded.planned()}{'' if yaml else ' (defaults; --config RUN.yaml sets others)'}")
    out.print(f"wrote diagnosis.json, plan.json and report.html to {out_dir}")


@app.command()
def export(
    run: Run,
    format_: Annotated[str, typer.Option("--format", help="messages, verl, llava or openai.")],
    out_file: Annotated[Path, typer.Option("--out", help="File to write; images may go beside it.")],
) -> None:
    """Write the accepted samples of all rounds in a form that other trainers read."""
    from dpe_ray.rounds.export import export_run, written
    from dpe_ray.rounds.store import RunFolder

    count = export_run(RunFolder(run), format_, out_file)
    out.print(f"wrote {count} samples to {out_file}: {written(format_, out_file)}")


@app.command()
def serve(
    yaml: Yaml,
    set_: Overrides = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but loopback demands a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 picks a free one.")] = 8000,
    api_key_env: Annotated[
        str, typer.Option(metavar="NAME", help="Environment variable with the key that clients must send.")
    ] = "",
    image_urls: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="Images below it may be named by URL; repeatable.")
    ] = None,
) -> None:
    """Serve the models of a run behind OpenAI-compatible endpoints until interrupted."""
    from dpe_ray.config import load_config
    from dpe_ray.runtime.endpoints import serve_forever
    from dpe_ray.runtime.listening import Listen

    listen = Listen(host, port, os.environ.get(api_key_env, "") if api_key_env else "", tuple(image_urls or ()))
    serve_forever(load_config(yaml, tuple(set_ or ())), listen, notify=out.print, key_variable=api_key_env)


@app.command()
def submit(
    yaml: Yaml,
    set_: Overrides = None,
    address: Annotated[
        str, typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="Job server of the cluster, as http://head:8265.")
    ] = "http://127.0.0.1:8265",
    run_dir: RunDir = None,
    python: Annotated[
        str, typer.Option(help="Interpreter on the cluster that has dpe_ray installed.")
    ] = sys.executable,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end.")] = False,
) -> None:
    """Submit the same YAML as a Ray job."""
    from dpe_ray.runtime.submit import submit_run

    job = submit_run(yaml, tuple(set_ or ()), address, run_dir, python, wait=wait, notify=out.print)
    out.print(f"job {job.id}: {job.status}")
    if job.status in ("FAILED", "STOPPED"):
        raise typer.Exit(1)


@app.command()
def doctor(
    yaml: Annotated[Path | None, typer.Argument(metavar="[RUN.yaml]", help="Also check this run's needs.")] = None,
    set_: Overrides = None,
) -> None:
    """Say what this machine has, what a run would miss, and what to do about it."""
    from dpe_ray.runtime.doctor import examine

    findings = examine(yaml, tuple(set_ or ()))
    for finding in findings:
        mark = ("warn" if finding.doubtful else "ok  ") if finding.ok else "MISS"
        out.print(f"{mark}  {finding.what}: {finding.found}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error that we foresee is one line and exit status 2, an interrupt 130."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # a script's background job inherits this, and then nothing but SIGKILL would end it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(arguments)
    except ConfigError as error:
        _fail(f"config error: {error}")
    except DpeError as error:
        _fail(f"error: {error}")


def _fail(message: str) -> NoReturn:
    err.print(message)
    raise SystemExit(2)


@contextmanager
def _told_if_interrupted() -> Iterator[None]:
    """Around all of a run, its imports too: they take seconds."""
    try:
        yield
    except KeyboardInterrupt:
        out.print("interrupted; the same command, without --fresh, goes on from here")
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)  # and not KeyboardInterrupt: a running event loop has its own way to end


def _show(folder: Path) -> None:
    from dpe_ray.rounds.show import told
    from dpe_ray.rounds.store import RunFolder

    for part in told(RunFolder(folder)):
        out.print(part)
    if (folder / "report.html").exists():
        out.print(f"report: {folder / 'report.html'}")
