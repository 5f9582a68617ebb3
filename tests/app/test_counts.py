"""Counts and what is counted agree in every sentence: one point, two points."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest

from app.commands.texts.searches import format_search
from app.jobs.outcomes import SearchOutcome
from app.records.numbers import format_items
from app.reporting.markdown import render_markdown

ROOT = Path(__file__).resolve().parents[2]
NOUNS = (
    "batches|bytes|candidates|chains|channels|choices|classes|cores|evaluations|files|images|measurements|"
    "networks|points|processors|samples|steps|subnetworks|threads|units|variants"
)
KINDS = "distinct|evaluated|further|held-out|hopeless|larger|more|other|training|unseen"
COUNTED = re.compile(rf"^ (?:(?:{KINDS}) )?(?:{NOUNS})\b")


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 points"), (1, "1 point"), (2, "2 points"), (1024, "1,024 points")],
)
def test_a_count_and_its_noun(count: int, text: str) -> None:
    assert format_items(count, "point") == text


def test_nouns_of_their_own() -> None:
    assert format_items(1, "batch", "batches") == "1 batch"
    assert format_items(3, "batch", "batches") == "3 batches"
    assert format_items(1, "point is", "points are") == "1 point is"


def _find_counts(file: Path) -> list[str]:
    """Values in f-strings that a plural follows, whatever they are."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        for value, after in zip(node.values, node.values[1:], strict=False):
            counted = isinstance(value, ast.FormattedValue) and isinstance(after, ast.Constant)
            if counted and COUNTED.match(str(after.value)):
                # Numbers with decimals are no counts: "+1.00 points".
                spec = value.format_spec
                if spec is None or "f" not in ast.unparse(spec).rstrip("'\""):
                    found.append(f"{file.name}:{node.lineno}: {ast.unparse(value)}{after.value}")
    return found


def test_no_sentence_of_ours_counts_by_itself() -> None:
    """A plural that follows a value directly is wrong where the value is 1."""
    folders = (
        "auditing",
        "commands",
        "explorer",
        "jobs",
        "records",
        "reporting",
        "runs",
        "searching",
    )
    files = [file for folder in folders for file in (ROOT / "app" / folder).rglob("*.py")]
    found = [line for file in sorted(files) for line in _find_counts(file)]
    # What is refused below a limit above 1 is never one.
    assert [line for line in found if not any(part in line for part in ALLOWED)] == []
    templates = (ROOT / "app/reporting/templates").glob("*.jinja")
    texts = [template.read_text(encoding="utf-8") for template in templates]
    assert [m for text in texts for m in re.findall(rf"\}}\}} (?:{NOUNS})\b", text)] == []


ALLOWED = ("count} networks (",)


def test_a_search_of_one_point() -> None:
    outcome = SearchOutcome(
        run=Path("run"), search="default", device="cpu", evaluations=1, reused=0, failed=0,
        stopped="exhausted", objectives=("macs",), units={}, front=(), indistinguishable=1,
        hypervolume=None, searched_hypervolume=None, baseline_hypervolume=None,
        predictor_tau=None, unmeasured_devices=(),
    )  # fmt: skip
    one = format_search(outcome)
    assert "1 evaluation (0 reused), 0 points on the front" in one
    assert "1 further point is off the front, but may belong there" in one
    more = format_search(replace(outcome, evaluations=40, indistinguishable=2))
    assert "40 evaluations (0 reused)" in more
    assert "2 further points are off the front, but may belong there" in more


def test_templates_count_by_the_same_helper() -> None:
    page = render_markdown(
        "search.md.jinja",
        front=_Front(),
        finalists="",
        calibration="",
        calibrating="",
        points="",
        volumes="",
        traced=False,
        cards=[],
        formats=None,
    )
    assert "seed 0, 1 evaluation on cpu, 0 failed." in page


class _Front:
    search, strategy, seed, evaluations, device, failed = "s", "x", 0, 1, "cpu", 0
    unmeasured: tuple[str, ...] = ()

    def list_front(self) -> tuple[object, ...]:
        return ()
