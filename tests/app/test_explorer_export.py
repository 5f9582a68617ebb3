"""From the first look at a run to an exported network, in a real browser and with a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from app.explorer.networks.export_panel import find_written
from app.records.searches import picking
from app.records.searches.front import read_front
from tests.app.chromium import listen, open_chromium
from tests.app.served import keep_picture, serve_runs, wait_until_idle

MOST_CLICKS = 4


@pytest.mark.browser
def test_a_newcomer_exports_a_proven_network_in_few_clicks(a_run: Path, tmp_path: Path) -> None:
    front = read_front(a_run / "searches/default")
    with serve_runs([a_run], tmp_path) as address, open_chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900}, accept_downloads=True)
        page.set_default_timeout(120_000)
        _, errors = listen(page)
        page.goto(address)
        page.locator(".scatter .plot").wait_for()
        clicks = 0
        for label in ("Open and export", "Export now"):
            page.get_by_role("button", name=label).click()
            clicks += 1
        page.get_by_text("Largest difference from torch").wait_for()
        wait_until_idle(page)
        keep_picture(page, "exported")
        with page.expect_download() as started:
            page.get_by_role("button", name="ONNX model").click()
            clicks += 1
        model = tmp_path / started.value.suggested_filename
        started.value.save_as(model)
        netron = page.get_by_role("link", name="Look at the model in Netron")
        assert netron.get_attribute("href") == "https://netron.app"
        assert errors == []
    assert clicks <= MOST_CLICKS
    recommended = picking.pick_knee(front)
    assert recommended is not None
    digest = model.name.partition("-")[0]
    written = find_written(a_run, digest, digest)
    assert written is not None
    assert written.parity is not None
    assert written.parity.max_abs_difference <= written.parity.limit
    assert model.read_bytes() == (a_run / "exports" / digest / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    shape = [part if isinstance(part, int) else 2 for part in session.get_inputs()[0].shape]
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    outputs = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    assert np.ptp(outputs, axis=0).max() > 0


def test_an_export_is_shown_only_with_what_is_in_its_own_folder(
    a_run: Path, tmp_path: Path
) -> None:
    digest = "0123456789ab"
    folder = a_run / "exports" / digest
    assert find_written(a_run, digest, digest) is None
    folder.mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_text("not of this run")
    (folder / "model.onnx").symlink_to(secret)
    assert find_written(a_run, digest, digest) is None
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").write_bytes(b"model")
    (folder / "card.md").symlink_to(secret)
    found = find_written(a_run, digest, digest)
    assert found is not None
    assert [path.name for path in found.files] == ["model.onnx"]
    assert "holds no proof" in found.problem
    (folder / "parity.json").write_text("{")
    found = find_written(a_run, digest, digest)
    assert found is not None
    assert "is not valid JSON" in found.problem
    assert find_written(a_run, digest, "../searches") is None
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert find_written(a_run, digest, digest) is None
