"""Command lines that nobody in their right mind types: drawn by number, the same every time.

They are made of the real options of the real commands. None is expensive: a line that could begin
a real training, profile or search ends with an option that is refused, as late as possible, so
that everything before that is tried.
"""

from __future__ import annotations

import inspect
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from typer.models import ArgumentInfo

NUMBERS = (
    *("0", "-0", "-1", "1", "2", "5", "3.5", "1e400", "-1e400", "nan", "NaN", "inf", "-inf"),
    *("1" + "0" * 30, "-1" + "0" * 30, "1e-400", "1e300", "0x10", "1_000", "٣", "½", "1,5", " 7 "),
    *("+4", "--5", "9" * 5_000, "2147483648", "9223372036854775808", "1e5", "5e-324"),
)
TEXTS = (
    *("", " ", "\0", "a\0b", "\udcff", "\ud800x", "x" * 5_000, "é" * 300, "画像", "\u202eevil"),
    *("\x1b[2J", "a\nb", "\r", "a b", "'", '"', "`touch x`", "$(touch x)", "x; touch y #", "\\"),
    *("..", ".", "../../x", "a/b", "~", "-", "--", "--json", "-h", "%s{0}{x}", "*", "=", ",", ",,"),
    *("a.b", "a..b", ".a", "a.", "os.path", "os.path:join", "json:loads", "supernet.space", "@"),
    *(
        "latency@",
        "@cpu",
        "latency@cpu",
        "latency@nope",
        "True",
        "null",
        "None",
        "[]",
        "{}",
        "\N{FULLWIDTH LATIN CAPITAL LETTER C}",
    ),
)
AMOUNTS = (
    *("50%", "0", "1", "-1", "1e400", "nan", "inf", "40KB", "300M", "1e-9", "%", "", "5 %", "50%%"),
    *("1e400%", "-5%", "0%", "1" + "0" * 30, "9" * 5_000, "1e-400", "0.5GB", "3ms", "0x10", "٣"),
)
QUANTITIES = ("accuracy", "latency", "latency@cpu", "size", "macs", "parameters", "loss", "energy")
SIGNS = ("<=", ">=", "<", ">", "=", "==", "", "=<", "≤", "<=<=")
LEGAL: dict[str, tuple[str, ...]] = {
    "family": ("ofa_mobilenetv3", "spos", "resnet", "uib", "_ofa", "matlm", "bert", "superkernel"),
    "preset": ("tiny", "small-image", "published"),
    "data": ("digits", "digits:", "folder:", "text:", "folder:IMAGES", "text:FILE", "folder:FILE"),
    "recipe": ("digits", "image", "digits+alphanet", "spos+fairnas", "teacher", "progressive", "+"),
    "device": ("cpu", "cpu,cpu", "cpu,phone", "phone", "cpu,", "../cpu"),
    "provider": ("CPUExecutionProvider", "CUDAExecutionProvider"),
    "backend": ("onnx_runtime", "onnx"),
    "precision": ("fp32", "int8"),
    "objectives": ("accuracy,latency", "accuracy,size", "accuracy,macs,size", "accuracy,accuracy"),
    "strategy": ("predictor_guided", "nsga2", "random_search", "linas", "boshnas", "optuna_gp"),
    "predictor": ("auto", "ridge", "mlp"),
    "engine": ("array", "nsga3", "moead", "pymoo.algorithms.moo.nsga2.NSGA2", "json.dumps"),
    "proxies": ("naswot", "naswot,synflow", "naswot,naswot", "_probe"),
    "weights": (
        "accuracy=1,latency=1",
        "accuracy=-1",
        "accuracy=nan",
        "accuracy=0,latency=0",
        "=1",
    ),
    "split": ("train", "val", "test"),
    "search": ("default", "other", "../default", "default/"),
    "name": ("default", "other", "../default", ".hidden", "é", "a" * 300),
    "arch": ("smallest", "largest", "ARCH", "FILE", "0", "a", "ffffffffffff"),
    "recipe_part": ("learning_rate=0.1", "steps=3", "batch_size=0", "sampler=os.path", "epochs=1"),
    "ray": ("auto", "127.0.0.1:1", "u:p@127.0.0.1:1", "127.0.0.1:99999999", "ray://127.0.0.1:1"),
    "storage": ("sqlite:////nowhere/a.db", "mysql://u:p@h/d", "redis://h", "nonsense://h", "a.db"),
    "format": ("ofa", "OFA"),
}
PLACES = (
    *("RUN", "FILE", "FOLDER", "IMAGES", "MISSING", "MISSING/deeper", "FILE/inside", "PIPE"),
    *(
        "/proc/nothing/here",
        "/dev/null",
        "/dev/null/inside",
        "n" * 300,
        "LOOP",
        "~",
        "..",
        "RUN/..",
    ),
)
# What is refused although all else is right, the last checks of each command among them.
REFUSED: dict[str, tuple[tuple[str, ...], ...]] = {
    "quickstart": (
        ("--evaluations", "6"),
        ("--passes", "1"),
        ("--networks", "3"),
        ("--out", "FILE"),
    ),
    "train": (("--out", "FILE"), ("--out", "FOLDER"), ("--batch-size", "0"), ("--out", "FILE/a")),
    "profile": (
        ("--passes", "1"),
        ("--networks", "1"),
        ("--precision", "fp23"),
        ("--threads", "0"),
    ),
    "search": (
        ("--limit", "latency<=1e-9", "--limit", "size<=1"),
        ("--evaluations", "6"),
        ("--strategy", "nsga22"),
        ("--prior", "RUN"),
        ("--storage", "mysql:/u:p@h"),
    ),
    "audit": (("--networks", "3"), ("--recipe-part", "learning_rate=-1"), ("--split", "train")),
    "explore": (("--json",), ("--port", "0")),
}
OFTEN = {"pick": 30, "search": 14, "train": 12, "evaluate": 5, "profile": 6, "describe": 2}
RARE = ("doctor", "families", "report", "export")


