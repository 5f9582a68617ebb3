"""Every command that reads a finished run, in this process, with what each one's answer is."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.commands.errors import BAD_INPUT, is_bad_input, sentence

TRAIN = ("--steps", "30", "--batch-size", "64", "--checkpoint-every", "10")
AUDIT = ("--networks", "4", "--recipe-part", "steps=2", "--probes", "1")
FINETUNE = ("--arch", "smallest", "--steps", "2", "--recipe-part", "checkpoint_every=1")
SEARCH = ("--evaluations", "12", "--strategy", "random_search")
SECOND = (*SEARCH, "--name", "second", "--seed", "1")
PROFILE = ("--passes", "2", "--networks", "4")
_WHEN = ("at", "created", "updated")
# Of a log that was cut short, less is known, and what is known must be right.
LOGGED = "logged"
# Longer than any command computes on a run of this size, and than it waits on a busy machine.
MOST_COMPUTING_S, MOST_WAITING_S = 60, 900
# Times and what follows from them are another at every measurement.
_MEASURED = ("latency", "seconds", "mape", "within", "kendall", "floor", "verdict", "trustworthy",
             "hypervolume", "drift", "reused", "written", "searched", "resumed")  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a command answered: exit code, the JSON on standard output, and what it said."""

    code: int
    result: Any
    said: str


class HangError(BaseException):
    """A command did not end."""


@dataclass(frozen=True)
class Command:
    """A command on a run.

    Args:
        arguments: Given the run.
        before: Makes the run an unfinished one, so that a file is read that a finished one keeps
            for people; given the run.
    """

    arguments: Callable[[Path], tuple[object, ...]]
    before: Callable[[Path], None] = lambda run: None

    def call(self, run: Path) -> Answer:
        """Run it in this process."""
        from app.commands.main import run as run_command

        def work() -> int:
            return run_command([str(part) for part in (*self.arguments(run), "--json")])

        return _watch(work)


@dataclass(frozen=True)
class View:
    """What the explorer shows of a run, without its page.

    Args:
        charts: Whether charts are drawn, which takes most of the time.
    """

    charts: bool = True

    def before(self, run: Path) -> None:
        """Nothing: a finished run is shown."""

    def call(self, run: Path) -> Answer:
        """Read and draw everything."""

        def work() -> int:
            try:
                print(json.dumps(_show(run, self.charts)))
            except Exception as error:
                if is_bad_input(error):
                    print(f"error: {sentence(error)}", file=_err())
                    return BAD_INPUT
                traceback.print_exception(error, file=_err())
                return 1
            return 0

        return _watch(work)


def _err() -> Any:
    import sys

    return sys.stderr


def _show(run: Path, charts: bool) -> object:
    from app.explorer import layers, markup
    from app.explorer.panels import audit_panel
    from app.records.audit import read_audit
    from app.records.searches import picking
    from app.records.searches.trace import read_trace
    from app.reporting.audit_verdict import describe_worth, list_advice
    from app.reporting.charts.audit_chart import draw_audit
    from app.reporting.charts.front_chart import Emphasis, draw_front
    from app.reporting.charts.progress_charts import draw_hypervolume, draw_parity
    from app.runs import run_view
    from app.runs.directory import Run
    from supernet.errors import InputError

    view = run_view.load_run(run)
    problems = list(view.problems)
    shown: dict[str, object] = {
        "about": [view.family, view.preset, view.data, view.created, dict(view.stages)],
        "next": run_view.suggest_command(view),
        "devices": [[d.name, d.description, repr(d.report)] for d in view.devices.values()],
        LOGGED: {f"{e.digest} {e.split}": e.value for e in view.evaluations},
    }
    if view.space is not None:
        shown["space"] = [view.space.size, view.space.digest]
    for name, front in view.fronts.items():
        members = [p for p in front.list_front() if p.best(front.cost.name) is not None]
        space = view.space if view.space and view.space.digest == front.space_digest else None
        layers.line_up(space, members)
        for point in members[:2]:
            layers.group_layers(space, point.choices, None)
        for card in front.reports.items():
            markup.write_facts(markup.list_card(card[1], front.find_axis(card[0])), grid=True)
        if charts:
            draw_front(front, front.cost, front.quality, Emphasis(behind=True)).to_dict()
            draw_parity(front, front.quality)
        knee = picking.pick_knee(front)
        shown[f"front {name}"] = [
            [axis.show(p.best(axis.name)) for axis in front.axes] for p in front.points
        ]
        shown[f"knee {name}"] = None if knee is None else knee.digest
        try:
            trace = read_trace(run / "searches" / name, front.trace_digests)
            shown[f"trace {name}"] = [[t.evaluations, t.value, t.baseline] for t in trace]
            if trace and charts:
                draw_hypervolume(trace).to_dict()
        except (OSError, InputError) as error:
            problems.append(str(error))
    for name in Run(run).audits:
        try:
            found = read_audit(Run(run).audit(name))
        except (OSError, InputError) as error:
            problems.append(str(error))
            continue
        if charts:
            draw_audit(found).to_dict()
        shown[f"audit {name}"] = [
            audit_panel.list_figures(found),
            audit_panel.list_findings(found),
            describe_worth(found),
            list_advice(found),
        ]
    print("\n".join(problems), file=_err())
    return shown


