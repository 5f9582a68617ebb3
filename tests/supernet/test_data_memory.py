"""Data in memory: held once, read in blocks of bounded size, and refused where they cannot fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from supernet.data import Split, from_datasets, open_data, source
from supernet.data.memory import check_memory, measure_available_memory, split_by_bytes
from supernet.data.source import MEASURED_BYTES, fingerprint
from supernet.families import ofa_resnet50
from supernet.quality.evaluate import LARGE_BATCH, _prepare_batches, choose_batch_size
from supernet.space import Architecture
from tests.supernet.test_data import make_folder
from tests.toys.networks import describe_images

MEGABYTE = 1_000_000


# -- blocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [1, 100, 3000])
def test_blocks_are_bounded_by_bytes(sample: int) -> None:
    tensor = torch.arange(17 * sample, dtype=torch.int64).view(17, sample)
    blocks = list(split_by_bytes(tensor, 1600))
    assert torch.equal(torch.cat(blocks), tensor)
    assert len(blocks[0]) == max(1, min(17, 1600 // (8 * sample)))


def test_statistics_and_fingerprint_need_little_besides_the_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken: list[int] = []
    real = torch.Tensor.to

    def watch(tensor: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        result = real(tensor, *args, **options)
        taken.append(result.nbytes)
        return result

    monkeypatch.setattr(torch.Tensor, "to", watch)
    images = torch.randint(0, 256, (12, 3, 600, 600), dtype=torch.uint8)
    mean, std = source._measure_channels(images)
    monkeypatch.undo()
    assert sum(taken) == images.numel() * 8
    assert max(taken) <= MEASURED_BYTES
    exact = images.transpose(0, 1).flatten(1).double() / 255
    assert mean == pytest.approx(exact.mean(1).tolist(), rel=1e-12)
    assert std == pytest.approx(exact.std(1, correction=0).tolist(), rel=1e-12)
    assert fingerprint([("x", images)]) == fingerprint([("x", images.clone())])


def test_statistics_of_small_images_are_summed_as_ever() -> None:
    images = torch.randint(0, 256, (700, 3, 64, 64), dtype=torch.uint8)
    total = torch.zeros(3, dtype=torch.float64)
    for block in images.split(256):
        total += (block.double() / 255).sum((0, 2, 3))
    assert source._measure_channels(images)[0] == tuple((total / (700 * 64 * 64)).tolist())


def test_images_larger_than_the_network_takes_are_resized_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = torch.randint(0, 256, (24, 1, 40, 40), dtype=torch.uint8)
    split = Split(pixels, torch.zeros(24, dtype=torch.int64))
    supernet = ofa_resnet50.build(ofa_resnet50.configure("tiny", describe_images(1, 8, 8)))
    architecture = supernet.space.smallest
    whole = list(_prepare_batches(supernet, architecture, split, None, 10, (), None))
    seen: list[int] = []
    prepare = type(supernet).prepare

    def watch(self: object, inputs: torch.Tensor, wanted: Architecture) -> torch.Tensor:
        seen.append(len(inputs))
        return prepare(self, inputs, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr("supernet.quality.evaluate.RESIZED_BYTES", 3 * 1600 * 4)
    monkeypatch.setattr(type(supernet), "prepare", watch)
    parts = list(_prepare_batches(supernet, architecture, split, None, 10, (), None))
    assert seen == [3, 3, 3, 1, 3, 3, 3, 1, 3, 1]
    for (inputs, targets), (expected, wanted) in zip(parts, whole, strict=True):
        assert torch.equal(inputs, expected)
        assert inputs.stride() == expected.stride()
        assert torch.equal(targets, wanted)


@pytest.mark.parametrize(
    ("side", "size"), [(8, 256), (32, 256), (224, 32), (400, 32), (1000, 5), (4000, 2)]
)
def test_batches_of_huge_images_are_small(side: int, size: int) -> None:
    supernet = ofa_resnet50.build(ofa_resnet50.configure("tiny", describe_images(3, 8, 8)))
    supernet.input_shape = lambda _: (3, side, side)  # type: ignore[method-assign]
    assert choose_batch_size(supernet, supernet.space.smallest) == size
    assert size == 2 or size * 3 * side * side <= LARGE_BATCH


PEAK = """
import resource, sys
from supernet.data import open_data
from supernet.data import folder  # what reading needs is loaded before

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