@dataclass(frozen=True)
class Sandbox:
    """Folders that hostile lines may name; what they give to write to is inside.

    Args:
        root: The whole of it; the working directory lies several folders deep.
        run: A finished run.
    """

    root: Path
    run: Path

    @property
    def here(self) -> Path:
        """The working directory."""
        return self.root / "a" / "b" / "here"

    def fill(self) -> None:
        """Make what lines name."""
        self.here.mkdir(parents=True)
        for name in ("home", "temporary", "folder"):
            (self.root / name).mkdir()
        (self.root / "folder" / "somebody.txt").write_text("here before")
        (self.root / "file").write_text("no run, no image, no architecture\n")
        (self.root / "empty.toml").touch()
        (self.root / "loop").symlink_to(self.root / "loop")
        os.mkfifo(self.root / "pipe")

    def place(self, word: str) -> str:
        """Put the real path for a word such as ``RUN``."""
        places = {
            "RUN": self.run,
            "FILE": self.root / "file",
            "FOLDER": self.root / "folder",
            "IMAGES": self.root / "images",
            "MISSING": self.root / "missing",
            "PIPE": self.root / "pipe",
            "LOOP": self.root / "loop",
            "EMPTY": self.root / "empty.toml",
            "ARCH": self.root / "architecture.json",
        }
        for name, path in places.items():
            if name in word:
                return word.replace(name, str(path))
        return word


