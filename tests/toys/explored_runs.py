"""A run directory as the commands write it, made without training anything."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from supernet.space import Architecture, Choice, SearchSpace

BLOCKS = 2
STAGES = 3


def small_space() -> SearchSpace:
    """Three stages of one or two blocks with elastic kernel and expansion, two resolutions."""
    choices = [Choice("resolution", (6, 8), "resolution")]
    for stage in range(1, STAGES + 1):
        choices.append(Choice(f"stage{stage}.depth", (1, 2), "depth"))
        for block in range(1, BLOCKS + 1):
            needs = None if block == 1 else (f"stage{stage}.depth", block)
            name = f"stage{stage}.block{block}"
            choices.append(Choice(f"{name}.kernel", (3, 5), "kernel", needs))
            choices.append(Choice(f"{name}.expand", (2, 3, 4), "expand", needs))
    return SearchSpace(tuple(choices))


def breakdown(architecture: Architecture) -> list[dict[str, Any]]:
    """Made-up unit latencies that follow the choices."""
    choices = architecture.to_dict()
    scale = (float(choices["resolution"]) / 8) ** 2
    parts = [("normalize", 0.0021), ("stem", 0.0093 * scale)]
    for stage in range(1, STAGES + 1):
        for block in range(1, int(choices[f"stage{stage}.depth"]) + 1):
            kernel = float(choices[f"stage{stage}.block{block}.kernel"])
            expand = float(choices[f"stage{stage}.block{block}.expand"])
            cost = scale * expand * (0.004 + 0.0007 * kernel) * (1 + 0.4 * stage)
            parts.append((f"stages.{stage - 1}.{block - 1}", cost))
    parts.append(("head", 0.0124))
    return [{"unit": name, "latency_ms": round(cost, 5)} for name, cost in parts]


def point(architecture: Architecture, rng: np.random.Generator, loss: bool) -> dict[str, Any]:
    """One entry of ``points`` before it is known whether it is on the front."""
    parts = breakdown(architecture)
    table = 1.03 * sum(part["latency_ms"] for part in parts)
    latency = table * (1 + 0.02 * rng.standard_normal())
    predicted = 0.988 - 0.055 * math.exp(-table / 0.09)
    value = round(min(predicted + 0.0025 * rng.standard_normal(), 0.9972), 4)
    quality: dict[str, Any] = {
        "predicted": predicted,
        "value": value,
        "source": "evaluated",
        "low": value - 0.006,
        "high": value + 0.005,
        "test": round(value - 0.004, 4),
    }
    if loss:
        quality = {
            **quality,
            "predicted": 4 - 2 * predicted,
            "value": 4 - 2 * value,
            "low": 4 - 2 * value - 0.01,
            "high": 4 - 2 * value + 0.01,
            "test": None,
        }
    parameters = 9_000 + int(140_000 * table)
    return {
        "digest": architecture.digest,
        "architecture": architecture.to_dict(),
        "objectives": {
            "loss" if loss else "accuracy": quality,
            "latency_ms": {
                "predicted": table,
                "value": latency,
                "source": "measured",
                "low": latency * 0.985,
                "high": latency * 1.02,
            },
        },
        "parameters": parameters,
        "macs": int(4e6 * table),
        "size_bytes": 4 * parameters,
        "breakdown": parts,
    }


def front_json(
    space: SearchSpace, *, count: int = 60, seed: int = 0, loss: bool = False
) -> dict[str, Any]:
    """A front and what was evaluated behind it."""
    rng = np.random.default_rng(seed)
    members = [space.smallest, space.largest, *space.decode(space.sample(rng, count))]
    points = [point(a, rng, loss) for a in {a.digest: a for a in members}.values()]
    key, sign = ("loss", -1.0) if loss else ("accuracy", 1.0)
    points.sort(key=lambda p: p["objectives"]["latency_ms"]["value"])
    best = -math.inf
    for entry in points:
        quality = sign * entry["objectives"][key]["value"]
        entry["on_front"] = entry["verified"] = quality > best
        best = max(best, quality)
        if not entry["verified"]:
            latency = entry["objectives"]["latency_ms"]
            latency.update(value=latency["predicted"], source="table", low=None, high=None)
    unit, direction = ("nats/token", "minimize") if loss else ("fraction", "maximize")
    return {
        "version": 1, "search": "default", "device": "cpu", "space": space.digest,
        "checkpoint": "c0ffee", "seed": seed, "strategy": "predictor_guided",
        "evaluations": len(points),
        "objectives": [
            {"name": key, "unit": unit, "direction": direction},
            {"name": "latency_ms", "unit": "ms", "direction": "minimize"},
        ],
        "constraints": [],
        "points": points,
        "hypervolume": {"predicted": 0.0412, "verified": 0.0405,
                        "reference": {key: 0.9, "latency_ms": 0.7}},
        "report": {"model": "gaussian_process", "samples": len(points), "tau": 0.86,
                   "spearman": 0.95, "rmse": 0.0024, "level": 0.9, "coverage": 0.91,
                   "half_width": 0.0049, "widening": 1.7},
    }  # fmt: skip


def table_report(*, trusted: bool = True) -> dict[str, Any]:
    """The validation of a latency table."""
    return {
        "version": 1, "trustworthy": trusted, "mape": 0.031 if trusted else 0.24,
        "within_5": 0.85 if trusted else 0.2, "within_10": 0.98 if trusted else 0.35,
        "kendall_tau": 0.94 if trusted else 0.41, "floor_mape": 0.012, "floor_tau": 0.97,
        "networks": 24,
        "verdict": "Trustworthy: on 24 unseen networks its mean error is 3.1%."
        if trusted
        else "Not trustworthy: on 24 unseen networks its mean error is 24.0% and 5.0% is the "
        "most allowed.",
    }  # fmt: skip


def write_run(
    folder: Path,
    *,
    profiled: bool = True,
    searched: bool = True,
    trusted: bool = True,
    loss: bool = False,
    seed: int = 0,
) -> dict[str, Any]:
    """Write a run directory as the commands leave it and return its ``front.json``.

    Args:
        folder: Where; made if it is not there.
        profiled: With a device.
        searched: With a search.
        trusted: Whether the latency table passes its own validation.
        loss: A language model with a loss in place of an accuracy.
        seed: Of the architectures and their figures.
    """
    space = small_space()
    stages = {"train": {"status": "complete", "updated": "2026-01-01T10:00:00+00:00"}}
    if profiled:
        stages["profile"] = {"status": "complete", "updated": "2026-01-01T10:01:00+00:00"}
    _write(folder / "run.json", {
        "version": 1, "created": "2026-01-01T09:58:00+00:00", "preset": "tiny",
        "family": "matlm" if loss else "ofa_mobilenetv3",
        "family_config": {}, "seed": 0, "space": space.digest,
        "data": {
            "spec": "text:corpus.txt" if loss else "digits", "fingerprint": "d1",
            "shape": {
                "task": "language-modelling" if loss else "image-classification",
                "input": [64] if loss else [1, 8, 8], "classes": 10,
                "labels": list("0123456789"), "mean": [] if loss else [0.5],
                "std": [] if loss else [0.3],
            },
        },
        "recipe": {}, "versions": {"python": "3.11"}, "stages": stages,
    })  # fmt: skip
    _write(folder / "space.json", space.to_json())
    front = front_json(space, loss=loss, seed=seed)
    rows = [
        {"architecture": a.to_dict(), "digest": a.digest, "objective": "accuracy",
         "value": value, "unit": "fraction", "split": split, "source": "evaluated"}
        for a, split, value in (
            (space.smallest, "val", 0.95), (space.smallest, "test", 0.9472),
            (space.largest, "test", 0.9917),
        )
    ]  # fmt: skip
    if not loss:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "evaluations.jsonl").write_text(lines, encoding="utf-8")
    if profiled:
        _write(folder / "devices/cpu/device.json",
               {"version": 1, "name": "cpu", "threads": 1, "provider": "CPUExecutionProvider",
 "precision": "fp32", "fingerprint": {"cpu": "Some Processor (6/1/1)"}})  # fmt: skip
        _write(folder / "devices/cpu/report.json", table_report(trusted=trusted))
        (folder / "devices/cpu/table.parquet").write_bytes(b"PAR1")
    if searched:
        _write(folder / "searches/default/front.json", front)
        steps = [f"{n},{0.0405 * (1 - math.exp(-n / 15)):.6f}" for n in range(10, 61, 10)]
        text = "\n".join(["evaluations,hypervolume", *steps]) + "\n"
        (folder / "searches/default/hypervolume.csv").write_text(text, encoding="utf-8")
    return front


def _write(path: Path, payload: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=1), encoding="utf-8")


# Whatever Markdown, HTML, LaTeX or Streamlit would make something of, in one name.
HOSTILE = (
    "![x](http://evil.example/i.png) [l](https://evil.example/a) www.evil.example "
    "a@evil.example $x$ :red[r] <img src=http://evil.example/j.png>\n\n"
    "![y](http://evil.example/k.png)"
)


def write_hostile_run(folder: Path) -> None:
    """Write a run whose every name that a file may choose is :data:`HOSTILE`."""
    payload = write_run(folder)
    for point in payload["points"]:
        estimates = point["objectives"]
        estimates[HOSTILE] = {**estimates.pop("accuracy"), "source": HOSTILE}
        for part in point["breakdown"]:
            part["unit"] = f"{part['unit']} {HOSTILE}"
    payload["objectives"][0] = {"name": HOSTILE, "unit": HOSTILE, "direction": "maximize"}
    payload["report"] = {HOSTILE: {**payload["report"], "model": HOSTILE, HOSTILE: HOSTILE}}
    payload.update(device=HOSTILE, strategy=HOSTILE, latency_method=HOSTILE, stopped=HOSTILE)
    _write(folder / "searches/default/front.json", payload)
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record.update(family=HOSTILE, preset=HOSTILE)
    record["data"]["spec"] = HOSTILE
    _write(folder / "run.json", record)
    # A device is a folder, so that its name holds no slash.
    device = folder / "devices" / HOSTILE.replace("/", "!").replace("\n", " ")
    (folder / "devices/cpu").rename(device)
    _write(device / "report.json", {**table_report(trusted=False), "verdict": HOSTILE})
    _write(device / "device.json", {"version": 1, "fingerprint": {"cpu": HOSTILE}})
    (folder / "evaluations.jsonl").write_text("{\n", encoding="utf-8")
    (folder / "searches" / "unfinished $x$ [l](a)").mkdir()
