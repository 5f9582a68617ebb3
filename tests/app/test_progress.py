"""What a running command shows: lines by the clock, bars that fit, silence, and the same result."""

from __future__ import annotations

import io
import json
import re
import threading
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from app.commands.progress import lines as lines_module
from app.commands.progress.bars import Bars, draw_step, open_console
from app.commands.progress.lines import PACE, PATIENCE, Heartbeat, Lines
from app.commands.progress.showing import showing
from app.commands.progress.stopwatch import Stopwatch, write_duration
from app.progress import Step
from tests.app.conftest import Command

# What a terminal, or rich, would act on.
HOSTILE = "\x1b[2J[bold]x[/bold] :smile:\r\n\u202e" * 3
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Played:
    """Lines by a clock that stands still unless it is told to go."""

    now: float = 100.0
    said: list[tuple[float, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.lines = Lines(lambda line: self.said.append((self.now, line)), lambda: self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, with a beat every half second."""
        for _ in range(round(2 * seconds)):
            self.now += 0.5
            self.lines.beat()

    @property
    def texts(self) -> list[str]:
        return [line for _, line in self.said]

    @property
    def longest_gap(self) -> float:
        times = [100.0, *(at for at, _ in self.said), self.now]
        return max(b - a for a, b in pairwise(times))


# -- steps -------------------------------------------------------------------------------------


def test_a_step_is_a_line_of_its_own() -> None:
    assert str(Step("opening the network")) == "opening the network"
    assert str(Step("train", 40, 1300, figures="loss 0.5")) == "train: 40/1,300 steps, loss 0.5"
    assert str(Step("profile cpu", 1, 1, "measurement")) == "profile cpu: 1/1 measurement"
    assert str(Step("listing images", 1200, None, "image")) == "listing images: 1,200 images"


def test_durations_are_written_as_people_say_them() -> None:
    found = [write_duration(s) for s in (0, 8.4, 59.6, 125, 3600, 12_000)]
    assert found == ["0 s", "8 s", "1 min 0 s", "2 min 5 s", "1 h 0 min", "3 h 20 min"]


def test_what_is_left_follows_from_the_speed_since_the_first_count() -> None:
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    assert watch.follow(Step("train", 200, 300))
    now[0] = 10.0
    assert not watch.follow(Step("train", 220, 300))
    assert watch.seconds_left == pytest.approx(40), "a resumed training did not take 200 steps"
    now[0] = 11.0
    assert watch.follow(Step("verify", 1, 9))
    assert (watch.seconds, watch.seconds_left) == (0, None)
    assert watch.follow(Step("verify", 0, 9)), "counting from the beginning is another task"


# -- lines -------------------------------------------------------------------------------------


def test_the_first_step_is_said_at_once() -> None:
    play = Played()
    play.lines.show(Step("loading libraries", passing=True))
    assert play.said == [(100.0, "loading libraries ...")]


def test_lines_come_by_the_clock_however_many_steps_there_are() -> None:
    play = Played()
    play.lines.show(Step("loading libraries", passing=True))
    for number in range(1, 60_001):
        play.now += 0.001
        play.lines.show(Step("reading images", number, 60_000, "image", passing=True))
        if number % 500 == 0:
            play.lines.beat()
    assert 60 / PATIENCE <= len(play.said) <= 60 / PACE + 3
    assert play.longest_gap <= PATIENCE
    assert play.texts[1].startswith("reading images: 2,")
    assert "left" in play.texts[3]
    assert play.texts[-1] == "reading images: 60,000/60,000 images"


def test_a_job_that_tells_nothing_is_said_to_go_on() -> None:
    play = Played()
    play.lines.show(Step("evaluating", passing=True))
    play.wait(60)
    assert play.longest_gap <= PATIENCE + 0.5
    assert play.texts[1:3] == ["evaluating, 8 s so far", "evaluating, 16 s so far"]


def test_a_job_that_hangs_in_the_middle_keeps_its_figures() -> None:
    play = Played()
    play.lines.show(Step("train", 0, 90))
    play.lines.show(Step("train", 20, 90, figures="loss 0.5"))
    play.lines.show(Step("train", 21, 90))
    play.wait(9)
    assert play.texts[-1] == "train: 21/90 steps, loss 0.5, about 26 s left"


def test_what_passes_quickly_is_not_mentioned_and_what_lasts_is() -> None:
    play = Played()
    play.lines.show(Step("loading libraries", passing=True))
    for task in ("opening the network", "reading digits"):
        play.lines.show(Step(task, passing=True))
        play.wait(0.5)
    play.lines.show(Step("reading images", 9, 9, "image", passing=True))
    assert len(play.said) == 1
    play.lines.show(Step("listing the units", passing=True))
    play.wait(2.5)
    assert play.texts[1:] == ["listing the units, 2 s so far"]


def test_the_end_of_work_is_said_once() -> None:
    play = Played()
    play.lines.show(Step("loading libraries", passing=True))
    for step in (Step("train", 1, 2), Step("train", 2, 2, figures="loss 1"), Step("train", 2, 2)):
        play.lines.show(step)
    assert play.texts[1:] == ["train: 2/2 steps, loss 1"]
    play.lines.show(Step("train", 1, 2))
    play.lines.show(Step("train", 2, 2))
    assert play.texts[2:] == ["train: 2/2 steps"], "of another training"


def test_lines_of_a_job_are_said_at_once_and_count_as_signs_of_life() -> None:
    play = Played()
    play.lines.show(Step("search", 1, 90))
    for _ in range(5):
        play.wait(7)
        play.lines.say("round")
    assert play.texts.count("round") == 5
    assert len(play.texts) == 6, "the task once"


def test_a_heart_beats_while_the_job_is_busy_and_stops_when_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lines_module, "_BEAT", 0.01)
    monkeypatch.setattr(lines_module, "PATIENCE", 0.02)
    said, enough = [], threading.Event()

    def write(line: str) -> None:
        said.append(line)
        if len(said) == 4:
            enough.set()

    lines = Lines(write)
    lines.show(Step("busy"))
    heartbeat = Heartbeat(lines)
    assert enough.wait(20)
    heartbeat.stop()
    count = len(said)
    assert not enough.wait(0) or not any(t.name == "heartbeat" for t in threading.enumerate())
    assert len(said) == count
    assert said[:2] == ["busy ...", "busy, 0 s so far"]


def test_a_heart_that_nobody_hears_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lines_module, "_BEAT", 0.01)
    monkeypatch.setattr(lines_module, "PATIENCE", 0.02)
    broken = threading.Event()

    def write(line: str) -> None:
        if line != "busy ...":
            broken.set()
            raise BrokenPipeError

    lines = Lines(write)
    lines.show(Step("busy"))
    heartbeat = Heartbeat(lines)
    assert broken.wait(20)
    heartbeat.stop()
    assert capsys.readouterr().err == ""


# -- bars --------------------------------------------------------------------------------------


def drawn(step: Step, width: int, seconds: float = 10.0, **options: object) -> str:
    """A step as it is drawn so many seconds after its task began, without colours."""
    now = [0.0]
    watch = Stopwatch(lambda: now[0])
    watch.follow(Step(step.task, 0, step.total, step.unit))
    now[0] = seconds
    watch.follow(step)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, **options)  # type: ignore[arg-type]
    console.print(draw_step(watch, width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("\n") == 1, "one line, whatever the width"
    return ESCAPE.sub("", text).rstrip("\n")


@pytest.mark.parametrize("width", [1, 2, 5, 10, 20, 33, 40, 60, 79, 80, 120, 300])
@pytest.mark.parametrize(
    "step",
    [
        Step("train", 40, 1300, figures="loss largest 0.512, smallest 0.613"),
        Step("reading images in folder:/a/very/long/path/" + "x" * 90, 5, 60_000, "image"),
        Step("loading libraries"),
        Step("verzeichnis 表 表 表 表 表 表 表 表 表 表 表", 0, 0),
        Step(HOSTILE, 1, 2, figures=HOSTILE),
    ],
    ids=["train", "long", "unknown", "wide", "hostile"],
)
def test_a_bar_fits_into_every_width(step: Step, width: int) -> None:
    line = drawn(step, width)
    assert Console(width=500).measure(line).maximum <= max(width - 1, 1)
    assert all(character.isprintable() for character in line)


def test_what_matters_most_stays_where_there_is_little_room() -> None:
    step = Step("train", 40, 1300, figures="loss largest 0.512")
    assert re.fullmatch(
        r"train [━╸╺]{30} 40/1,300 steps 10 s, 5 min 15 s left loss largest 0\.512",
        drawn(step, 120).rstrip(),
    )
    assert drawn(step, 44).rstrip() == "train 40/1,300 steps 10 s, 5 min 15 s left"
    assert drawn(step, 22).rstrip() == "train 40/1,300 steps"


def test_markup_in_names_is_text() -> None:
    assert "[red]x[/red] :smile:" in drawn(Step("[red]x[/red] :smile:", 1, 2), 100)


def test_bars_have_no_colours_where_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    console = open_console(stream)
    assert console is not None
    bars = Bars(console)
    bars.show(Step("train", 1, 2))
    bars.close()
    assert "train" in stream.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*[1-9][0-9;]*m", stream.getvalue())


class Terminal(io.StringIO):
    """What claims to be a terminal and keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_terminals_that_cannot_draw_get_lines(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", kind)
    assert open_console(Terminal()) is None
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with showing(quiet=False) as say:
        say(Step("train", 2, 2))
    assert stream.getvalue() == "loading libraries ...\ntrain: 2/2 steps\n"


def test_pipes_get_lines_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "CLICOLOR_FORCE"):
        monkeypatch.setenv(name, "1")
    stream = io.StringIO()
    assert open_console(stream) is None
    monkeypatch.setattr("sys.stderr", stream)
    with showing(quiet=False) as say:
        say(Step("train", 2, 2))
    assert stream.getvalue() == "loading libraries ...\ntrain: 2/2 steps\n"


def test_lines_stay_above_the_bar_and_the_bar_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)

    def work() -> None:
        with showing(quiet=False) as say:
            say("warning: [b]look[/b]")
            say(Step("train", 1, 2))
            say(Step("train", 2, 2, figures="loss 1"))
            say(Step("verify", 1, 9))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    text = stream.getvalue()
    assert "warning: [b]look[/b]\n" in ESCAPE.sub("", text).replace("\r", "")
    assert "train: 2/2 steps, loss 1\n" in ESCAPE.sub("", text).replace("\r", "")
    assert text.rstrip("\r").endswith("\x1b[2K"), "the bar is wiped away"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    hidden, shown = text.index("\x1b[?25l"), text.index("\x1b[?25h")
    assert not ESCAPE.sub("", text[hidden:shown]).strip(), "a kill leaves the cursor visible"


# -- commands ----------------------------------------------------------------------------------


def test_quiet_leaves_results_and_warnings(command: Command, tmp_path: Path, a_run: Path) -> None:
    train = ("train", "--data", "digits", "--steps", 2, "--quiet", "--out", tmp_path / "other")
    outcome = command(*train)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Trained ofa_mobilenetv3")
    newest = max((a_run / "checkpoints").iterdir())
    (newest / "weights.safetensors").write_bytes(b"damaged")
    outcome = command("evaluate", "--run", a_run, "--arch", "largest", "--quiet", "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["split"] == "val"
    assert all(line.startswith("warning: ") for line in outcome.err.splitlines())
    assert "using the previous good checkpoint" in outcome.err
