"""What an audit says of a supernet in sentences: what it is worth, and what to change."""

from __future__ import annotations

from app.progress import WARNING
from app.records.audit import (
    FEWEST_JUDGED,
    AuditRecord,
    QualityRecord,
    RecipeRecord,
    Statistic,
)
from app.records.numbers import format_digits, format_items

_MINUS = "\N{MINUS SIGN}"
# Networks that an audit which could tell little should have.
_MORE = 32
# From so many passes a step, several networks share one.
_SHARED_STEP = 1.5
SINGLE_PATH, ORTHOGONAL = "spos", "muon"


def describe_worth(found: AuditRecord) -> str:
    """The gap to training alone and the ranking, beside that of costs alone, in one sentence."""
    count = len(found.networks)
    if count < FEWEST_JUDGED:
        return (
            f"{format_items(count, 'network')} are too few to say what inherited weights are "
            f"worth; audit {FEWEST_JUDGED} or more (--networks {2 * FEWEST_JUDGED} --name more)."
        )
    gap = found.gap
    sentence = (
        f"Inherited {found.objective} is {_compare(found, gap.value)} stand-alone in the mean over "
        f"these {count} networks (95 % confidence interval of the mean: "
        f"{show_gap(found, gap.low)} to {show_gap(found, gap.high)}; single networks: "
        f"{show_gap(found, min(found.worst_gap, found.best_gap))} to "
        f"{show_gap(found, max(found.worst_gap, found.best_gap))})"
    )
    tau, costs = found.kendall_tau, found.kendall_tau_of_macs
    if found.spread.alone == 0:
        return f"{sentence}; alone they are equally good, so that there is no ranking to compare."
    if tau.value is None:
        return f"{sentence}; it is the same for all of them, so that it ranks none."
    of_costs = (
        "their costs (MACs) are equal"
        if costs.value is None
        else f"costs alone (MACs) rank with {show_statistic(costs)}"
    )
    return f"{sentence} and ranks them with Kendall's tau {show_statistic(tau)}; {of_costs}."


def describe_intervals(found: AuditRecord) -> str:
    """What luck the intervals of an audit count, and what luck they do not."""
    samples = (
        "not with other samples, whose scores were not kept"
        if found.groups is None
        else f"other samples ({format_items(found.groups, 'independent group')} of "
        f"{format_items(found.samples, 'sample')})"
        if found.groups < found.samples
        else "other samples"
    )
    joined = f"and {samples}" if found.groups is not None else f"({samples})"
    return (
        f"Intervals of 95 % say how far a statistic may move with other networks {joined}; "
        "another seed of the supernet is not part of them."
    )


def list_advice(found: AuditRecord) -> list[str]:
    """Whether costs alone rank as well, as a warning, and what to change; a sentence each.

    Nothing is advised where an audit is too small to tell, or where nothing is wrong.
    """
    if len(found.networks) < FEWEST_JUDGED:
        return []
    ranking, warns = _judge_margin(found)
    behind = _is_behind(found)
    lines = [ranking] if ranking else []
    lines += _advise_training(found, behind=behind) if warns or behind else []
    if behind:
        lines.append("Finish the network that you deploy: `supernet finetune --run RUN --arch A`.")
    if warns:
        lines.append(
            "Calibrate a ranking by some networks trained alone: "
            "`supernet search --run RUN --calibrate-alone 16`."
        )
        if len(found.networks) < _MORE and _is_open(found.kendall_tau_above_macs):
            lines.append(
                f"Audit more networks, which narrows the intervals: --networks {_MORE} --name more."
            )
    return lines


def judge_recipe(found: AuditRecord, recipe: RecipeRecord) -> str:
    """What the supernet of another recipe is worth beside that of the run, in one sentence."""
    compared = recipe.comparison
    if compared is None:
        return f"{recipe.name} diverged: {recipe.diverged}."
    verdict = {
        "better": "is to be preferred to the run's own recipe",
        "worse": "is worse than the run's own recipe",
        "mixed": "gains one and loses the other beside the run's own recipe",
        "alike": "cannot be told from the run's own recipe",
    }[compared.judgement]
    return (
        f"{recipe.name} {verdict}: {_show_gain(found, compared.quality_gain)} of "
        f"{found.objective}{'' if found.higher_is_better else ' (positive is better)'}, "
        f"{show_statistic(compared.tau_gain, signed=True)} of tau."
    )


def judge_recipes(found: AuditRecord) -> list[str]:
    """A sentence for each recipe that was tried, and which of all to prefer."""
    if not found.recipes:
        return []
    lines = [judge_recipe(found, recipe) for recipe in found.recipes]
    if found.preferred:
        best, *others = found.preferred
        alike = f", which cannot be told from {' and '.join(others)} here" if others else ""
        lines.append(
            f"Prefer {best}{alike}: what it gains is more than its uncertainty, and what it loses "
            "is not."
        )
    else:
        lines.append("None is better than the run's own recipe by more than its uncertainty.")
    lines.append(
        "Each was trained once, with the seed of the run; intervals of differences are so wide "
        "that all of them hold at once in 95 % of audits, other seeds of supernets not counted."
    )
    return lines


