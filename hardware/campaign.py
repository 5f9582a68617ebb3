"""A measurement campaign: many models, visited in random order, resumable after a kill."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np

from hardware.backend import Timer
from hardware.device import Device, digest_fingerprint
from hardware.timing import (
    Effort,
    Measurement,
    Progress,
    Quiet,
    load_reference,
    load_timer,
    summarise_all,
    visit,
)
from supernet.checksums import append_record, read_log
from supernet.errors import InputError
from supernet.files import set_aside
from supernet.graph.language import Graph

# Networks whose sessions are alive at the same time: several visits share one loading, which
# costs ten times as much as a visit, without holding every network's weights in memory.
_RESIDENT = 8

_FLUSH_S = 0.5

NETWORK_EFFORT = Effort(warmup=1, least=3, most=12, budget_ms=4.0)
"""How long one visit to a whole network lasts."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One model to measure.

    Args:
        key: Its name in the log.
        graph: The model.
        visits: How often it is visited in every pass; the session of one that is visited more than
            once stays loaded in between.
    """

    key: str
    graph: Graph
    visits: int = 1


@dataclass(frozen=True, slots=True)
class Campaign:
    """What to measure, and how often.

    Args:
        subjects: The models.
        passes: How often every session is loaded anew.
        seed: Draws the order and the random weights.
        units: How long a visit to a subject lasts that is visited once per pass.
        networks: How long a visit to a subject lasts that is visited several times per pass.
        seconds: No pass after the second is begun where it is likely to end later than this.
    """

    subjects: tuple[Subject, ...]
    passes: int
    seed: int
    units: Effort
    networks: Effort
    seconds: float = float("inf")

    def digest(self, device: Device) -> str:
        """Condense what a log has to be of to belong to this campaign on this device.

        Returns:
            16 hexadecimal digits.
        """
        subjects = [[s.key, s.graph.digest, s.visits] for s in self.subjects]
        efforts = [asdict(self.units), asdict(self.networks)]
        where = digest_fingerprint(device.fingerprint())
        text = json.dumps([subjects, self.passes, self.seed, *efforts, where])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def plan_steps(self) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """Plan ``(pass, group, subjects in visiting order)`` for every group of a pass.

        Within a group a few networks stay loaded and their visits are spread over an equal
        share of the other subjects. The order is a function of the seed alone.
        """
        once = [i for i, s in enumerate(self.subjects) if s.visits == 1]
        often = [i for i, s in enumerate(self.subjects) if s.visits > 1]
        groups = max(1, -(-len(often) // _RESIDENT))
        for number in range(self.passes):
            rng = np.random.default_rng((self.seed, number))
            single, several = rng.permutation(once), rng.permutation(often)
            for group in range(groups):
                repeated = [
                    i for i in several[group::groups] for _ in range(self.subjects[i].visits)
                ]
                order = rng.permutation(np.array([*single[group::groups], *repeated], dtype=int))
                yield number, group, tuple(int(i) for i in order)

    def count_visits(self) -> int:
        """Count the visits that are planned."""
        return self.passes * sum(s.visits for s in self.subjects)


@dataclass(frozen=True)
class Visits:
    """What a campaign measured.

    Args:
        by_key: For each subject ``(pass, samples)`` of every visit; samples are nanoseconds
            ``(n, 3)`` of the model, the reference before and the reference after.
    """

    by_key: dict[str, list[tuple[int, np.ndarray]]]

    def select_passes(self, wanted: Sequence[int]) -> dict[str, list[np.ndarray]]:
        """Gather the samples of the given passes; subjects without any are left out."""
        chosen = {
            key: [samples for number, samples in rows if number in wanted]
            for key, rows in self.by_key.items()
        }
        return {key: rows for key, rows in chosen.items() if rows}

    def count_visits(self) -> int:
        """Count the visits that were made."""
        return sum(len(rows) for rows in self.by_key.values())

    def count_passes(self) -> int:
        """Count the passes that were carried out."""
        return 1 + max(number for rows in self.by_key.values() for number, _ in rows)


def run_campaign(
    campaign: Campaign,
    device: Device,
    *,
    log: Path | None = None,
    resume: bool = True,
    replaces: str | None = None,
    progress: Progress | None = None,
) -> Visits:
    """Carry out a campaign, or what is left of it.

    Args:
        campaign: The plan.
        device: Where they run.
        log: File that visits are appended to, half a second at a time.
        resume: Continue a log of the same campaign; a log of another one is replaced.
        replaces: Digest of the result that this campaign is made to replace. Only a log that was
            begun to replace the same one is continued then: any other has led to its result.
        progress: Called with the number of visits done and planned.

    Returns:
        Every planned visit, or those of fewer passes if the time was up.
    """
    done: dict[int, list[list[int]]] = {}
    last = campaign.passes
    digest = ""
    if log is not None:
        digest = campaign.digest(device)
        done, last = _read_log(log, campaign, digest, resume, replaces)
    started = time.monotonic()
    found: dict[str, list[tuple[int, np.ndarray]]] = {s.key: [] for s in campaign.subjects}
    writer = _Writer(log, digest)
    reference: Timer | None = None
    place, total = 0, campaign.count_visits()
    try:
        for number, group, order in campaign.plan_steps():
            if group == 0 and number >= 2:
                if last == campaign.passes and _is_late(campaign, number, started):
                    last = number
                    writer.close(last)
                if number >= last:
                    break
            live: dict[int, Timer] = {}
            for index in order:
                subject = campaign.subjects[index]
                if place in done:
                    samples = np.array(done[place], dtype=np.int64)
                else:
                    reference = reference or load_reference(device)
                    timer = live.get(index) or load_timer(
                        subject.graph, device, campaign.seed + number
                    )
                    if subject.visits > 1:
                        live[index] = timer
                    effort = campaign.networks if subject.visits > 1 else campaign.units
                    samples = visit(timer, reference, effort)
                    writer.add(place, samples)
                found[subject.key].append((number, samples))
                place += 1
                if progress is not None:
                    progress(place, total)
    finally:
        writer.flush()
    return Visits(found)


def measure_networks(
    graphs: Sequence[Graph],
    device: Device,
    *,
    rounds: int = 4,
    visits: int = 6,
    seed: int = 0,
    quiet: Quiet | None = None,
    progress: Progress | None = None,
) -> list[Measurement]:
    """Measure whole networks, interleaved in random order, with random weights at batch 1.

    Args:
        graphs: The networks.
        device: Where they run.
        rounds: Freshly loaded sessions of each network.
        visits: Visits to each session.
        seed: Draws the order and the weights.
        quiet: ``LatencyTable.quiet``, to be on the table's scale.
        progress: Called with the number of visits done and planned.

    Returns:
        One measurement per graph, in order; ``low_ms`` and ``high_ms`` bound the latency.

    Raises:
        InputError: ``rounds`` or ``visits`` is not positive, or the device cannot be used.
    """
    if rounds < 1 or visits < 1:
        raise InputError(f"rounds = {rounds}, visits = {visits} measures nothing; use 1 or more")
    if not graphs:
        return []
    subjects = tuple(Subject(str(i), g, visits) for i, g in enumerate(graphs))
    campaign = Campaign(subjects, rounds, seed, NETWORK_EFFORT, NETWORK_EFFORT)
    found = run_campaign(campaign, device, progress=progress)
    summary, _ = summarise_all({}, found.select_passes(range(rounds)), device.clock, known=quiet)
    return [summary[s.key] for s in subjects]


class _Writer:
    """Appends visits to the log, several to a line."""

    def __init__(self, log: Path | None, campaign: str) -> None:
        self._log, self._campaign = log, campaign
        self._waiting: list[list[object]] = []
        self._flushed = time.monotonic()

    def add(self, place: int, samples: np.ndarray) -> None:
        self._waiting.append([place, samples.tolist()])
        if time.monotonic() - self._flushed > _FLUSH_S:
            self.flush()

    def close(self, passes: int) -> None:
        """Note that the campaign ended after so many passes because the time was up."""
        self.flush()
        if self._log is not None:
            append_record(self._log, {"campaign": self._campaign, "passes": passes})

    def flush(self) -> None:
        if self._log is not None and self._waiting:
            append_record(self._log, {"campaign": self._campaign, "visits": self._waiting})
        self._waiting = []
        self._flushed = time.monotonic()


def _is_late(campaign: Campaign, done: int, started: float) -> bool:
    """Tell whether one more pass, as long as those before, would end after the time limit."""
    return (time.monotonic() - started) * (done + 1) / done > campaign.seconds


def read_replaced(log: Path) -> str | None:
    """Read the digest of the result that the campaign of a log was made to replace, if any."""
    records = [record for record in read_log(log) if isinstance(record, dict)]
    found = next((record["replaces"] for record in records if "replaces" in record), None)
    return found if isinstance(found, str) else None


def _read_log(
    log: Path, campaign: Campaign, digest: str, resume: bool, replaces: str | None
) -> tuple[dict[int, list[list[int]]], int]:
    """Read visits by step and the number of passes; start a log if none is of this campaign.

    What a damaged line held is measured again.
    """
    records = read_log(log) if resume else []
    header = {"campaign": digest} | ({} if replaces is None else {"replaces": replaces})
    # Without a result to replace, a log that replaced one serves to make it again.
    if not any(isinstance(r, dict) and header.items() <= r.items() for r in records):
        if any(r is None for r in records):
            # Whether it was of this campaign cannot be told.
            set_aside(log)
        log.unlink(missing_ok=True)
        append_record(log, header)
        return {}, campaign.passes
    passes, total = campaign.passes, campaign.count_visits()
    done: dict[int, list[list[int]]] = {}
    for record in records:
        # Earlier releases wrote the visits alone.
        known = record if isinstance(record, dict) else {"campaign": digest, "visits": record}
        if known.get("campaign", digest) != digest:
            continue
        ended = known.get("passes")
        if _is_count(ended, 2, campaign.passes):
            passes = ended
        visits = known.get("visits")
        for made in visits if _is_list(visits) else ():
            if _is_visit(made, total):
                done[made[0]] = made[1]
    return done, passes


def _is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def _is_count(value: object, least: int, most: int) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_visit(value: object, total: int) -> TypeGuard[tuple[int, list[list[int]]]]:
    """Whether it is a step and its samples, three times in nanoseconds each."""
    if not (_is_list(value) and len(value) == 2 and _is_count(value[0], 0, total - 1)):
        return False
    samples = value[1]
    return (
        _is_list(samples)
        and len(samples) > 0
        and all(
            _is_list(row) and len(row) == 3 and all(_is_count(part, 0, 2**62) for part in row)
            for row in samples
        )
    )
