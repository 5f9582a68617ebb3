"""Damaged copies of a run, every command on them, and a count of what must not happen."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from random import Random

from tests.damage import damages
from tests.damage.commands import (
    ALL_COMMANDS,
    Answer,
    Command,
    HangError,
    View,
    agree,
    iterate_files,
    keep_unmeasured,
    list_commands,
    list_readers,
)

FAULTS = ("traceback", "hang", "silent wrong answer", "lost work")
# Written anew or for people; what they are made from is what counts.
_DERIVED = ("report/", "exports/", "searches/default/artifacts/", "searches/second/artifacts/")
_REWRITTEN = frozenset(("run.json", "search.json", "front.csv", "hypervolume.csv", "optuna.log",
                        "scatter.svg", "calibration.json", "report.json", ".lock"))  # fmt: skip
# Of these, another file of the same kind is examined leaf by leaf.
_ALIKE = ("searches/second/", "checkpoints/20/")
_WEIGHTY = (".safetensors", ".onnx", ".parquet")


@dataclass(frozen=True)
class Case:
    """One file damaged in one way, and one command.

    Args:
        file: Path within the run.
        damage: Name of the damage.
        command: Name of the command.
        seed: Of the damage.
        place: Of the leaf that is replaced, if it is one.
        replacement: Number of what takes its place.
        bare: Whether the checksum is removed too: then it is an edit, and the answer may differ.
    """

    file: str
    damage: str
    command: str
    seed: int
    place: damages.Place | None = None
    replacement: int = 0
    line: int = 0
    bare: bool = False


@dataclass
class Result:
    """How many cases there were, by damage, and what went wrong."""

    cases: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    faults: list[tuple[str, Case, str]] = field(default_factory=list)

    def write_table(self) -> str:
        """Cases by damage, and the number of each fault."""
        rows = [f"{number:6d}  {name}" for name, number in sorted(self.cases.items())]
        found = Counter(kind for kind, _, _ in self.faults)
        rows += [f"{sum(self.cases.values()):6d}  cases, of which {self.refused} were refused"]
        rows += [f"{found[kind]:6d}  {kind}" for kind in FAULTS]
        return "\n".join(rows)


def list_cases(
    whole: Path, number: int, seed: int, commands: Collection[str] = ALL_COMMANDS
) -> list[Case]:
    """So many cases, drawn evenly from all kinds of files and damages.

    Args:
        whole: The finished run.
        number: One half damages whole files and the other leaves of JSON, as far as there are so
            many: every leaf is replaced before the rest is filled with whole files.
        seed: Of the draw and of the damage.
        commands: Names of the commands that are tried.
    """
    rng = Random(seed)
    by_kind: dict[tuple[str, str], list[Case]] = defaultdict(list)
    leaves: list[Case] = []
    for file in iterate_files(whole):
        for damage in damages.ALL:
            for command in filter(commands.__contains__, list_readers(file)):
                if damage is damages.swap_with_sibling and command == "evaluate file":
                    # Another architecture's file is right, and the answer names its digest.
                    continue
                case = Case(file, damage.__name__, command, rng.randrange(2**32))
                by_kind[Path(file).name, case.damage].append(case)
        found = _list_leaf_cases(whole, file, rng)
        leaves += [case for case in found if case.command in commands]
    rng.shuffle(leaves)
    for group in by_kind.values():
        rng.shuffle(group)
    # The first of every kind, then the second of every kind that has one, and so on.
    rounds = zip_longest(*rng.sample(list(by_kind.values()), len(by_kind)))
    whole_files = [case for cases in rounds for case in cases if case is not None]
    chosen = leaves[: number // 2]
    chosen += whole_files[: number - len(chosen)]
    rng.shuffle(chosen)
    return chosen


def _list_leaf_cases(whole: Path, file: str, rng: Random) -> Iterator[Case]:
    if not file.endswith((".json", ".jsonl")) or file.startswith(_ALIKE):
        return
    whole_file = file.endswith(".json")
    content = (whole / file).read_text()
    lines = [content] if whole_file else content.splitlines()
    seen: set[damages.Place] = set()
    for line in range(0, len(lines), max(1, len(lines) // 4)):
        payload = json.loads(lines[line])
        if not isinstance(payload, dict):
            continue
        places = [*damages.list_leaves(payload), *damages.list_nodes(payload)]
        for place in places:
            pattern = damages.name_pattern(place)
            if pattern in seen and not whole_file:
                continue
            # The first of its kind is replaced by more, and for all commands.
            often = 1 if pattern in seen else 3
            seen.add(pattern)
            count = len(damages.list_replacements(_look_up(payload, place)))
            readers = list_readers(file)
            for number in range(often):
                for bare in (True, False) if number == 0 else (True,):
                    command = readers[0] if often == 1 else rng.choice(readers)
                    replacement = rng.randrange(count)
                    where = (rng.randrange(2**32), place, replacement, line, bare)
                    yield Case(file, "leaf, edited" if bare else "leaf", command, *where)


def _look_up(payload: object, place: damages.Place) -> object:
    for part in place:
        payload = payload[part]  # type: ignore[index]
    return payload


class Harness:
    """Makes damaged copies of a finished run and judges what commands do with them."""

    def __init__(self, whole: Path, folder: Path) -> None:
        self.whole, self.folder = whole, folder
        self.commands: Mapping[str, Command | View] = list_commands(whole)
        self._expected: dict[str, Answer] = {}
        self._undamaged = _read(whole)

    def try_all(self, cases: list[Case]) -> Result:
        """Try the cases one after the other."""
        result = Result()
        for case in cases:
            result.cases[case.damage] += 1
            for kind, detail in self.judge(case, result):
                result.faults.append((kind, case, detail))
        return result

    def judge(self, case: Case, result: Result) -> Iterator[tuple[str, str]]:
        """What went wrong in a case, with details."""
        command = self.commands[case.command]
        expected = self._expect(case.command)
        run = self._copy(command)
        path = run / case.file
        if not path.is_file():
            return
        self._damage(path, case)
        before = _read(run)
        try:
            answer = command.call(run)
        except HangError:
            yield "hang", ""
            return
        result.refused += answer.code == 2
        if answer.code not in (0, 2):
            yield "traceback", answer.said[-3000:]
        if answer.code == 2 and "error: " not in answer.said:
            yield "traceback", f"no sentence: {answer.said[-500:]}"
        told = Path(case.file).name in answer.said or path.parent.name in answer.said
        same = agree(expected.result, answer.result)
        if case.damage == "remove" and isinstance(answer.result, dict):
            # A result that is gone is one of work that is not finished, and is not shown.
            # Whether it was made again is no part of it.
            found = {name: part for name, part in answer.result.items() if name != "stored"}
            same = agree({name: expected.result.get(name) for name in found}, found)
        if answer.code == 0 and not (same or told or case.bare):
            yield "silent wrong answer", _differ(expected.result, answer.result) + answer.said
        for name in list_lost(self._undamaged, before, run, case):
            yield "lost work", f"{name}; {answer.said[-500:]}"

    def _expect(self, name: str) -> Answer:
        if name not in self._expected:
            command = self.commands[name]
            answer = command.call(self._copy(command))
            assert answer.code == 0, (name, answer)
            self._expected[name] = answer
        return self._expected[name]

    def _copy(self, command: Command | View) -> Path:
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.whole, run, copy_function=_copy_or_link)
        command.before(run)
        return run

    def _damage(self, path: Path, case: Case) -> None:
        rng = Random(case.seed)
        # The copy may be a link to the undamaged file.
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
        if case.place is None:
            damage = next(d for d in damages.ALL if d.__name__ == case.damage)
            damage(path, rng)
            return
        lines = content.decode().splitlines()
        text = content.decode() if path.suffix == ".json" else lines[case.line]
        value = damages.list_replacements(_look_up(json.loads(text), case.place))[case.replacement]
        text = damages.replace_leaf(text, case.place, value, bare=case.bare)
        if path.suffix != ".json":
            text = "\n".join([*lines[: case.line], text.rstrip("\n"), *lines[case.line + 1 :], ""])
        path.write_text(text)


def list_lost(
    undamaged: Mapping[str, bytes], before: Mapping[str, bytes], run: Path, case: Case
) -> Iterator[str]:
    """Files and lines of finished work that were there before a command and are gone now."""
    now = _read(run)
    kept_lines = {line for name, content in now.items() if ".jsonl" in name
                  for line in content.split(b"\n")}  # fmt: skip
    for name, content in before.items():
        derived = name.startswith(_DERIVED) or "/export/" in name
        if derived or Path(name).name in _REWRITTEN:
            continue
        if name.endswith(".jsonl"):
            # What damage put there is no work, and the writer cuts a torn last line off.
            work = set(undamaged[name].split(b"\n"))
            gone = [x for x in content.split(b"\n")[:-1] if x in work and x not in kept_lines]
            # A training that goes back to an earlier checkpoint writes its steps again.
            if gone and Path(name).name != "metrics.jsonl":
                yield f"{len(gone)} lines of {name}"
        elif (
            name.startswith(case.file)
            or now.get(name) == content
            or (case.file.startswith("devices/") and name.startswith("devices/"))
            or (name.endswith("front.json") and _digests(content) == _digests(now.get(name, b"{}")))
        ):
            continue
        else:
            yield name


def _digests(content: bytes) -> set[str]:
    return {point["digest"] for point in json.loads(content).get("points", ())}


def _read(run: Path) -> dict[str, bytes]:
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file()
    }


def _copy_or_link(source: str, target: str) -> None:
    # What is heavy is never written in place.
    (os.link if source.endswith(_WEIGHTY) else shutil.copyfile)(source, target)


def _differ(expected: object, found: object) -> str:
    before, now = json.dumps(keep_unmeasured(expected)), json.dumps(keep_unmeasured(found))
    start = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), 0)
    return f"{before[max(0, start - 60) : start + 60]} -> {now[max(0, start - 60) : start + 60]}; "
