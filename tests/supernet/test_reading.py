"""Many files read by several threads: the same order, the same first error, and counted."""

from __future__ import annotations

import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from supernet.data import folder, open_data
from supernet.data.reading import apply_in_order
from tests.supernet.test_data import make_folder

Told = list[tuple[str, int, int | None]]


def test_results_come_in_the_order_of_the_items_whatever_takes_longest() -> None:
    def slow_at_first(number: int) -> int:
        time.sleep(0.02 if number % 16 == 0 else 0)
        return number * number

    assert list(apply_in_order(slow_at_first, range(200))) == [n * n for n in range(200)]
    assert list(apply_in_order(slow_at_first, [])) == []


@pytest.mark.parametrize("bad", [0, 5, 16, 199])
def test_an_error_is_met_where_its_item_stands_and_nothing_is_left_running(bad: int) -> None:
    def fail(number: int) -> int:
        if number >= bad:
            raise ValueError(f"item {number}")
        return number

    before = threading.active_count()
    found: list[int] = []
    with pytest.raises(ValueError, match=f"^item {bad}$"):
        found.extend(apply_in_order(fail, range(200)))
    assert found == list(range(bad))
    assert threading.active_count() == before


def test_whoever_has_seen_enough_does_not_wait_for_the_rest() -> None:
    seen: list[int] = []
    results = apply_in_order(lambda n: seen.append(n), range(100_000))
    next(results)
    results.close()
    assert len(seen) < 10_000


def test_every_image_of_a_folder_is_counted(tmp_path: Path) -> None:
    make_folder(tmp_path, {"a": 40, "b": 40})
    told: Told = []
    data = open_data(f"folder:{tmp_path}", count=lambda *fact: told.append(fact))
    assert data.fingerprint == open_data(f"folder:{tmp_path}").fingerprint
    assert [fact for fact in told if fact[0] == "reading images"] == [
        ("reading images", number, 80) for number in range(1, 81)
    ]
    # In colour, as the first image tells; files of one size may be copies.
    assert [fact for fact in told if fact[0] == "looking for colours"] == [
        ("looking for colours", 1, 80)
    ]
    assert ("looking at sizes", 80, 80) in told
    assert told[-1] == ("computing the fingerprint", 0, None)


def test_data_sets_of_a_function_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counted_data.py").write_text(
        "import torch\n"
        "def make():\n"
        "    g = torch.Generator().manual_seed(0)\n"
        "    return [[(torch.rand(1, 4, 4, generator=g), i % 2) for i in range(6)]\n"
        "            for _ in range(3)]\n"
    )
    monkeypatch.chdir(tmp_path)
    told: Told = []
    open_data("counted_data:make", own_modules=True, count=lambda *fact: told.append(fact))
    for split in ("train", "val", "test"):
        assert (f"reading images ({split})", 6, 6) in told


def test_large_images_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"a": 40, "b": 40}, size=12)
    usual = open_data(f"folder:{tmp_path}")
    at_once, most, guard = [0], [0], threading.Lock()
    real = folder.read_pixels

    def watch(*arguments: object) -> object:
        with guard:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        time.sleep(0.002)
        try:
            return real(*arguments)  # type: ignore[arg-type]
        finally:
            with guard:
                at_once[0] -= 1

    monkeypatch.setattr(folder, "read_pixels", watch)
    monkeypatch.setattr("supernet.data.reading._count_processors", lambda: 4)
    assert open_data(f"folder:{tmp_path}").fingerprint == usual.fingerprint
    assert most[0] > 1
    most[0] = 0
    monkeypatch.setattr(folder, "LARGE_IMAGE", 100)
    large = open_data(f"folder:{tmp_path}")
    assert most[0] == 1
    assert torch.equal(large.train.inputs, usual.train.inputs)


def test_filters_of_warnings_are_as_before_when_every_image_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path, {"a": 40, "b": 40}, size=9)
    # Above it Pillow warns, and above twice as much it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    monkeypatch.setattr("supernet.data.reading._count_processors", lambda: 4)
    before = list(warnings.filters)
    assert len(open_data(f"folder:{tmp_path}").train) == 64
    assert list(warnings.filters) == before