open_data("folder:" + sys.argv[1] + "/few")
before = peak()
data = open_data("folder:" + sys.argv[1] + "/many")
pixels = sum(data.split(name).inputs.nbytes for name in ("train", "val", "test"))
print(pixels, peak() - before)
"""


@pytest.mark.slow
def test_reading_takes_the_pixels_and_little_more(tmp_path: Path) -> None:
    for name, count in (("few", 3), ("many", 75)):
        for label in "ab":
            (tmp_path / name / label).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (1000, 1000), (i, i, ord(label)))
                image.save(tmp_path / name / label / f"{i}.png")
    found = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path], capture_output=True, text=True, check=True
    )
    pixels, grown = map(int, found.stdout.split())
    assert pixels == 150 * 3 * MEGABYTE
    assert grown < 1.3 * pixels


# -- what cannot fit ---------------------------------------------------------------------------


def test_data_that_cannot_fit_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "a", {"cat": 10, "dog": 10})
    (folder / "dog" / "9.png").write_bytes((folder / "dog" / "9.png").read_bytes()[:60])
    limit = "supernet.data.memory.measure_available_memory"
    monkeypatch.setattr(limit, lambda: 20 * 3 * 8 * 8 - 1)
    with pytest.raises(ValueError, match=r"the images of folder:.*/a need 0 MB .*--image-size"):
        open_data(f"folder:{folder}")
    monkeypatch.setattr(limit, lambda: 20 * 3 * 8 * 8)
    with pytest.raises(ValueError, match="cannot decode"):
        open_data(f"folder:{folder}")
    (tmp_path / "t.txt").write_text("abcdefgh" * 2000)
    with pytest.raises(ValueError, match=r"characters of .*/t\.txt need 0 MB of memory"):
        open_data(f"text:{tmp_path / 't.txt'}")
    pictures = [(torch.zeros(3, 100, 100), i % 2) for i in range(8)]
    with pytest.raises(ValueError, match=r"images of dataset \(train\) need 1 MB of memory"):
        from_datasets(pictures, pictures[:2], pictures[:2])


def test_the_sentence_names_both_amounts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supernet.data.memory.measure_available_memory", lambda: 3_140_000_000)
    message = "the images need 5.4 GB of memory, and 3.1 GB are available; leave some out, or use a"
    with pytest.raises(ValueError, match=message):
        check_memory(5_400_000_000, "the images", "leave some out")
    monkeypatch.setattr("supernet.data.memory.measure_available_memory", lambda: None)
    check_memory(5_400_000_000, "the images", "leave some out")


def write_files(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable:    4000 kB\n"}
VERSION_2 = {
    "proc/self/cgroup": "0::/user/job\n",
    "sys/fs/cgroup/user/memory.max": "3000000\n",
    "sys/fs/cgroup/user/memory.current": "2500000\n",
    "sys/fs/cgroup/user/memory.stat": "anon 7\ninactive_file 400000\nactive_file 9\n",
    "sys/fs/cgroup/user/job/memory.max": "max\n",
    "sys/fs/cgroup/user/job/memory.current": "99\n",
}
VERSION_1 = {
    "proc/self/cgroup": "5:cpu,memory:/docker/x\n3:pids:/docker/x\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "10\n",
    "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": "2000000\n",
    "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": "1900000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 4_096_000),
        ({**MEMINFO, **VERSION_2}, 900_000),
        ({**MEMINFO, **VERSION_1}, 100_000),
        (VERSION_2, 900_000),
    ],
)
def test_the_least_of_all_limits_counts(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    assert measure_available_memory(write_files(tmp_path, files)) == expected


def test_the_limit_of_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limits")
    root = write_files(tmp_path, {**MEMINFO, "proc/self/statm": "700 5 5 5\n"})
    limit = 700 * resource.getpagesize() + 50_000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, resource.RLIM_INFINITY))
    assert measure_available_memory(root) == 50_000


def test_this_machine_has_some_memory() -> None:
    available = measure_available_memory()
    assert available is None or available > MEGABYTE
