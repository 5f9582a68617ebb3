"""Exporting several subnetworks at once, as models that share one file of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.evaluation.log import EvaluationLog, find_architecture
from app.jobs.export_files import LABELS, find_target, prove
from app.jobs.outcomes import ExportNestedOutcome, NestedModel
from app.progress import Say, Step
from app.records.cascade import FILE as CASCADE
from app.records.cascade import CascadeRecord
from app.records.nested_export import FILE, NestedExportRecord, NestedModelRecord
from app.records.typed_json.record_files import write_record
from app.records.vocabulary import FILE as VOCABULARY
from app.runs.directory import open_run
from app.runs.trained import Trained, open_trained
from app.runs.vocabulary import write_vocabulary
from supernet import files
from supernet.errors import InputError
from supernet.export import Exported, export
from supernet.generation.language_model import find_decoder
from supernet.generation.onnx_decoder import draw_feeds
from supernet.graph.onnx_model import draw_random_inputs
from supernet.nested_export import SHARED_WEIGHTS, share_weights
from supernet.space import Architecture

# Names of models; others are not ours to replace.
OURS = frozenset((FILE, SHARED_WEIGHTS, LABELS, VOCABULARY, CASCADE))
_MODEL = re.compile(r"[0-9a-f]{12}\.onnx")


@dataclass(frozen=True)
class _Member:
    """One subnetwork on its way into the folder."""

    architecture: Architecture
    exported: Exported

    @property
    def file(self) -> str:
        return f"{self.architecture.digest}.onnx"

    @property
    def model(self) -> bytes:
        """With keys and values where there are any."""
        return self.exported.decoder or self.exported.onnx


def export_nested_job(
    run: Path,
    architectures: Sequence[str],
    out: Path | None,
    say: Say,
    *,
    data: str | None = None,
    trust: Sequence[str] = (),
) -> ExportNestedOutcome:
    """Write several architectures of a run as ONNX models that share one file of weights.

    Language models are written as decoders that take and give keys and values. Every model is
    compared with torch on real inputs before, and to the last bit with the model that has weights
    of its own after.

    Args:
        run: The run directory.
        architectures: Digests, ``smallest``, ``largest`` or JSON files, two or more.
        out: The folder to write; by default ``RUN/exports/nested``.
        say: Told about progress.
        data: Where the data of the run are now, if they moved; recorded in the run.
        trust: Dotted paths of the user's own modules that files of the run may name.

    Raises:
        InputError: Unknown or repeated architectures, networks that compute in integers, or
            ``out`` holds something else.
        RuntimeError: ONNX Runtime and torch disagree; nothing is written.
    """
    return export_nested(open_trained(open_run(run, trust), say, data), architectures, out, say)


def export_nested(
    trained: Trained,
    architectures: Sequence[str],
    out: Path | None,
    say: Say,
    *,
    cascade: CascadeRecord | None = None,
) -> ExportNestedOutcome:
    """Do the same of a run that is open.

    Args:
        trained: The run's supernet, and its data.
        architectures: As for :func:`export_nested_job`.
        out: The folder to write; by default ``RUN/exports/nested``.
        say: Told about progress.
        cascade: How two of them answer together, written beside them.

    Raises:
        InputError: See :func:`export_nested_job`.
        RuntimeError: ONNX Runtime and torch disagree; nothing is written.
    """
    opened, space = trained.run, trained.supernet.space
    chosen = [find_architecture(opened, space, name) for name in architectures]
    twice = [a.digest for i, a in enumerate(chosen) if a in chosen[:i]]
    if twice:
        raise InputError(f"architecture {twice[0]} is given twice; every one is exported once")
    folder = Path(out) if out is not None else opened.export("nested")
    check_folder(folder)
    target = find_target(opened, folder)
    members, records = [], []
    for architecture in chosen:
        say(Step(f"export {architecture.digest}: extracting", passing=True))
        exported = export(trained.supernet, architecture, trained.data, estimator=trained.estimator)
        if exported.formats:
            raise InputError(
                f"{architecture.digest} computes in integers; only float networks can share a "
                "file of weights, so export it alone"
            )
        proof = prove(trained, architecture, exported, say)
        quality = _evaluate(trained, architecture, say)
        members.append(_Member(architecture, exported))
        records.append(
            NestedModelRecord(
                file=members[-1].file,
                architecture=architecture.digest,
                choices=architecture.to_dict(),
                parameters=exported.parameters,
                macs=exported.macs,
                objective=trained.quality,
                value=quality,
                split="val",
                max_abs_difference=proof.parity.max_abs_difference,
            )
        )
    models, weights = share_weights(
        {member.file: member.model for member in members}, _name_arrays(trained)
    )
    say(Step("export: writing and comparing", passing=True))
    with files.new_folder(target) as temporary:
        files.write_bytes(temporary / SHARED_WEIGHTS, weights)
        for name, content in models.items():
            files.write_bytes(temporary / name, content)
        for member in members:
            _compare(member, temporary / member.file)
        files.write_json(temporary / LABELS, list(trained.data.shape.labels))
        write_vocabulary(temporary, trained.data.vocabulary)
        if cascade is not None:
            write_record(temporary / CASCADE, cascade)
        write_record(
            temporary / FILE,
            NestedExportRecord(
                weights=SHARED_WEIGHTS, weights_bytes=len(weights), models=tuple(records)
            ),
        )
    found = tuple(
        NestedModel(r.file, r.architecture, r.parameters, r.value, len(models[r.file]))
        for r in records
    )
    return ExportNestedOutcome(
        folder,
        found,
        trained.quality,
        len(weights),
        max(len(member.model) for member in members),
        max(record.max_abs_difference for record in records),
    )


def _evaluate(trained: Trained, architecture: Architecture, say: Say) -> float | None:
    log = EvaluationLog(trained, say)
    record = log.find(architecture, "val")
    if record is None:
        with trained.run.writing():
            record = log.evaluate(architecture, "val")
    return record.value


def _name_arrays(trained: Trained) -> dict[str, NDArray[np.generic]]:
    """Weights of the largest network by the names that graphs give them."""
    state = trained.supernet.model.state_dict()
    decodes = find_decoder(trained.supernet.model) is not None
    prefix = "network." if decodes else ""
    return {prefix + name: tensor.detach().cpu().numpy() for name, tensor in state.items()}


def _compare(member: _Member, path: Path) -> None:
    """RuntimeError unless a model gives the same bits with shared weights as with its own."""
    exported = member.exported
    if exported.decoder:
        network = find_decoder(exported.network)
        assert network is not None
        past = min(2, network.embedding.context - 1)
        length = min(3, network.embedding.context - past)
        feeds: Mapping[str, NDArray[np.generic]] = draw_feeds(
            network, batch=2, length=length, past=past
        )
    else:
        feeds = draw_random_inputs(exported.graph, seed=0, batch=2)
    outputs = []
    for model in (str(path), member.model):
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        outputs.append(session.run(None, dict(feeds)))
    if not all(np.array_equal(a, b) for a, b in zip(*outputs, strict=True)):
        raise RuntimeError(
            f"ONNX Runtime gives other outputs for {member.architecture.digest} with shared "
            "weights than with its own; nothing was exported"
        )


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything but such an export, which alone may be replaced.

    Raises:
        InputError: It holds other files, or is one.
    """
    if folder.is_file():
        raise InputError(f"{folder} is a file; an export needs a folder")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    others = sorted(n for n in names - OURS if not _MODEL.fullmatch(n))
    if names and (FILE not in names or others):
        raise InputError(
            f"{folder} holds other files ({', '.join((others or sorted(names))[:3])}); choose a "
            "new or empty folder"
        )