@dataclass(frozen=True)
class Line:
    """One command line.

    Args:
        arguments: What is typed.
        paths: Which of them name folders or files.
    """

    arguments: tuple[str, ...]
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Parameter:
    """An option or an argument of a command, as the command declares it.

    Args:
        name: In Python.
        option: As it is typed; empty for an argument.
        kind: The annotation as text.
        required: Whether there is no default.
    """

    name: str
    option: str
    kind: str
    required: bool

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value."""
        return "bool" in self.kind

    @property
    def is_path(self) -> bool:
        """Whether it names a file or a folder."""
        return "Path" in self.kind or self.name in ("arch", "data")


def list_commands() -> dict[str, list[Parameter]]:
    """Every command of the application with its parameters."""
    from app.commands import main, options

    assert main.app is options.app, "the commands are registered"
    found = {}
    for command in options.app.registered_commands:
        assert command.callback is not None
        signature = inspect.signature(command.callback, eval_str=True)
        name = command.name or command.callback.__name__
        found[name] = [_describe(parameter) for parameter in signature.parameters.values()]
    return found


def _describe(parameter: inspect.Parameter) -> Parameter:
    kind, info, *_ = get_args(parameter.annotation)
    # In an annotation the first of the names is where elsewhere the default is.
    declared = info.default if isinstance(info.default, str) else ""
    option = declared if declared.startswith("--") else "--" + parameter.name.replace("_", "-")
    option = "" if isinstance(info, ArgumentInfo) else option
    return Parameter(parameter.name, option, str(kind), parameter.default is parameter.empty)


def draw_line(number: int, sandbox: Sandbox) -> Line:
    """Draw a command line."""
    rng = random.Random(f"line/{number}")
    commands = list_commands()
    names = sorted(commands)
    weights = [OFTEN.get(name, 0.5 if name in RARE else 3) for name in names]
    name = rng.choices(names, weights)[0]
    words, paths = [name], []
    # Most lines have little that is wrong, so that much is read before they are refused.
    hostile = rng.choice((0.0, 0.1, 0.1, 0.3, 1.0))
    for parameter in commands[name]:
        chance = 0.95 if parameter.required else rng.choice((0.1, 0.3))
        while rng.random() < chance and len(words) < 60:
            value = draw_value(rng, parameter, sandbox, hostile)
            if parameter.is_path:
                paths.append(value)
            words += spell(rng, parameter, value)
            chance *= 0.3
    if name in REFUSED:
        refused = [sandbox.place(word) for word in rng.choice(REFUSED[name])]
        words += refused
        paths += refused
    spoil(rng, words)
    return Line(tuple(words), tuple(paths))


def draw_value(
    rng: random.Random, parameter: Parameter, sandbox: Sandbox, hostile: float = 1.0
) -> str:
    """Draw a value of an option.

    Args:
        rng: Source of randomness.
        parameter: The option.
        sandbox: What paths may name.
        hostile: How likely the value is an odd one.
    """
    name = parameter.name
    if rng.random() >= hostile:
        return sandbox.place(rng.choice(_list_usual(parameter)))
    if name == "run" and rng.random() < 0.5:
        return sandbox.place("RUN")
    if rng.random() < 0.1:
        return rng.choice(TEXTS + NUMBERS)
    if name == "limits":
        return draw_limit(rng)
    if name == "latency_ms":
        return rng.choice(AMOUNTS + NUMBERS)
    if name in LEGAL and rng.random() < 0.7:
        return sandbox.place(rng.choice(LEGAL[name]))
    if "int" in parameter.kind or "float" in parameter.kind:
        return rng.choice(NUMBERS)
    if parameter.is_path:
        return sandbox.place(rng.choice(PLACES))
    return rng.choice(TEXTS)


def _list_usual(parameter: Parameter) -> tuple[str, ...]:
    """Values of an option that somebody may have typed in earnest."""
    name = parameter.name
    usual = {
        "run": ("RUN",),
        "runs": ("RUN",),
        "teacher": ("RUN",),
        "prior": ("RUN", "FOLDER"),
        "config": ("EMPTY",),
        "limits": ("size<=90%", "accuracy>=0.2", "latency@cpu<=0.05", "macs<=1M"),
        "latency_ms": ("90%", "0.05", "1"),
    }
    if name in usual:
        return usual[name]
    if name in LEGAL:
        return LEGAL[name][:2]
    if "int" in parameter.kind or "float" in parameter.kind:
        return ("1", "2", "5", "0")
    return PLACES[:3] if parameter.is_path else ("a",)


def draw_limit(rng: random.Random) -> str:
    """Draw something like a limit."""
    name = rng.choice(QUANTITIES + QUANTITIES + TEXTS)
    space = rng.choice(("", "", "", " ", "\t"))
    return f"{name}{space}{rng.choice(SIGNS[:2] + SIGNS)}{space}{rng.choice(AMOUNTS)}"


def spell(rng: random.Random, parameter: Parameter, value: str) -> list[str]:
    """Write an option with its value as it may be typed."""
    if not parameter.option:
        return [value]
    if parameter.is_flag:
        return [parameter.option]
    if rng.random() < 0.3:
        return [f"{parameter.option}={value}"]
    return [parameter.option, value]


def spoil(rng: random.Random, words: list[str]) -> None:
    """Now and then make a usage error of it; what is refused otherwise stays at the end."""
    kind = rng.random()
    if kind < 0.02:
        words.append(rng.choice(("--nothing", "--seed", "-x", "extra", "--", "-")))
    elif kind < 0.04:
        words[0] = rng.choice(TEXTS)
    elif kind < 0.05:
        words.insert(0, rng.choice(("--help", "--version", "--json", "\0")))


def draw_limit_line(number: int, sandbox: Sandbox) -> Line:
    """Draw a command line that is about limits, budgets or weights."""
    rng = random.Random(f"limit/{number}")
    run = ["--run", str(sandbox.run)]
    kind = rng.randrange(4)
    if kind == 0:
        limits = [f"--limit={draw_limit(rng)}" for _ in range(rng.randint(1, 3))]
        return Line(("pick", *run, *limits), ())
    if kind == 1:
        return Line(("pick", *run, f"--latency-ms={rng.choice(AMOUNTS + NUMBERS)}"), ())
    if kind == 2:
        parts = [f"{rng.choice(QUANTITIES + TEXTS)}={rng.choice(AMOUNTS)}" for _ in range(2)]
        return Line(("pick", *run, f"--weights={','.join(parts)}"), ())
    limits = [f"--limit={draw_limit(rng)}", f"--latency-ms={rng.choice(AMOUNTS + NUMBERS)}"]
    # Refused after the limits are read, and before the network is opened.
    return Line(("search", *run, *rng.sample(limits, rng.randint(1, 2)), "--engine", "arrray"), ())


def draw_configuration(number: int, sandbox: Sandbox) -> Line:
    """Write a configuration file of doubtful content, and draw a command line that reads it."""
    rng = random.Random(f"toml/{number}")
    commands = list_commands()
    name = rng.choice(["train", "search", "pick", "profile", "audit", "describe", "quickstart"])
    file = sandbox.root / "settings.toml"
    file.write_bytes(_draw_toml(rng, name, commands[name], sandbox))
    needed = {"describe": ["spos"], "train": ["--out", "FILE"], "quickstart": ["--out", "FILE"]}
    words = [name, *needed.get(name, ["--run", "RUN"]), "--config", str(file)]
    words += rng.choice(REFUSED[name]) if name in REFUSED else ()
    return Line(tuple(sandbox.place(word) for word in words), (str(sandbox.root / "file"),))


def _draw_toml(
    rng: random.Random, command: str, parameters: list[Parameter], box: Sandbox
) -> bytes:
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randint(0, 200))
    if kind < 0.08:
        deep = rng.choice((50, 3_000, 100_000))
        return rng.choice((f"a = {'[' * deep}{']' * deep}", f"[{'.'.join('a' * deep)}]")).encode()
    if kind < 0.11:
        return "\n".join(["seed = 1"] * 2 + ["[train]"] * 2).encode()
    lines = []
    for parameter in rng.sample(parameters, min(len(parameters), rng.choice((1, 1, 1, 2, 5)))):
        key = rng.choice((parameter.name, parameter.name.replace("_", "-"), parameter.name.upper()))
        lines.append(f"{key} = {_draw_toml_value(rng, parameter, box)}")
    if rng.random() < 0.3:
        lines.insert(0, f"[{rng.choice((command, 'nothing', command + '.inner', '[train]'))}]")
    mark = b"\xef\xbb\xbf" if rng.random() < 0.05 else b""
    return mark + "\n".join(lines).encode("utf-8", "surrogatepass")


def _draw_toml_value(rng: random.Random, parameter: Parameter, box: Sandbox) -> str:
    text = draw_value(rng, parameter, box)
    literal = (
        *("true", "1", "-1", "0", "1.5", "nan", "inf", "-inf", "1e400", "9" * 5_000, "0x1F"),
        *("1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "{}", "[1, 'a', [true]]"),
        *("{a = 1}", "[{a = 1}]", '"""\n"""', "['a', 'b']", "[['a']]", "[nan]", "''", "'\\u0000'"),
    )
    return rng.choice((json.dumps(text), json.dumps([text, text]), rng.choice(literal)))


def draw_architecture(number: int, good: dict[str, Any], sandbox: Sandbox) -> str:
    """Write an architecture file of doubtful content; returns its path.

    Args:
        number: Which.
        good: The content of a file that is right.
        sandbox: Where it is written.
    """
    rng = random.Random(f"architecture/{number}")
    file = sandbox.root / "doubtful.json"
    content = json.loads(json.dumps(good))
    for _ in range(rng.randint(1, 3)):
        change: Callable[[], bytes | None] = rng.choice(_changes(rng, content))
        whole = change()
        if whole is not None:
            file.write_bytes(whole)
            return str(file)
    file.write_text(json.dumps(content))
    return str(file)


def _changes(rng: random.Random, content: dict[str, Any]) -> list[Callable[[], bytes | None]]:
    odd: list[Any] = [None, True, False, -1, 0, 1.0, 1e308, 10**30, "", "1", "\0", [], {}, [[1]]]
    odd += [float("nan"), float("inf"), "x" * 5_000, {"a": {"b": 1}}, "\ud800"]
    choices = content.get("choices")
    inner = choices if isinstance(choices, dict) and choices else content

    def drop() -> None:
        if inner:
            del inner[rng.choice(list(inner))]

    def nest() -> bytes:
        depth = rng.choice((20, 500, 100_000))
        return b'{"choices": ' * depth + b"1" + b"}" * depth

    def duplicate() -> bytes:
        text = json.dumps(content)
        return text.replace('"choices": {', '"choices": {"resolution": 5, ', 1).encode()

    def cut() -> bytes:
        text = json.dumps(content).encode()
        return text[: rng.randrange(len(text) + 1)]

    def flip() -> bytes:
        text = bytearray(json.dumps(content).encode())
        text[rng.randrange(len(text))] = rng.randrange(256)
        return bytes(text)

    return [
        lambda: inner.update({rng.choice(list(inner) or ["a"]): rng.choice(odd)}),
        lambda: inner.update({rng.choice((*TEXTS[2:], "stage9.depth")): rng.choice(odd)}),
        drop,
        lambda: content.update({rng.choice(("choices", "space", "version")): rng.choice(odd)}),
        nest,
        duplicate,
        cut,
        flip,
        lambda: json.dumps(rng.choice(odd)).encode(),
        lambda: rng.randbytes(50),
    ]
