"""What an audit says in sentences: its worth, its warnings, and what to change."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from app.commands.main import app
from app.records.audit import AuditRecord, RecipeRecord, Statistic, TrainingRecord
from app.records.typed_json.record import to_json
from app.records.typed_json.record_files import parse_record
from app.reporting.audit_text import list_figures
from app.reporting.audit_verdict import describe_intervals, describe_worth, list_advice
from tests.app.audit_records import make_audit

RECORDED = Path(__file__).parent / "recorded_run/audits/default/audit.json"
RISING = [0.70, 0.74, 0.78, 0.81, 0.84, 0.86, 0.88, 0.89, 0.90, 0.91, 0.92, 0.93]
WORSE = [value - 0.02 - 0.002 * (i % 3) for i, value in enumerate(RISING)]
# Swaps of neighbours, which costs alone do not make.
SHUFFLED = [RISING[i ^ 1] for i in range(12)]


def _set_margin(found: AuditRecord, value: float, low: float, high: float) -> AuditRecord:
    return found.replace(
        kendall_tau_above_macs=Statistic(value=value, low=low, high=high),
        kendall_tau=Statistic(value=0.8, low=0.6, high=1.0),
        kendall_tau_of_macs=Statistic(value=0.8 - value, low=0.5, high=1.0),
    )


def test_one_sentence_says_gap_range_and_both_taus() -> None:
    found = make_audit(WORSE, RISING)
    sentence = describe_worth(found)
    assert sentence.startswith(
        "Inherited accuracy is 2.2 points below stand-alone in the mean over these 12 networks "
        "(95 % confidence interval of the mean: \N{MINUS SIGN}2.3 to \N{MINUS SIGN}2.1; single "
        "networks: \N{MINUS SIGN}2.4 to \N{MINUS SIGN}2.0)"
    )
    assert "ranks them with Kendall's tau 1.00 (1.00 to 1.00)" in sentence
    assert sentence.endswith("; costs alone (MACs) rank with 1.00 (1.00 to 1.00).")
    assert sentence.count(". ") == 0, "one sentence"


def test_losses_are_in_nats_and_higher_is_worse() -> None:
    losses = [3.0 - value for value in RISING]
    found = make_audit([loss + 0.1 for loss in losses], losses, objective="loss")
    sentence = describe_worth(found)
    assert "Inherited loss is 0.100 nats per token above (worse than) stand-alone" in sentence
    assert "points" not in sentence + " ".join(list_advice(found))
    assert any("finetune" in line for line in list_advice(found)), "a higher loss is a gap to close"
    assert found.worst_gap == pytest.approx(0.1)
    better = make_audit([loss - 0.1 for loss in losses], losses, objective="loss")
    assert "below (better than)" in describe_worth(better)
    assert not any("finetune" in line for line in list_advice(better))


@pytest.mark.parametrize("count", [4, 7])
def test_too_few_networks_have_no_numbers(count: int) -> None:
    found = make_audit(WORSE[:count], RISING[:count])
    sentence = describe_worth(found)
    assert sentence.startswith(f"{count} networks are too few to say")
    assert "tau" not in sentence
    assert "points" not in sentence
    assert list_advice(found) == []
    assert "too few" not in describe_worth(make_audit(WORSE[:8], RISING[:8]))


def test_networks_that_cannot_be_ranked() -> None:
    flat = describe_worth(make_audit(WORSE, [0.9] * 12))
    assert "no ranking to compare" in flat
    assert "tau" not in flat
    assert "it ranks none" in describe_worth(make_audit([0.9] * 12, RISING))
    assert "is equal to stand-alone" in describe_worth(make_audit(RISING, RISING))


@pytest.mark.parametrize(
    ("margin", "expected", "warns"),
    [
        ((0.2, 0.1, 0.3), "Inherited weights rank better than costs alone", False),
        ((0.1, -0.1, 0.3), "warning: costs alone may rank as well", True),
        ((-0.1, -0.3, 0.1), "warning: costs alone rank as well as", True),
        ((-0.2, -0.3, -0.1), "warning: costs alone rank better than", True),
    ],
)
def test_costs_that_rank_as_well_are_warned_of(
    margin: tuple[float, float, float], expected: str, warns: bool
) -> None:
    found = _set_margin(make_audit(RISING, RISING), *margin)
    lines = list_advice(found)
    assert lines[0].startswith(expected)
    assert any("--calibrate-alone" in line for line in lines) is warns
    narrows = any("--networks 32" in line for line in lines)
    assert narrows is (margin[1] < 0 < margin[2]), "more networks tell what is open"


def test_advice_goes_by_how_the_supernet_was_trained() -> None:
    shared = make_audit(WORSE, RISING, training=TrainingRecord(steps=700, passes=2800))
    assert any("not one for 4" in line and "--recipes spos tells" in line
               for line in list_advice(shared))  # fmt: skip
    both = TrainingRecord(steps=700, passes=2800, optimizer="sgd")
    said = " ".join(list_advice(make_audit(WORSE, RISING, training=both)))
    assert "not one for 4, and steps on matrices" in said
    assert "--recipes spos+muon tells" in said
    by_sgd = TrainingRecord(steps=2800, passes=2800, optimizer="sgd")
    found = make_audit(WORSE, RISING, training=by_sgd)
    assert any("--recipes muon tells" in line for line in list_advice(found))
    tried = RecipeRecord(name="muon", key="0" * 12, changes={}, steps=9, passes=9, cpu_seconds=1.0)
    assert not any("--recipes" in line for line in list_advice(found.replace(recipes=(tried,))))
    single = make_audit(
        WORSE, RISING, training=TrainingRecord(steps=2800, passes=2800, optimizer="muon")
    )
    assert any(line.startswith("Train longer") for line in list_advice(single))
    ranked = _set_margin(make_audit(RISING, RISING), -0.1, -0.3, 0.1)
    assert not any("longer" in line for line in list_advice(ranked)), "more passes rank no better"
    fine = _set_margin(make_audit(RISING, RISING), 0.2, 0.1, 0.3)
    assert len(list_advice(fine)) == 1, "nothing to change"


def test_advised_commands_have_the_options_that_are_named() -> None:
    single = TrainingRecord(steps=2800, passes=2800)
    found = make_audit(WORSE, RISING, training=single)
    recipe = RecipeRecord(name="spos", key="0" * 12, changes={}, steps=9, passes=9, cpu_seconds=1.0)
    audits = (
        _set_margin(found, -0.1, -0.3, 0.1),
        found.replace(recipes=(recipe,), preferred=("spos",)),
        make_audit(WORSE, RISING, training=TrainingRecord(steps=700, passes=2800)),
    )
    said = " ".join(line for audit in audits for line in list_advice(audit))
    commands = [text.split()[1:] for text in re.findall(r"`(supernet [^`]*)`", said)]
    assert {name for name, *_ in commands} == {"finetune", "search", "train"}
    group = typer.main.get_command(app)
    for name, *arguments in commands:
        # Raises where an option is unknown, is missing or has a value of another type.
        group.commands[name].make_context(name, arguments)  # type: ignore[attr-defined]
    # An audit that has other settings than the usual ones is not that of a bare command.
    assert "the command of this audit with --recipes spos" in said


def test_audits_of_earlier_releases_are_read_and_judged() -> None:
    payload = json.loads(RECORDED.read_text())
    old = parse_record(payload, AuditRecord, "audit.json", "restore it")
    assert (old.training, old.recipes, old.kendall_tau_above_macs) == (None, (), None)
    assert "too few" in describe_worth(old)
    assert list_figures(old)

    new = to_json(make_audit(SHUFFLED, RISING))
    for name in ("kendall_tau_above_macs", "groups", "training"):
        new.pop(name, None)
    found = parse_record(new, AuditRecord, "audit.json", "restore it")
    assert "Kendall's tau 0.82" in describe_worth(found)
    # Costs rank these perfectly; how far that may be luck was not recorded.
    assert list_advice(found)[0] == (
        "warning: costs alone rank these networks as well as inherited weights."
    )
    assert "not with other samples" in describe_intervals(found)
