"""What inherited weights alone tell: quality, nested networks, choices, recalibration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from app.auditing.work import Work
from app.records.audit import ViolationRecord
from app.records.audit_pieces import CurvePiece, InheritedPiece, NestedPiece, ProbePiece
from supernet.quality import audit
from supernet.space import Architecture, Choice
from supernet.supernet import Supernet

CHAIN = 6


class Examination:
    """Everything that is examined without training.

    Args:
        work: The audit.
    """

    def __init__(self, work: Work) -> None:
        self.work = work
        self.request, self.trained, self.pieces = work.request, work.trained, work.pieces
        self._ends: dict[Architecture, NDArray[np.float64]] = {}

    def examine(self, architectures: list[Architecture]) -> None:
        """Everything that inherited weights alone can tell."""
        for number, architecture in enumerate(architectures, start=1):
            self.work.once(
                self.pieces.inherited,
                f"inherited/{architecture.digest}",
                partial(self._inherited, architecture),
            )
            self.work.count("evaluating inherited weights", number, len(architectures), "network")
        if not self.request.probes:
            return
        self._examine_nested()
        self._probe_choices()
        ends = (architectures[0], architectures[-1])
        for number, architecture in enumerate(ends, start=1):
            self.work.once(
                self.pieces.curves,
                f"curve/{architecture.digest}",
                partial(self._curve, architecture),
            )
            self.work.count("examining recalibration", number, len(ends), "network")

    def _examine_nested(self) -> None:
        supernet, known = self.trained.supernet, self.pieces.nested
        for number in range(self.request.probes):
            self.work.once(known, f"chain/{number}", partial(self._chain, number))
            self.work.count("examining nested networks", number + 1, self.request.probes, "chain")
        unordered = audit.find_unordered_choices(supernet)
        ordered = [c.name for c in _real_choices(supernet) if c.name not in unordered]
        for number, name in enumerate(ordered, start=1):
            self.work.once(known, f"corner/{name}", partial(self._corner, name))
            self.work.count("examining both ends", number, len(ordered), "choice")

    def _probe_choices(self) -> None:
        choices = _real_choices(self.trained.supernet)
        for done, choice in enumerate(choices, start=1):
            for number in range(self.request.probes):
                key = f"probe/{choice.name}/{number}"
                self.work.once(self.pieces.probes, key, partial(self._probe, choice.name, number))
            self.work.count("probing effects", done, len(choices), "choice")

    def _inherited(self, architecture: Architecture) -> InheritedPiece:
        numbers = self.work.evaluate(self.trained.supernet, architecture)
        return InheritedPiece(architecture=architecture.to_dict(), **numbers)

    def _chain(self, number: int) -> NestedPiece:
        rng = np.random.default_rng([self.request.seed, 1, number])
        supernet = self.trained.supernet
        return self._nested(
            audit.draw_chain(supernet.space, rng, CHAIN, audit.find_unordered_choices(supernet))
        )

    def _corner(self, name: str) -> NestedPiece:
        first, second = (
            self._nested(pair) for pair in audit.pair_corners(self.trained.supernet.space, name)
        )
        return NestedPiece(
            values=first.values + second.values,
            pairs=first.pairs + second.pairs,
            violations=first.violations + second.violations,
        )

    def _nested(self, members: Sequence[Architecture]) -> NestedPiece:
        qualities = [self._quality(member) for member in members]
        groups = self.trained.data.split(self.request.split).groups
        pairs, found = audit.find_violations(members, qualities, groups)
        return NestedPiece(
            values=tuple(float(q.mean()) for q in qualities),
            pairs=pairs,
            violations=tuple(
                ViolationRecord(
                    smaller=v.smaller.to_dict(),
                    larger=v.larger.to_dict(),
                    drop=v.drop,
                    error=v.error,
                )
                for v in found
            ),
        )

    def _quality(self, architecture: Architecture) -> NDArray[np.float64]:
        """Quality of each sample; the two ends of the space are asked for again and again."""
        known = self._ends.get(architecture)
        if known is None:
            trained = self.trained
            known = audit.measure_quality(
                trained.supernet, architecture, trained.data, self.request.split
            )
            if architecture in (trained.supernet.space.smallest, trained.supernet.space.largest):
                self._ends[architecture] = known
        return known

    def _probe(self, name: str, number: int) -> ProbePiece:
        trained = self.trained
        space = trained.supernet.space
        rng = np.random.default_rng([self.request.seed, 2, space.index(name), number])
        pair = audit.draw_pair(space, name, rng)
        found = audit.measure_effect(trained.supernet, name, pair, trained.data, self.request.split)
        return ProbePiece(
            choice=name,
            lower=found.lower.to_dict(),
            higher=found.higher.to_dict(),
            change=found.change,
            output_change=found.output_change,
            identical=found.identical,
        )

    def _curve(self, architecture: Architecture) -> CurvePiece:
        trained = self.trained
        split = self.request.split
        curve = audit.measure_recalibration(trained.supernet, architecture, trained.data, split)
        if curve is None:
            return CurvePiece(batches=())
        return CurvePiece(
            batches=curve.batches,
            batch_size=curve.batch_size,
            values=curve.values,
            settled=curve.settled,
        )


def _real_choices(supernet: Supernet) -> list[Choice]:
    return [choice for choice in supernet.space.choices if len(choice.values) > 1]
