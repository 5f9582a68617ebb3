"""The code on a model card, run as it stands on the files of the test split, gives its figures."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy

from app.jobs.evaluate import evaluate_job
from app.jobs.export import export_job
from app.jobs.train import TrainRequest, train_job
from app.runs.directory import open_run
from app.runs.trained import open_trained
from supernet.data import open_data
from supernet.quality.evaluate import recalibrate_extracted, score_samples

SIDE = 12


def export_smallest(
    run: Path, monkeypatch: pytest.MonkeyPatch, example: Path | None = None
) -> tuple[str, dict[str, Any]]:
    """Card of the smallest network, and the names that its code defines, run in its folder."""
    # Latency has nothing to do with it, and takes seconds.
    monkeypatch.setattr("app.jobs.export_files._find_latency", lambda *_: None)
    evaluate_job(run, "smallest", print, split="test")
    folder = export_job(run, "smallest", None, print).folder
    card = (folder / "card.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", card, flags=re.DOTALL | re.MULTILINE)
    if example is not None:
        # The code on the card ends with a file beside the model.
        shutil.copy(example, folder / "image.png")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, "card", "exec"), names)
    return card, names


def score_smallest(run: Path, split: str) -> np.ndarray:
    """What evaluation makes of every sample."""
    trained = open_trained(open_run(run), print)
    supernet, data = trained.supernet, trained.data
    model = supernet.extract(supernet.space.smallest)
    recalibrate_extracted(model, supernet, supernet.space.smallest, data)
    return score_samples(model, supernet, supernet.space.smallest, data, split)


def write_photos(path: Path) -> None:
    """Photos of every format whose class shows in the upright centre, and elsewhere is another.

    Some are turned by EXIF, transparent or of 16 bits, as far as their format goes.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 4), ("test", 24)):
        for label in (0, 1):
            folder = path / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                save_photo(folder, i, label, rng)


def save_photo(folder: Path, number: int, label: int, rng: np.random.Generator) -> None:
    height, width = SIDE, 3 * SIDE
    pixels = rng.integers(0, 256, (height, width, 3)).astype(np.float64)
    # Rows or columns in the centre; the other class's on both sides of it.
    for start, stripes in ((0, 1 - label), (SIDE, label), (2 * SIDE, 1 - label)):
        part = pixels[:, start : start + SIDE]
        wave = 100 * (np.arange(SIDE) % 4 < 2)
        part[:] = 0.6 * part + (wave[:, None, None] if stripes else wave[None, :, None])
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[274] = 1 + number % 8
    # What orientation 6 says of a picture that lies on its side, and so on: stored turned back.
    stored = image.transpose(UNTURN[exif[274]]) if exif[274] in UNTURN else image
    kind = number % 5
    if kind == 0:
        stored.save(folder / f"{number}.jpg", exif=exif, quality=95)
    elif kind == 1:
        stored.save(folder / f"{number}.png", exif=exif)
    elif kind == 2:
        alpha = Image.fromarray(rng.integers(0, 256, stored.size[::-1], dtype=np.uint8))
        stored.putalpha(alpha.point(lambda level: 128 + level // 2))
        stored.save(folder / f"{number}.webp", exif=exif, lossless=True)
    elif kind == 3:
        stored.save(folder / f"{number}.tif", tiffinfo={274: exif[274]}, compression="tiff_lzw")
    else:
        levels = np.asarray(stored.convert("L")).astype(np.uint16) * 257
        if number % 2:
            Image.fromarray(levels).save(folder / f"{number}.png", exif=exif)
        else:
            Image.fromarray(levels).save(folder / f"{number}.tif", tiffinfo={274: exif[274]})


UNTURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def test_the_code_on_a_card_classifies_photos_as_evaluation_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, run = tmp_path / "photos", tmp_path / "run"
    write_photos(photos)
    request = TrainRequest(
        out=run,
        family="ofa_resnet50",
        preset="tiny",
        data=f"folder:{photos}",
        image_size=8,
        steps=40,
        batch_size=16,
    )
    train_job(request, print)
    files = sorted((photos / "test").rglob("*.*"))
    card, names = export_smallest(run, monkeypatch, files[0])
    assert "resize_pixels" in names, "the smallest network takes smaller images"
    right = [names["classify"](file) == file.parent.name for file in files]
    assert right == score_smallest(run, "test").astype(bool).tolist()
    assert f"| Accuracy (test split) | {100 * np.mean(right):.2f} %" in card
    assert np.mean(right) > 0.75, "it has learnt what is in the centre"
    squashed = [classify_squashed(names, file) == file.parent.name for file in files]
    assert np.mean(squashed) < np.mean(right), "and a squashed picture shows something else"


def classify_squashed(names: dict[str, Any], file: Path) -> str:
    side = names["session"].get_inputs()[0].shape[-1]
    image = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32).transpose(2, 0, 1)[None] / 255
    return names["labels"][int(names["session"].run(None, {"input": pixels})[0].argmax())]


def test_the_code_on_a_card_classifies_arrays_where_there_are_no_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train_job(TrainRequest(out=run, family="ofa_resnet50", preset="tiny", steps=5), print)
    card, names = export_smallest(run, monkeypatch)
    assert "resize_pixels" in names, "the smallest network takes smaller images"
    split = open_data("digits").test
    right = [
        names["classify"](image.numpy()) == str(int(target))
        for image, target in zip(split.inputs, split.targets, strict=True)
    ]
    assert right == score_smallest(run, "test").astype(bool).tolist()
    assert f"| Accuracy (test split) | {100 * np.mean(right):.2f} %" in card


def test_the_code_on_a_card_reads_a_text_as_evaluation_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(chr(97 + (i * i + i // 7) % 23) for i in range(8000)) + "\u00e9" * 20
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    run, data = tmp_path / "run", f"text:{tmp_path / 't.txt'}"
    train_job(
        TrainRequest(out=run, family="matlm", preset="tiny", data=data, context=16, steps=3), print
    )
    card, names = export_smallest(run, monkeypatch)
    rest = text[int(0.95 * len(text)) :]
    known = {label: i for i, label in enumerate(names["labels"])}
    losses = []
    for start in range(0, (len(rest) - 1) // 16 * 16, 16):
        logits = names["predict"](rest[start : start + 16])
        follows = [known.get(c, 0) for c in rest[start + 1 : start + 17]]
        losses.append(float(cross_entropy(torch.from_numpy(logits), torch.tensor(follows))))
    np.testing.assert_allclose(losses, score_smallest(run, "test"), rtol=1e-4)
    assert f"| Loss (test split) | {np.mean(losses):.4f} nats/token" in card
