"""Importing as a job: from a checkpoint that others trained to a run directory of ours."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from app.jobs.outcomes import ImportOutcome
from app.progress import Say, Step
from app.records.numbers import format_items
from app.records.run import DataOptions, DataRecord, RunIdentity, ShapeRecord
from app.records.typed_json.plain import plain
from app.runs.directory import Run, check_same_run, open_run, writing_run
from app.runs.trained import NO_DATA, absolute, count_images
from supernet import checkpoints, files
from supernet.data import IMAGES, DataShape, DataSource, open_data
from supernet.errors import InputError
from supernet.family_config import encode_config
from supernet.importing.ofa import Recognised, load_supernet, recognise
from supernet.importing.tensors import read_tensors
from supernet.space import nearest
from supernet.supernet import Supernet
from supernet.training import find_recipe

FORMATS = ("ofa",)


@dataclass(frozen=True, kw_only=True)
class ImportRequest:
    """What to import.

    Args:
        format: The project whose checkpoint it is: ``"ofa"``.
        file: The checkpoint.
        out: The run directory.
        key: Which state dict of the file, where it holds several.
        data: ``"folder:PATH"`` of the task the network was trained for. Without it the run can
            only be evaluated on data given to ``evaluate``.
        image_size: Square size in pixels for folders of images; the largest resolution of the
            space. ``None`` keeps the published one.
    """

    format: str
    file: Path
    out: Path
    key: str | None = None
    data: str | None = None
    image_size: int | None = None


def import_job(request: ImportRequest, say: Say) -> ImportOutcome:
    """Read a checkpoint, find out what it is, and write a run that is ready to be searched.

    Args:
        request: What to import.
        say: Told what cannot be known from the file.

    Raises:
        InputError: Unknown format, a file that is no such checkpoint or not a whole one, data
            with other classes, or ``out`` holds another run.
    """
    if request.format not in FORMATS:
        raise InputError(
            f"unknown format {request.format!r}{nearest(request.format, FORMATS)}; formats are "
            f"{', '.join(FORMATS)}"
        )
    say(Step(f"reading {request.file}", passing=True))
    recognised = recognise(read_tensors(request.file, request.key), str(request.file))
    data = _open_data(request, recognised, say)
    say(Step("building the network", passing=True))
    config = _fit_to_images(recognised, data, request.image_size)
    supernet = load_supernet(recognised, config)
    for note in () if data is None else data.notes:
        say(f"warning: {note}")
    say(recognised.assumed)
    identity = RunIdentity(
        family=recognised.family_name,
        preset=recognised.preset,
        family_config=plain(encode_config(recognised.family, config)),
        data=_describe_data(config, data),
        # How networks of this space would be trained here; the weights came as they are.
        recipe=plain(find_recipe("image").to_json()),
        seed=0,
        space=supernet.space.digest,
    )
    digest = _write(request, identity, supernet)
    run = open_run(request.out)
    return ImportOutcome(
        run=run.path,
        family=recognised.family_name,
        preset=recognised.preset,
        file=request.file,
        data=run.record.data.spec,
        classes=config.classes,
        resolutions=config.resolutions,
        checkpoint=digest,
        space_size=supernet.space.size,
        assumed=recognised.assumed,
    )


def _open_data(request: ImportRequest, recognised: Recognised, say: Say) -> DataSource | None:
    if request.data is None:
        return None
    spec = absolute(request.data)
    native = max(recognised.config.resolutions)
    size = request.image_size or (native if spec.startswith("folder:") else None)
    data = open_data(spec, image_size=size, count=count_images(spec, say))
    classes, channels = recognised.config.classes, recognised.config.channels
    if data.shape.task != IMAGES:
        raise InputError(f"{request.file} classifies images, and {spec} is for {data.shape.task}")
    if data.shape.classes != classes:
        raise InputError(
            f"{request.file} tells {format_items(classes, 'class', 'classes')} apart, and {spec} "
            f"has {data.shape.classes}; give the data it was trained for"
        )
    if data.shape.input[0] != channels:
        raise InputError(
            f"{request.file} takes images of {format_items(channels, 'channel')}, and those of "
            f"{spec} have {data.shape.input[0]}"
        )
    return data


def _fit_to_images(recognised: Recognised, data: DataSource | None, image_size: int | None) -> Any:
    """The configuration at the size of the images; pixels are normalised as in training."""
    config = recognised.config
    size = image_size if data is None else data.shape.input[-1]
    if size is None or size == max(config.resolutions):
        return config
    scaled = {max(1, round(r * size / max(config.resolutions))) for r in config.resolutions}
    return replace(config, resolutions=tuple(sorted(scaled)))


def _describe_data(config: Any, data: DataSource | None) -> DataRecord:
    if data is not None:
        size = data.shape.input[-1]
        options: DataOptions = {"image_size": size} if data.spec.startswith("folder:") else {}
        known = ShapeRecord(**asdict(data.shape))
        return DataRecord(spec=data.spec, fingerprint=data.fingerprint, shape=known, **options)
    labels = tuple(map(str, range(config.classes)))
    side = max(config.resolutions)
    image, pixels = (config.channels, side, side), config.pixels
    shape = DataShape(IMAGES, image, config.classes, labels, pixels.mean, pixels.std)
    return DataRecord(spec=NO_DATA, fingerprint=NO_DATA, shape=ShapeRecord(**asdict(shape)))


def _write(request: ImportRequest, identity: RunIdentity, supernet: Supernet) -> str:
    """The checkpoint's digest; nothing is written again by the same command."""
    digest = files.digest_file(request.file)
    if (request.out / "run.json").exists() and (request.out / "space.json").exists():
        # What is only read needs no lock, and may lie on a read-only disk.
        there = open_run(request.out)
        check_same_run(request.out, there.record, identity)
        known = _find_imported(there, request, digest)
        if known is not None:
            return known
    with writing_run(request.out, identity, supernet.space) as run:
        known = _find_imported(run, request, digest)
        if known is not None:
            return known
        source = {"format": request.format, "file": request.file.name, "sha256": digest}
        if request.key is not None:
            source["key"] = request.key
        state = supernet.state_dict()
        written = checkpoints.write(run.checkpoints, 0, state, {}, {"source": source})
        run.set_stage(
            "train", "complete", checkpoint=written.digest, steps=0, seconds=0.0, source=source
        )
        return written.digest


def _find_imported(run: Run, request: ImportRequest, digest: str) -> str | None:
    """The digest of the checkpoint that was imported before, if it was.

    Raises:
        InputError: The run holds other weights.
    """
    known = run.stage("train")
    if known is None:
        return None
    source = known.source
    # The same part of the same file, whatever it is called.
    if source is None or (source.sha256, source.key) != (digest, request.key):
        raise InputError(
            f"{run.path} holds other weights than {request.file}; choose another --out"
        )
    return known.checkpoint if known.complete else None
