"""What training a network on from its inherited weights is worth beside training it from scratch.

    python benchmarks/finetuning.py --seeds 3 --networks 8 --keep FOLDER --markdown
    python benchmarks/finetuning.py --split val --ways 0.125:1,0.25:1,0.25:none --keep FOLDER

A supernet is trained ``--seeds`` times by ``--recipe`` for ``--budget`` passes of single networks.
Of the ``--of`` networks that ``truth.py`` trains alone, ``--networks`` from the smallest to the
largest take the weights they inherit from each supernet and are fine-tuned for ``--steps`` steps,
in each of ``--ways``: the share of the supernet's peak rate, a colon, and the weight of the labels
beside the largest network as a teacher, or ``none`` without a teacher. On the test split they stand
beside the same networks trained from scratch for as many steps, ``--truth-seeds`` times. Ways are
to be chosen on ``--split val``, which trains nothing from scratch.

Everything is kept in FOLDER one training at a time, so that an interrupted run goes on where it
was. Networks alone are kept as ``truth.py`` keeps them, whose ``alone.jsonl`` may be copied there.
After a change of how networks train, take a new folder.

Differences are of the same networks on the same samples, and intervals of 90 %, by drawing base
images and seeds anew. Prints one JSON object, or with ``--markdown`` its table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _answers import group_samples
from _kept_run import run_kept
from _truth_records import Record, Records
from _truth_statistics import REPLICATES, Truth, make_interval, measure_recipe, round_all
from _truth_training import Task, Training, carry_out, carry_out_all
from _tuning import INHERITED, Tuning, Way, tune
from truth import FEWEST, add_task_options, make_plan, read_count, settle_task

from supernet.training.standalone import LABEL_SHARE, RATE_SHARE

SPLITS = ("val", "test")
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """Everything that one table needs.

    Args:
        task: What for, and which split is answered.
        macs: Multiply-accumulates of each network.
        alone: A training from scratch for each network and seed, network by network; none on val.
        inherited: For each supernet, the answers of all networks.
        tuned: For each way the fine-tunings, supernet by supernet.
    """

    task: Task
    macs: tuple[float, ...]
    alone: tuple[Training, ...]
    inherited: tuple[Tuning, ...]
    tuned: dict[Way, tuple[Tuning, ...]]


def plan_tunings(options: argparse.Namespace) -> Plan:
    """Choose networks, supernets and fine-tunings.

    Raises:
        InputError: The recipe is unknown, does not suit the family or needs a teacher from outside;
            or the space has not so many networks.
    """
    task = replace(options.task, split=options.split)
    whole = make_plan(
        task,
        argparse.Namespace(
            recipes=options.recipe,
            seeds=options.seeds,
            budget=options.budget,
            budgets=(1,),
            networks=options.of,
            truth_seeds=options.truth_seeds,
            alone_steps=options.steps,
            alone_recipe=None,
        ),
    )
    chosen = np.unique(np.linspace(0, options.of - 1, options.networks).round().astype(int))
    ((name, passes),) = whole.supernets
    supernets = whole.supernets[name, passes]
    networks = tuple(supernets[0].networks[i] for i in chosen)
    rows = tuple(supernets[0].rows[i] for i in chosen)
    folder, epoch = options.keep / "supernets", task.open().epoch
    # The weights of a supernet are the same whatever networks answer, and on which split.
    trainings = [replace(one, task=options.task, networks=(), rows=()) for one in supernets]
    tuned = {
        way: tuple(
            Tuning(
                one, folder, options.split, (network,), (row,), way,
                way.make_recipe(one.recipe, options.steps, epoch),
            )
            for one in trainings
            for network, row in zip(networks, rows, strict=True)
        )
        for way in options.ways
    }  # fmt: skip
    alone = [one for one in whole.alone if one.networks[0] in networks]
    return Plan(
        task,
        tuple(whole.macs[i] for i in chosen),
        tuple(alone) if options.split == options.task.split else (),
        tuple(Tuning(one, folder, options.split, networks, rows) for one in trainings),
        tuned,
    )


class Kept:
    """Everything that trainings left in a folder, but the weights of supernets.

    Raises:
        InputError: A file in it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._alone, self._tuned = (Records(folder / f"{n}.jsonl") for n in ("alone", "tuned"))

    def find(self, asked: Training | Tuning) -> Record | None:
        """Find what a training left, if it was carried out."""
        records = self._tuned if isinstance(asked, Tuning) else self._alone
        return records.find(asked.settings, asked.networks)

    def keep(self, asked: Training | Tuning, record: Record) -> None:
        """Write down what a training left."""
        (self._tuned if isinstance(asked, Tuning) else self._alone).append(record)

    def take(self, asked: Training | Tuning) -> Record:
        """Take what a training left that was carried out."""
        found = self.find(asked)
        assert found is not None
        return found