def show_gap(found: AuditRecord, value: float) -> str:
    """A gap with a sign and without its unit: points of accuracy, nats per token of loss."""
    shown = f"{100 * abs(value):.1f}" if found.unit == "fraction" else format_digits(abs(value))
    sign = "" if not shown.strip("0.") else "+" if value > 0 else _MINUS
    return f"{sign}{shown}"


def show_statistic(found: Statistic, *, signed: bool = False) -> str:
    """A statistic with its interval: ``0.85 (0.62 to 1.00)``."""

    def show(value: float) -> str:
        text = f"{abs(value):.2f}"
        sign = _MINUS if value < 0 and text.strip("0.") else "+" if signed and value > 0 else ""
        return f"{sign}{text}"

    if found.value is None:
        return "undefined"
    if found.low is None or found.high is None:
        return show(found.value)
    return f"{show(found.value)} ({show(found.low)} to {show(found.high)})"


def _compare(found: AuditRecord, value: float) -> str:
    """``2.0 points below``; what is better or worse of a loss is said, too."""
    shown = show_gap(found, value).lstrip(f"+{_MINUS}")
    unit = "points" if found.unit == "fraction" else "nats per token"
    if not shown.strip("0."):
        return "equal to"
    side = "above" if value > 0 else "below"
    if not found.higher_is_better:
        side = f"{side} ({'worse' if value > 0 else 'better'} than)"
    return f"{shown} {unit} {side}"


def _show_gain(found: AuditRecord, gain: Statistic) -> str:
    if gain.value is None:
        return "an unknown gain"
    unit = "points" if found.unit == "fraction" else "nats per token"
    ends = (
        ""
        if gain.low is None or gain.high is None
        else f" ({show_gap(found, gain.low)} to {show_gap(found, gain.high)})"
    )
    return f"{show_gap(found, gain.value)} {unit}{ends}"


def _is_behind(found: AuditRecord) -> bool:
    """Whether inherited qualities are worse than those alone, beyond the uncertainty."""
    gap: QualityRecord = found.gap
    return gap.high < 0 if found.higher_is_better else gap.low > 0


def _is_open(margin: Statistic | None) -> bool:
    """Whether more networks could tell what an audit could not."""
    if margin is None or margin.low is None or margin.high is None:
        return True
    return margin.low <= 0 <= margin.high


def _judge_margin(found: AuditRecord) -> tuple[str, bool]:
    """Whether inherited weights rank better than costs alone, in a sentence; and if to warn."""
    tau, costs = found.kendall_tau.value, found.kendall_tau_of_macs.value
    margin = found.kendall_tau_above_macs
    if tau is None or costs is None:
        return "", False
    if margin is None or margin.value is None or margin.low is None or margin.high is None:
        if tau > costs:
            return "", False
        return f"{WARNING}costs alone rank these networks as well as inherited weights.", True
    shown = f"tau differs by {show_statistic(margin, signed=True)}"
    if margin.low > 0:
        return f"Inherited weights rank better than costs alone: {shown}.", False
    if margin.high < 0:
        return f"{WARNING}costs alone rank better than inherited weights: {shown}.", True
    if margin.value <= 0:
        return f"{WARNING}costs alone rank as well as inherited weights: {shown}.", True
    count = len(found.networks)
    return (
        f"{WARNING}costs alone may rank as well: that inherited weights rank better is not shown "
        f"by these {count} networks ({shown}).",
        True,
    )


def _advise_training(found: AuditRecord, *, behind: bool) -> list[str]:
    """How to train another supernet; longer only where that is what is missing."""
    if found.preferred:
        name = found.preferred[0]
        steps = next(recipe.steps for recipe in found.recipes if recipe.name == name)
        return [
            "Train with the recipe that was better here: `supernet train --out NEW --recipe "
            f"{name} --steps {steps}` with the other options of the run, or longer."
        ]
    training, tried = found.training, {recipe.name for recipe in found.recipes}
    each = 1.0 if training is None else training.passes / max(1, training.steps)
    changes = []
    if each >= _SHARED_STEP:
        changes.append(
            (SINGLE_PATH, f"an optimiser step for every network, not one for {each:.3g}")
        )
    if training is not None and training.optimizer not in (None, ORTHOGONAL):
        changes.append((ORTHOGONAL, "steps on matrices that are made orthogonal"))
    name = "+".join(method for method, _ in changes)
    if changes and name not in tried:
        return [
            f"Take {', and '.join(what for _, what in changes)}: the command of this audit with "
            f"--recipes {name} tells what that brings here."
        ] + (["Or train longer."] if behind else [])
    return ["Train longer; docs/recipes.md has what more passes brought."] if behind else []
