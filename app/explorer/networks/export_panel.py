"""Exporting the chosen network: a button, what it wrote with its proof, and the files to take."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from app.explorer import markup
from app.explorer.context import Context
from app.explorer.markup import write_text
from app.explorer.networks import exporting
from app.progress import Step
from app.records.export import ParityRecord
from app.records.numbers import format_bytes, format_items, format_percent
from app.records.searches.front import Point
from app.records.typed_json.record_files import read_record
from app.runs.command_lines import export_command
from supernet.errors import InputError

NETRON = "https://netron.app"
_FILES = {
    "model.onnx": "ONNX model",
    "weights.safetensors": "Weights",
    "card.md": "Model card",
    "parity.json": "Parity proof",
}


@dataclass(frozen=True)
class Written:
    """An export that is there.

    Args:
        files: Those to be taken, in the order that they are offered.
        parity: Its proof; ``None`` where it is missing or damaged.
        problem: What is wrong with the proof.
    """

    files: tuple[Path, ...]
    parity: ParityRecord | None
    problem: str


def show_export(context: Context, point: Point) -> None:
    """Draw the button that exports, its progress, and what was exported."""
    run = context.run.path
    with st.container(border=True):
        st.markdown("**Export**: ONNX, weights, model card and the proof that they agree")
        pressed = st.button("Export now", type="primary", key=f"export {context.key}")
        with st.expander("Another folder, or by command"):
            folder = st.text_input(
                "Folder for the export, one of the run's own",
                point.digest,
                key=f"out {run} {point.digest}",
            )
            st.code(
                export_command(context.place, point.digest, context.place / "exports" / folder),
                language="bash",
                wrap_lines=True,
            )
        if pressed:
            _export(run, point.digest, folder)
        _show_written(run, point.digest, folder, context.key)


def find_written(run: Path, digest: str, folder: str) -> Written | None:
    """An export of an architecture in one of the run's folders; links are not followed.

    Args:
        run: The run directory.
        digest: Of the architecture.
        folder: Name of the folder.
    """
    try:
        place = exporting.find_export_folder(run, folder)
    except InputError:
        return None
    found = [place / name for name in _FILES]
    files = tuple(path for path in found if path.is_file() and not path.is_symlink())
    if place / "model.onnx" not in files:
        return None
    if place / "parity.json" not in files:
        return Written(files, None, "the export holds no proof; export again")
    try:
        parity = read_record(place / "parity.json", ParityRecord, "export again")
    except (OSError, InputError) as error:
        return Written(files, None, str(error))
    return Written(files, parity, "") if parity.architecture == digest else None


def _export(run: Path, digest: str, folder: str) -> None:
    with st.status("Exporting the network", expanded=True) as status:
        steps = st.empty()

        def show(fact: str | Step) -> None:
            """A step in the place of the one before, how far it is as a bar; lines stay."""
            text = write_text(str(fact))
            if not isinstance(fact, Step):
                st.write(text)
            elif fact.total:
                steps.progress(min(fact.done / fact.total, 1.0), text)
            else:
                steps.caption(text)

        done = exporting.export(run, digest, folder, show)
        worked = done.folder is not None
        status.update(
            label="Exported" if worked else "Not exported",
            state="complete" if worked else "error",
            expanded=False,
        )
    (st.success if worked else st.error)(write_text(done.message))


def _show_written(run: Path, digest: str, folder: str, key: str) -> None:
    written = find_written(run, digest, folder)
    if written is None:
        return
    if written.parity is None:
        st.warning(write_text(written.problem))
    else:
        st.markdown(
            markup.write_facts(list_proof(written.parity), grid=True), unsafe_allow_html=True
        )
    with st.container(horizontal=True):
        for path in written.files:
            st.download_button(
                f"{_FILES[path.name]} ({format_bytes(path.stat().st_size)})",
                # Read when it is asked for: a model may be large.
                path.read_bytes,
                file_name=f"{digest}-{path.name}",
                mime="application/octet-stream",
                key=f"take {path.name} {key}",
                on_click="ignore",
            )
    st.link_button(
        "Look at the model in Netron",
        NETRON,
        help="Opens netron.app in your browser; nothing is sent, you open the file there yourself.",
    )


def list_proof(parity: ParityRecord) -> list[tuple[str, str, str]]:
    """What a proof says, as labelled figures."""
    return [
        (
            "Largest difference from torch",
            f"{parity.max_abs_difference:.2g}",
            f"at most {parity.limit:.2g} allowed",
        ),
        (
            "Same decision",
            format_percent(parity.same_decision, 1),
            f"of {format_items(parity.samples, f'{parity.split} sample')}",
        ),
        ("ONNX Runtime", parity.onnxruntime, f"torch {parity.torch}"),
    ]