def _watch(work: Callable[[], int]) -> Answer:
    def give_up(signum: int, frame: object) -> None:
        raise HangError

    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGPROF, give_up)
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_PROF, MOST_COMPUTING_S)
    signal.alarm(MOST_WAITING_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    text = out.getvalue()
    return Answer(code, json.loads(text) if code == 0 else None, err.getvalue())


def keep_unmeasured(result: Any) -> Any:
    """An answer without what is measured anew when a command is repeated."""
    if isinstance(result, dict):
        return {
            name: keep_unmeasured(value)
            for name, value in result.items()
            if name not in _WHEN and not any(word in name for word in _MEASURED)
        }
    if isinstance(result, list):
        return [keep_unmeasured(value) for value in result]
    return result


def agree(expected: Any, found: Any) -> bool:
    """Whether an answer is right: what is measured anew is not compared."""
    before, now = keep_unmeasured(expected), keep_unmeasured(found)
    if isinstance(before, dict) and isinstance(now, dict) and LOGGED in before:
        if not now[LOGGED].items() <= before[LOGGED].items():
            return False
        return {**before, LOGGED: 0} == {**now, LOGGED: 0}
    if isinstance(before, dict) and isinstance(now, dict) and now.get("split") == "val":
        # Without what was known of the test split, an export says how good it is on another.
        before, now = ({**d, "split": "", "value": 0.0} for d in (before, now))
    return bool(before == now)


def make_run(run: Path) -> None:
    """A small run with everything that a run can have."""
    from app.commands.main import run as run_command

    say = io.StringIO()
    for arguments in (
        ("train", "--out", run, *TRAIN),
        ("profile", "--run", run, *PROFILE),
        ("search", "--run", run, *SEARCH, "--baseline"),
        ("search", "--run", run, *SECOND, "--baseline"),
        ("audit", "--run", run, *AUDIT),
        ("finetune", "--run", run, *FINETUNE),
        ("evaluate", "--run", run, "--arch", "largest", "--split", "test"),
        ("evaluate", "--run", run, "--arch", "smallest"),
        ("export", "--run", run, "--arch", "smallest"),
        ("export", "--run", run, "--arch", "largest"),
        ("report", "--run", run),
    ):
        with contextlib.redirect_stdout(say), contextlib.redirect_stderr(say):
            code = run_command([str(part) for part in arguments])
        assert code == 0, say.getvalue()


def _forget(*names: str) -> Callable[[Path], None]:
    def forget(run: Path) -> None:
        for name in names:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return forget


def find_evaluated(run: Path) -> str:
    """The beginning of the digest of an evaluated architecture."""
    return str(json.loads((run / "searches/default/front.json").read_text())["points"][0]["digest"])


def list_commands(whole: Path) -> dict[str, Command | View]:
    """Every command on a copy of the run ``whole``, by a name."""
    digest = find_evaluated(whole)
    exported = next((path.name for path in sorted(whole.glob("exports/*"))), "none")
    return {
        "train": Command(lambda run: ("train", "--out", run, *TRAIN)),
        "resume": Command(lambda run: ("train", "--out", run, "--resume")),
        "go on training": Command(
            lambda run: ("train", "--out", run, *TRAIN), _forget("checkpoints/30")
        ),
        "profile": Command(lambda run: ("profile", "--run", run, *PROFILE)),
        "go on profiling": Command(
            lambda run: ("profile", "--run", run, *PROFILE), _forget("devices/cpu/report.json")
        ),
        "search": Command(lambda run: ("search", "--run", run, *SEARCH)),
        "go on searching": Command(
            lambda run: ("search", "--run", run, *SEARCH, "--baseline"),
            _forget("searches/default/front.json"),
        ),
        "evaluate": Command(lambda run: ("evaluate", "--run", run, "--arch", digest)),
        "evaluate file": Command(
            lambda run: (
                *("evaluate", "--run", run),
                *("--arch", run / "exports" / exported / "architecture.json"),
            )
        ),
        "pick": Command(lambda run: ("pick", "--run", run, "--knee")),
        "pick latency": Command(lambda run: ("pick", "--run", run, "--latency-ms", "1000")),
        "report": Command(lambda run: ("report", "--run", run, "--no-baseline")),
        "export": Command(lambda run: ("export", "--run", run, "--arch", digest)),
        "audit": Command(lambda run: ("audit", "--run", run, *AUDIT)),
        "go on auditing": Command(
            lambda run: ("audit", "--run", run, *AUDIT), _forget("audits/default/audit.json")
        ),
        "finetune": Command(lambda run: ("finetune", "--run", run, *FINETUNE)),
        "view": View(),
        "look": View(charts=False),
    }


# Which commands read a file, the quick ones first; by the end of its path.
READERS: dict[str, tuple[str, ...]] = {
    "run.json": ("pick", "look", "view", "evaluate", "resume", "train", "search", "report",
                 "export", "profile", "audit", "finetune"),
    "space.json": ("look", "view", "search", "train"),
    "state.json": ("evaluate", "train", "go on training"),
    "weights.safetensors": ("evaluate", "train", "go on training", "search", "audit"),
    "optimizer.safetensors": ("evaluate", "train", "go on training"),
    "metrics.jsonl": ("go on training",),
    "evaluations.jsonl": ("look", "view", "evaluate", "go on searching", "search", "export"),
    "device.json": ("look", "view", "search", "profile"),
    "report.json": ("look", "view", "search", "profile"),
    "table.parquet": ("look", "view", "search", "profile"),
    "calibration.json": ("look", "view", "search", "profile"),
    "measurements.jsonl": ("go on profiling",),
    "front.json": ("look", "pick", "view", "pick latency", "evaluate", "report", "search",
                   "export"),
    "search.json": ("search", "report", "go on searching"),
    "hypervolume.csv": ("look", "view", "report", "go on searching"),
    "front.csv": ("search", "report"),
    "optuna.log": ("search", "go on searching"),
    "finetune.json": ("finetune",),
    "audit.json": ("look", "view", "audit"),
    "settings.json": ("audit", "go on auditing"),
    "records.jsonl": ("go on auditing", "audit"),
    "architecture.json": ("evaluate file",),
    "parity.json": ("export",),
    "labels.json": ("export",),
    "card.md": ("export",),
    "model.onnx": ("export", "search"),
}  # fmt: skip


ALL_COMMANDS = frozenset(name for names in READERS.values() for name in names)


def list_readers(file: str) -> tuple[str, ...]:
    """Names of the commands that may read a file of a run."""
    if "/artifacts/" in file:
        return ("search",)
    if file.startswith("finetunes/"):
        # Whether an export is there is looked at; its files are for others.
        return ("finetune",) if Path(file).name in ("finetune.json", "settings.json") else ()
    if file.startswith("exports/") and file.endswith("weights.safetensors"):
        return ("export",)
    return READERS.get(Path(file).name, ())


def iterate_files(whole: Path) -> Iterator[str]:
    """The files of a run that a command may read, in order."""
    for path in sorted(whole.rglob("*")):
        name = path.relative_to(whole).as_posix()
        if path.is_file() and not name.startswith("report/") and list_readers(name):
            yield name