def carry_out_missing(plan: Plan, kept: Kept, jobs: int) -> None:
    """Train what is not kept: supernets first, because all fine-tunings begin with them."""
    tuned = [one for group in plan.tuned.values() for one in group]
    for work, asked in ((tune, plan.inherited), (tune, tuned), (carry_out, plan.alone)):
        missing = [one for one in asked if kept.find(one) is None]
        carry_out_all(work, missing, jobs, kept.keep)


def measure(plan: Plan, kept: Kept) -> dict[str, Any]:
    """Compare everything that a plan needs and that is kept."""
    groups = group_samples(plan.task.open(), plan.task.split)
    count = len(plan.macs)
    supernets = [kept.take(one) for one in plan.inherited]
    inherited = np.array([
        record.unpack(one.networks)
        for record, one in zip(supernets, plan.inherited, strict=True)
    ])  # fmt: skip
    macs = np.array(plan.macs)
    found: dict[str, Any] = {
        "task": plan.task.name,
        "split": plan.task.split,
        "networks": count,
        "samples": len(groups),
        "bases": len(np.unique(groups)),
        "supernet": {
            "recipe": plan.inherited[0].supernet.name,
            "steps": supernets[0].steps,
            "seeds": len(supernets),
            "cpu_seconds": float(np.mean([record.cpu_seconds for record in supernets])),
        },
    }
    truth = None
    # Whatever the reference is, its groups are those of the samples.
    base = Truth(macs, inherited.transpose(1, 0, 2), groups)
    if plan.alone:
        alone = [kept.take(one) for one in plan.alone]
        answers = np.concatenate([record.unpack(record.networks) for record in alone])
        truth = Truth(macs, answers.reshape(count, -1, len(groups)), groups)
        found["alone"] = {
            "steps": alone[0].steps,
            "seeds": truth.right.shape[1],
            "accuracy": float(truth.accuracy.mean()),
            "cpu_seconds": float(np.mean([record.cpu_seconds for record in alone])),
        }
    rows = [{"way": INHERITED, "name": INHERITED, "steps": 0, "cpu_seconds": 0.0,
             **compare(truth, base, inherited)}]  # fmt: skip
    for way, tunings in plan.tuned.items():
        records = [kept.take(one) for one in tunings]
        right = np.array([record.unpack(record.networks)[0] for record in records])
        rows.append({
            "way": str(way),
            "name": way.describe(),
            "steps": records[0].steps,
            "cpu_seconds": float(np.mean([record.cpu_seconds for record in records])),
            **compare(truth, base, right.reshape(len(supernets), count, len(groups))),
        })  # fmt: skip
    rounded: dict[str, Any] = round_all({**found, "ways": rows})
    return rounded


def compare(truth: Truth | None, inherited: Truth, right: Bools) -> dict[str, Any]:
    """Compare answers ``(seeds, n, samples)`` with those from scratch and with inherited ones."""
    found: dict[str, Any] = {"accuracy": float(right.mean())}
    gain, found["gain_90"] = measure_gain(inherited, right)
    found |= {"gain": gain}
    if truth is not None:
        of = measure_recipe(truth, right)
        names = ("gap", "gap_90", "worst_gap", "gap_smallest_third", "gap_middle_third",
                 "gap_largest_third", "tau")  # fmt: skip
        found |= {name: of[name] for name in names}
    return found


def measure_gain(inherited: Truth, right: Bools) -> tuple[float, tuple[float, float]]:
    """Mean gain of answers ``(seeds, n, samples)`` over inherited ones, in points, and interval.

    Each network is compared with itself in the same supernet, on the same samples.
    """
    before = inherited.count(inherited.right.transpose(1, 0, 2))
    gains = (inherited.count(right) - before).mean(axis=1)
    seeds, bases = gains.shape
    rng = np.random.default_rng(0)
    weights = rng.multinomial(bases, np.full(bases, 1 / bases), size=REPLICATES).T
    drawn = 100 * gains @ weights / (inherited.sizes @ weights)
    if seeds > 1:
        # As for the gap: one seed fewer than there are, which makes the variance of a mean right.
        picks = rng.integers(0, seeds, (seeds - 1, REPLICATES))
        drawn = np.take_along_axis(drawn, picks, axis=0)
    gain = 100 * float(gains.sum()) / seeds / float(inherited.sizes.sum())
    return gain, make_interval(gain, drawn.mean(axis=0))


