"""The explorer on files of strangers: names stay names, and damage stays where it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.explorer import markup
from app.explorer.networks import exporting
from app.explorer.views.view_state import SCREENS
from app.records.searches.front import parse_front, read_front
from app.runs import run_view
from supernet.errors import InputError
from tests.app.test_explorer import chosen, open_page, points_drawn, press, text
from tests.toys.explored_runs import front_json, small_space, write_hostile_run, write_run


def list_texts(node: Any) -> Iterator[str]:
    """Every text of a page that Streamlit takes for Markdown, HTML within it included."""
    proto = getattr(node, "proto", None)
    for field in ("body", "label", "help"):
        if isinstance(found := getattr(proto, field, None), str):
            yield found
    for child in getattr(node, "children", {}).values():
        yield from list_texts(child)


@pytest.mark.parametrize("screen", SCREENS)
def test_names_out_of_files_stay_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: str
) -> None:
    write_hostile_run(tmp_path)
    other = read_front(tmp_path / "searches/default").list_front()[0].digest
    page = open_page(monkeypatch, tmp_path, screen=screen, compared=other)
    texts = [t for root in (page.main, page.sidebar) for t in list_texts(root)]
    texts += [str(c) for table in page.table for c in table.value.to_numpy().ravel()]
    texts += [str(c) for table in page.table for c in table.value.columns]
    assert any("evil" in found for found in texts)
    assert not any("cannot be shown" in error.value for error in page.error)
    for found in texts:
        if found.startswith(("<div", "<table")):
            assert "\n" not in found, "an empty line ends the HTML and begins Markdown"
            assert "<img" not in found
        elif found != markup.STYLE:
            assert "evil" not in found or "\n" not in found
            for meant in ("://", "www.", "@evil", ":red"):
                assert meant not in found
            for special in ("[", "$", "<img"):
                assert found.count(special) == found.count(f"\\{special}")


def test_text_is_shown_as_it_is() -> None:
    shown = markup.write_text("a: b:c http://x.y www.z m@n.o :smile: 10:30")
    joiner = "\N{WORD JOINER}"
    assert shown == (
        f"a: b:{joiner}c http:{joiner}\\//x.y www{joiner}\\.z m@{joiner}n.o "
        f":{joiner}smile: 10:{joiner}30"
    )
    assert markup.escape("a\n\n<b>\r\n") == "a &lt;b&gt; "


@pytest.mark.parametrize("digest", ["x; touch y #", "0123456789AB", "0" * 11, "0" * 12 + "\n", ""])
def test_a_digest_is_twelve_hexadecimal_digits(digest: str) -> None:
    payload = front_json(small_space())
    payload["points"][3]["digest"] = digest
    with pytest.raises(InputError, match=r"points\[3\].digest is .*must be 12 hexadecimal digits"):
        parse_front(payload, "front.json", "default")


@pytest.mark.parametrize(
    "folder", ["..", ".", "", "../elsewhere", "a/b", "/tmp/elsewhere", "-x", "a b", "a\\b", "a\n"]
)
def test_the_page_exports_below_the_exports_alone(tmp_path: Path, folder: str) -> None:
    with pytest.raises(InputError, match="is no folder of"):
        exporting.find_export_folder(tmp_path, folder)
    with pytest.raises(InputError, match="is no folder of"):
        exporting.find_export_folder(tmp_path, str(tmp_path / "exports" / ".." / "searches"))
    done = exporting.export(tmp_path, "0" * 12, folder)
    assert done.folder is None
    assert "the only place" in done.message


def test_the_page_exports_through_no_link(tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    exports.mkdir()
    assert exporting.find_export_folder(tmp_path, "mine") == exports / "mine"
    assert exporting.find_export_folder(tmp_path, str(exports / "mine")) == exports / "mine"
    (exports / "mine").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="mine is a link"):
        exporting.find_export_folder(tmp_path, "mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "exports").symlink_to(exports)
    with pytest.raises(InputError, match="exports is a link"):
        exporting.find_export_folder(tmp_path / "other", "mine")


# -- damage stays where it is ----------------------------------------------------------------------


def fail_for(name: str, error: Exception) -> Callable[[Path], run_view.RunView]:
    """A reader that one run trips up, in a way that nobody foresaw."""
    load = run_view.load_run

    def load_or_fail(path: Path) -> run_view.RunView:
        if path.name == name:
            raise error
        return load(path)

    return load_or_fail


@pytest.mark.parametrize(
    "error", [AttributeError("'list'"), OverflowError("big"), RecursionError()]
)
def test_one_damaged_run_leaves_the_others(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
) -> None:
    kind = type(error).__name__
    for name in ("a", f"broken-{kind}", "z"):
        write_run(tmp_path / name)
    monkeypatch.setattr(run_view, "load_run", fail_for(f"broken-{kind}", error))
    page = open_page(monkeypatch, tmp_path)
    assert chosen(page)
    assert page.multiselect[0].options == ["z / default (cpu)"]
    assert [found.label for found in page.expander] == ["1 other run could not be read"]
    assert kind in page.expander[0].warning[0].value
    assert f"broken-{kind}" in page.expander[0].warning[0].value
    assert f"{kind}" in capsys.readouterr().err
    next(b for b in page.selectbox if b.label == "Run").set_value(tmp_path / f"broken-{kind}").run()
    assert not page.exception
    assert f"broken-{kind} cannot be read" in page.error[0].value


def test_a_part_of_the_page_that_fails_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.reporting.charts import progress_charts

    write_run(tmp_path)

    def fail(*_: object) -> None:
        raise ZeroDivisionError("of a damaged number")

    monkeypatch.setattr(progress_charts.style, "padded_domain", fail)
    page = open_page(monkeypatch, tmp_path, screen="Predictors")
    assert "cannot be shown" in page.error[0].value
    assert "ZeroDivisionError" in page.error[0].value
    assert "ofa_mobilenetv3" in text(page)
    assert "of a damaged number" in capsys.readouterr().err


def test_a_search_that_cannot_be_worked_with_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.records.searches import front as fronts

    write_run(tmp_path)
    payload = front_json(small_space())
    payload["points"] = payload["points"][:3]
    (tmp_path / "searches/odd").mkdir()
    (tmp_path / "searches/odd/front.json").write_text(json.dumps(payload))
    make = fronts.make_column

    def fail_for_odd(estimates: Any) -> Any:
        if len(estimates) == 3:
            raise OverflowError("int too large to convert to float")
        return make(estimates)

    monkeypatch.setattr(fronts, "make_column", fail_for_odd)
    page = open_page(monkeypatch, tmp_path)
    assert chosen(page)
    assert any("Search odd cannot be shown" in warning.value for warning in page.warning)


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    page = open_page(monkeypatch, tmp_path)
    reads = []
    load = run_view.load_run
    monkeypatch.setattr(run_view, "load_run", lambda path: reads.append(path) or load(path))
    press(page, "Dominated")
    before = list_drawn(page)
    assert reads == []
    payload = front_json(small_space(), count=20)
    (tmp_path / "searches/default/front.json").write_text(json.dumps(payload))
    page.run()
    assert reads == [tmp_path]
    assert list_drawn(page) == {p["digest"] for p in payload["points"]} < before


def list_drawn(page: AppTest) -> set[str]:
    """Digests of the points in the chart of the front; references have none."""
    return {row["digest"] for rows in points_drawn(page).values() for row in rows} - {""}
