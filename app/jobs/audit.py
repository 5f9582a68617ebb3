"""Auditing as a job: does the ranking by inherited weights hold when networks train alone?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from app.auditing.request import AuditRequest, alone_recipe, check_free, is_other, settings
from app.auditing.summary import report
from app.records.audit import read_audit
from app.runs import plugins
from app.runs.directory import Run, open_run, writing
from app.runs.trained import Say, Trained, best_device, open_trained
from supernet import files
from supernet.quality import audit
from supernet.quality.evaluate import Evaluation, evaluate
from supernet.space import Architecture
from supernet.supernet import Supernet
from supernet.training import Progress, Recipe, train
from supernet.training.standalone import standalone

CHAIN = 6


@dataclass(frozen=True)
class AuditOutcome:
    """A finished audit.

    Args:
        run: The run.
        audit: Its name.
        folder: Where it is stored.
        stored: Whether it was there already, complete.
        report: The content of ``audit.json``.
    """

    run: Path
    audit: str
    folder: Path
    stored: bool
    report: Mapping[str, Any]


def audit_job(request: AuditRequest, say: Say) -> AuditOutcome:
    """Train networks alone, compare, and examine the inherited weights; a killed one continues.

    Args:
        request: What to audit.
        say: Told about progress.

    Raises:
        ValueError: The run is not trained, its data is gone, settings are impossible, or the
            name belongs to an audit with other settings.
        FloatingPointError: A stand-alone training diverged.
        OSError: The disk is full; what is finished is kept.
    """
    run = open_run(request.run)
    trained = open_trained(run, say)
    folder = run.audit(request.name)
    recipe = alone_recipe(request, trained)
    plan = settings(request, trained, recipe)
    check_free(folder, plan, request.replace)
    if not is_other(folder, plan) and (folder / "audit.json").exists():
        # What is only read needs no lock, and may lie on a read-only disk.
        say(f"audit {request.name}: already complete")
        return AuditOutcome(run.path, request.name, folder, True, read_audit(folder))
    architectures = _networks(request, trained)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder):
        if is_other(folder, plan):
            _clear(folder)
        files.write_json(folder / "settings.json", plan)
        task = _Audit(request, trained, recipe, folder, say)
        task.examine(architectures)
        for number, architecture in enumerate(architectures, start=1):
            task.train_alone(number, architecture)
        found = report(task.records, plan, trained)
        files.write_text(folder / "scatter.svg", _draw(found, run.path.resolve().name))
        # Last, because it says that everything else is there.
        files.write_json(folder / "audit.json", found)
        shutil.rmtree(folder / "training", ignore_errors=True)
    return AuditOutcome(run.path, request.name, folder, False, found)


def _draw(found: Mapping[str, Any], name: str) -> str:
    # Loading Altair takes a second, which a command that draws nothing should not wait for.
    from app.reporting.audit_chart import draw_audit
    from app.reporting.svg import render_svg

    tau = found["kendall_tau"]["value"]
    shown = "undefined" if tau is None else f"{tau:.2f}"
    return render_svg(
        draw_audit(found),
        f"{name}: Kendall tau {shown} over {len(found['networks'])} networks ({found['split']})",
        subtitle="lines: 95 % intervals; dashed: equally good",
        width=560,
        height=480,
    )


class _Audit:
    """The work of one audit: each finished piece is a line of ``records.jsonl``, made once."""

    def __init__(
        self, request: AuditRequest, trained: Trained, recipe: Recipe, folder: Path, say: Say
    ) -> None:
        self.request, self.trained, self.recipe = request, trained, recipe
        self.folder, self.say = folder, say
        self.path = folder / "records.jsonl"
        self._ends: dict[Architecture, NDArray[np.float64]] = {}
        found = files.read_records(self.path)
        self.records: dict[str, dict[str, Any]] = {
            r["key"]: r for r in found if isinstance(r, dict) and isinstance(r.get("key"), str)
        }

    def once(self, key: str, make: Callable[[], Mapping[str, Any]]) -> None:
        if key not in self.records:
            began = time.perf_counter()
            record = {"key": key, **make(), "seconds": round(time.perf_counter() - began, 3)}
            files.append_record(self.path, record)
            self.records[key] = record

    def examine(self, architectures: list[Architecture]) -> None:
        """Everything that inherited weights alone can tell."""
        supernet, split = self.trained.supernet, self.request.split
        data = self.trained.data
        for architecture in architectures:
            self.once(
                f"inherited/{architecture.digest}",
                lambda a=architecture: {  # type: ignore[misc]
                    "architecture": a.to_dict(), **_numbers(evaluate(supernet, a, data, split)),
                },
            )  # fmt: skip
        self.say(f"audit: {len(architectures)} networks evaluated with inherited weights")
        if not self.request.probes:
            return
        for number in range(self.request.probes):
            self.once(f"chain/{number}", lambda n=number: self._chain(n))  # type: ignore[misc]
        choices = [c for c in supernet.space.choices if len(c.values) > 1]
        for name in (c.name for c in choices if c.name not in audit.unordered(supernet)):
            self.once(f"corner/{name}", lambda n=name: self._corner(n))  # type: ignore[misc]
        self.say(f"audit: {self.request.probes} chains of nested networks examined, and both ends")
        for done, choice in enumerate(choices, start=1):
            for number in range(self.request.probes):
                self.once(
                    f"probe/{choice.name}/{number}",
                    lambda c=choice.name, n=number: self._probe(c, n),  # type: ignore[misc]
                )
            if done % 10 == 0 or done == len(choices):
                self.say(f"audit: effect of {done}/{len(choices)} choices probed")
        for architecture in (architectures[0], architectures[-1]):
            self.once(
                f"curve/{architecture.digest}",
                lambda a=architecture: self._curve(a),  # type: ignore[misc]
            )
        self.say("audit: recalibration examined")

    def _chain(self, number: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.request.seed, 1, number])
        supernet = self.trained.supernet
        return self._nested(audit.chain(supernet.space, rng, CHAIN, audit.unordered(supernet)))

    def _corner(self, name: str) -> dict[str, Any]:
        found = [self._nested(pair) for pair in audit.corners(self.trained.supernet.space, name)]
        return {key: found[0][key] + found[1][key] for key in found[0]}

    def _nested(self, members: Sequence[Architecture]) -> dict[str, Any]:
        qualities = [self._quality(member) for member in members]
        pairs, found = audit.violations(members, qualities)
        return {
            "values": [float(q.mean()) for q in qualities],
            "pairs": pairs,
            "violations": [
                {"smaller": v.smaller.to_dict(), "larger": v.larger.to_dict(),
                 "drop": v.drop, "error": v.error}
                for v in found
            ],
        }  # fmt: skip

    def _quality(self, architecture: Architecture) -> NDArray[np.float64]:
        """Quality of each sample; the two ends of the space are asked for again and again."""
        known = self._ends.get(architecture)
        if known is None:
            trained = self.trained
            known = audit.quality(trained.supernet, architecture, trained.data, self.request.split)
            if architecture in (trained.supernet.space.smallest, trained.supernet.space.largest):
                self._ends[architecture] = known
        return known

    def _probe(self, name: str, number: int) -> dict[str, Any]:
        trained = self.trained
        space = trained.supernet.space
        rng = np.random.default_rng([self.request.seed, 2, space.index(name), number])
        pair = audit.probe(space, name, rng)
        found = audit.effect(trained.supernet, name, pair, trained.data, self.request.split)
        return {
            "choice": name,
            "lower": found.lower.to_dict(),
            "higher": found.higher.to_dict(),
            "change": found.change,
            "output_change": found.output_change,
            "identical": found.identical,
        }

    def _curve(self, architecture: Architecture) -> dict[str, Any]:
        trained = self.trained
        split = self.request.split
        curve = audit.calibration_curve(trained.supernet, architecture, trained.data, split)
        if curve is None:
            return {"batches": []}
        return {f.name: getattr(curve, f.name) for f in fields(curve)}

    def train_alone(self, number: int, architecture: Architecture) -> None:
        """Train one network from fresh weights, evaluate it, and drop its checkpoints."""
        folder = self.folder / "training" / architecture.digest
        title = f"audit: network {number}/{self.request.networks} ({architecture.digest})"
        self.once(
            f"alone/{architecture.digest}",
            lambda: self._alone(architecture, folder, lambda line: self.say(f"{title}, {line}")),
        )
        record = self.records[f"alone/{architecture.digest}"]
        self.say(f"{title}: {record['objective']} {record['value']:.4f} alone")
        shutil.rmtree(folder, ignore_errors=True)

    def _alone(self, architecture: Architecture, folder: Path, say: Say) -> dict[str, Any]:
        trained = self.trained
        sequence = np.random.SeedSequence([self.request.seed, int(architecture.digest, 16)])
        seed = int(sequence.generate_state(1)[0])
        alone = standalone(fresh_supernet(trained.run, seed), architecture).to(best_device())
        recipe = self.recipe.but({"seed": seed})
        result = train(alone, trained.data, recipe, folder, progress=lambda p: say(_line(p)))
        for note in result.notes:
            say(f"warning: {note}")
        only = alone.space.smallest
        found = evaluate(alone, only, trained.data, self.request.split)
        return {**_numbers(found), "steps": result.steps, "resumed_from": result.resumed_from}


def fresh_supernet(run: Run, seed: int) -> Supernet:
    """The supernet of a run with other initial weights, on the processor.

    Args:
        run: Whose family and configuration.
        seed: Of the weights.
    """
    record = run.record
    family = plugins.family(record["family"])
    config = family.from_json(record["family_config"])
    if "seed" in {field.name for field in fields(config)}:
        config = replace(config, seed=seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cast(Supernet, family.build(config))


def _networks(request: AuditRequest, trained: Trained) -> list[Architecture]:
    rng = np.random.default_rng([request.seed, 0])
    space = trained.supernet.space
    return audit.spread(space, trained.cost_model.macs, request.networks, rng)


def _clear(folder: Path) -> None:
    # The result goes first: a folder without it is an audit that has not finished.
    for name in ("audit.json", "records.jsonl", "scatter.svg"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "training", ignore_errors=True)


def _numbers(found: Evaluation) -> dict[str, Any]:
    return {
        "objective": found.objective, "unit": found.unit, "value": found.value,
        "low": found.low, "high": found.high, "samples": found.samples,
    }  # fmt: skip


def _line(progress: Progress) -> str:
    loss = progress.loss_largest
    left = (progress.steps - progress.step) * progress.seconds / max(1, progress.step)
    eta = f", {left:.0f} s left" if progress.seconds and progress.step < progress.steps else ""
    shown = "" if loss is None else f": loss {loss:.3f}"
    return f"step {progress.step}/{progress.steps}{shown}{eta}"