def write_table(found: dict[str, Any]) -> str:
    """Write ways as the rows of a Markdown table, and a line on the rest."""
    header = ("networks", "steps", "CPU s", "accuracy, %", "over inherited (90 %)",
              "over from scratch (90 %)", "worst", "smallest / middle / largest third")  # fmt: skip
    lines = [header, ("---",) * len(header)]
    if "alone" in found:
        alone = found["alone"]
        lines.append((
            "from scratch", str(alone["steps"]), f"{alone['cpu_seconds']:.0f}",
            f"{100 * alone['accuracy']:.2f}", "", "", "", "",
        ))  # fmt: skip
    for row in found["ways"]:
        tuned, against = row["way"] != INHERITED, "gap" in row
        thirds = [row.get(f"gap_{part}_third") for part in ("smallest", "middle", "largest")]
        lines.append((
            row["name"],
            str(row["steps"]),
            f"{row['cpu_seconds']:.0f}",
            f"{100 * row['accuracy']:.2f}",
            _write(row["gain"], row["gain_90"]) if tuned else "",
            _write(row["gap"], row["gap_90"]) if against else "",
            f"{row['worst_gap']:+.1f}" if against else "",
            " / ".join(f"{value:+.1f}" for value in thirds) if against else "",
        ))  # fmt: skip
    supernet = found["supernet"]
    about = (
        f"{found['task']}, {found['split']} split ({found['samples']} samples of {found['bases']} "
        f"bases): {found['networks']} networks of {supernet['seeds']} supernets (`"
        f"{supernet['recipe']}`, {supernet['steps']} steps, {supernet['cpu_seconds']:.0f} CPU s)."
    )
    return "\n".join([*("| " + " | ".join(line) + " |" for line in lines), "", about])


def _write(value: float, interval: Sequence[float]) -> str:
    return f"{value:+.2f} ({interval[0]:+.2f} to {interval[1]:+.2f})"


def read_way(text: str) -> Way:
    """Read a way, ``RATE:LABELS`` or ``RATE:none``."""
    rate, _, share = text.partition(":")
    try:
        way = Way(float(rate), None if share == "none" else float(share))
    except ValueError:
        way = Way(-1.0, None)
    if not 0 < way.rate_share < float("inf") or not 0 <= (way.label_share or 0) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not RATE:LABELS, as 0.25:1 or 0.25:none are")
    return way


def read_ways(text: str) -> tuple[Way, ...]:
    """Read several, divided by commas."""
    return tuple(dict.fromkeys(read_way(part) for part in text.split(",")))


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    usual = (Way(RATE_SHARE, LABEL_SHARE), Way(RATE_SHARE, None))
    add_task_options(parser)
    parser.add_argument("--recipe", default="clutter", help="of the supernets")
    parser.add_argument("--ways", type=read_ways, default=usual, help="divided by commas")
    parser.add_argument("--split", choices=SPLITS, default="test", help="that networks answer")
    parser.add_argument("--seeds", type=read_count, default=3, help="supernets")
    parser.add_argument("--budget", type=read_count, default=2800, help="single passes of each")
    parser.add_argument("--networks", type=read_count, default=8, help="that are fine-tuned")
    parser.add_argument("--of", type=read_count, default=64, help="networks, as in truth.py")
    parser.add_argument("--steps", type=read_count, default=700, help="of a network, either way")
    parser.add_argument("--truth-seeds", type=read_count, default=2, help="of a network alone")
    parser.add_argument("--jobs", type=read_count, default=1, help="processes of one thread each")
    parser.add_argument("--keep", type=Path, required=True, help="folder of what is trained")
    parser.add_argument("--markdown", action="store_true", help="print the table instead of JSON")
    options = parser.parse_args(arguments)
    settle_task(options, parser)
    if not FEWEST <= options.networks <= options.of:
        parser.error(f"--networks {options.networks} must be from {FEWEST} to --of, {options.of}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is not kept, and print the comparison; returns the exit code."""
    options = read_arguments(arguments)

    def train_and_measure(plan: Plan) -> dict[str, Any]:
        kept = Kept(options.keep)
        carry_out_missing(plan, kept, options.jobs)
        return measure(plan, kept)

    write = write_table if options.markdown else None
    return run_kept(options.keep, lambda: plan_tunings(options), train_and_measure, write)


if __name__ == "__main__":
    sys.exit(main())
