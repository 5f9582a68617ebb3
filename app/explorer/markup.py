"""Text and small pieces of HTML for the explorer; every text from a file is escaped here."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from app.explorer.layers import Gene, Layer, list_properties
from app.records import numbers
from app.records.device import TableReport
from app.records.quantities import Quantity
from app.records.searches.front import CardRecord
from app.records.typed_json.record import to_json
from app.reporting.markdown import escape_markdown

# What Streamlit makes links, icons, emoji and colours of, even where Markdown itself is escaped:
# addresses, and words between or after colons. A character without width in between hinders it.
_SPELLED = re.compile(r":(?=\S)|@(?=\S)|www(?=\\?\.)", re.IGNORECASE)
_WORD_JOINER = "\N{WORD JOINER}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

# Text follows the theme (light or dark); only coloured cells set both of their colours.
STYLE = """<style>
[data-testid="stMainBlockContainer"] {padding-top: 2rem; max-width: 1500px}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] * {color: inherit}
[data-testid="stCaptionContainer"] {opacity: 0.82}
[data-testid="stSliderThumbValue"], [data-testid="stSliderThumbValue"] * {color: inherit}
.facts {display: flex; flex-wrap: wrap; gap: 0.3rem 1.6rem; margin: 0}
.facts div {min-width: 4rem}
.facts.grid {display: grid; grid-template-columns: repeat(auto-fill, minmax(6.4rem, 1fr));
  gap: 0.5rem 1rem; margin-bottom: 0.8rem}
.facts .label {font-size: 0.8rem; opacity: 0.8; display: block}
.facts .value {font-size: 0.95rem; font-weight: 600; overflow-wrap: anywhere}
.facts.grid .value {font-size: 1.05rem}
.facts .note {font-size: 0.8rem; opacity: 0.8; margin-left: 0.3rem; font-weight: 400}
.facts.grid .note {display: block; margin: 0}
.genes {border-collapse: separate !important; border-spacing: 3px !important;
  font-size: 0.88rem; margin-bottom: 0.8rem}
.genes, .genes tr, .genes th, .genes td {border: 0 !important}
.genes th {font-weight: 500; opacity: 0.8; text-align: left; padding: 0.1rem 0.7rem; border: 0}
.genes td {padding: 0.22rem 0.7rem; border: 0; border-radius: 4px; min-width: 4.6rem}
.genes td.part {font-weight: 600; padding-top: 0.55rem}
.genes td.part span {font-weight: 400; margin-left: 0.9rem; display: inline-block}
.genes td.layer {padding-left: 1.5rem; opacity: 0.85}
.genes td.off {opacity: 0.8; font-style: italic}
.genes .was {font-size: 0.78rem; opacity: 0.9; margin-left: 0.45rem; white-space: nowrap}
.genes td:not(.part) .was {display: block; margin-left: 0}
.genes .changed {outline: 2px solid #D55E00; outline-offset: -2px; border-radius: 4px;
  padding: 0.1rem 0.45rem}
.genes td.changed {padding: 0.22rem 0.7rem}
.wide {overflow-x: auto; margin-bottom: 0.8rem}
.figures {border-collapse: collapse; font-size: 0.9rem; min-width: 60%}
.figures th, .figures td {border: 0; border-bottom: 1px solid rgba(128, 128, 128, 0.3);
  padding: 0.3rem 0.9rem 0.3rem 0; text-align: left; white-space: nowrap}
.figures th {font-weight: 600}
@media (max-width: 640px) {.genes td {min-width: 2.6rem; padding: 0.22rem 0.4rem}}
</style>"""

# Light to dark blue, with the text colour that reads on each.
_SHADES = (
    ("#e3eef9", "#1b2733"),
    ("#b9d6ee", "#1b2733"),
    ("#7fb5dc", "#10202e"),
    ("#3f83bd", "#ffffff"),
    ("#0f4f8f", "#ffffff"),
)


def write_text(text: object) -> str:
    """Text that Streamlit shows as it is: in one line, without links, pictures, markup or icons."""
    return _SPELLED.sub(lambda found: found.group() + _WORD_JOINER, escape_markdown(text))


def escape(text: object) -> str:
    """Text as HTML, in one line: an empty line would end the HTML and begin Markdown."""
    return html.escape(_CONTROL.sub(" ", str(text)))


def write_facts(entries: Sequence[tuple[str, str, str]], *, grid: bool = False) -> str:
    """Figures in a strip, or in aligned columns: ``(label, value, note)`` each."""
    cells = []
    for label, value, note in entries:
        extra = f'<span class="note">{escape(note)}</span>' if note else ""
        # In a narrow column a long name of a method goes on below, where its words end.
        shown = escape(value).replace("_", "_<wbr>") if grid else escape(value)
        cells.append(
            f'<div><span class="label">{escape(label)}</span>'
            f'<span class="value">{shown}{extra}</span></div>'
        )
    return f'<div class="facts{" grid" if grid else ""}">{"".join(cells)}</div>'


def write_layers(rows: Sequence[Layer]) -> str:
    """An architecture as a table: layers down, properties across, darker is larger.

    Layers that are not in the network say so; a changed gene is outlined and names what the
    compared architecture has.
    """
    names = list_properties(rows)
    lines = ["<tr><td></td>" + "".join(f"<th>{escape(name)}</th>" for name in names) + "</tr>"]
    for row in rows:
        if row.level < 2:
            genes = "".join(_write_inline(last, gene) for last, gene in row.genes.items())
            span = len(names) + 1
            title = escape(row.name)
            lines.append(f'<tr><td class="part" colspan="{span}">{title}{genes}</td></tr>')
            continue
        cells = [f'<td class="layer">{escape(row.name.rpartition(".")[2])}</td>']
        for name in names:
            cells.append(_write_cell(row.genes[name]) if name in row.genes else "<td></td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return _scroll(f'<table class="genes">{"".join(lines)}</table>', "Layers")


def write_table(header: Sequence[str], rows: Sequence[Sequence[str]], label: str) -> str:
    """A table of texts, whose first column names its rows; where it is wide it scrolls by itself.

    Args:
        header: A text for each column.
        rows: A text for each column of each row.
        label: What the table is of, for screen readers.
    """
    lines = ["".join(f'<th scope="col">{escape(name)}</th>' for name in header)]
    for first, *others in rows:
        cells = "".join(f"<td>{escape(text)}</td>" for text in others)
        lines.append(f'<th scope="row">{escape(first)}</th>{cells}')
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return _scroll(f'<table class="figures">{body}</table>', label)


def _scroll(table: str, label: str) -> str:
    """A table in a frame that is scrolled with the keyboard, too."""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'
    )


def _write_cell(gene: Gene) -> str:
    was = _write_other(gene)
    changed = " changed" if gene.changed else ""
    legal = f' title="{escape(_list_legal(gene))}"' if gene.legal else ""
    if gene.value is None:
        return f'<td class="off{changed}"{legal}>skipped{was}</td>'
    style = ""
    if gene.share is not None:
        back, front = _SHADES[round(gene.share * (len(_SHADES) - 1))]
        style = f' style="background:{back};color:{front}"'
    return f'<td class="on{changed}"{style}{legal}>{escape(str(gene.value))}{was}</td>'


def _write_inline(last: str, gene: Gene) -> str:
    value = "skipped" if gene.value is None else str(gene.value)
    changed = ' class="changed"' if gene.changed else ""
    of = f" of {_list_legal(gene)}" if len(gene.legal) > 1 else ""
    return (
        f'<span{changed} title="{escape(gene.name)}">{escape(last)} <b>{escape(value)}</b>'
        f'<span class="was">{escape(of)}</span>{_write_other(gene)}</span>'
    )


def _list_legal(gene: Gene) -> str:
    return ", ".join(str(value) for value in gene.legal)


def _write_other(gene: Gene) -> str:
    if not gene.changed:
        return ""
    other = "skipped" if gene.other is None else str(gene.other)
    return f'<span class="was">(compared: {escape(other)})</span>'


def describe_table(report: TableReport) -> str:
    """The figures of a latency table's validation in one sentence fragment."""
    shares = [("MAPE", report.mape), ("within 5 %", report.within_5)]
    shares += [("within 10 %", report.within_10), ("repeat noise floor", report.floor_mape)]
    parts = [
        f"{label} {numbers.format_percent(value)}" for label, value in shares if value is not None
    ]
    if report.kendall_tau is not None:
        parts.append(f"Kendall τ {report.kendall_tau:.2f}")
    if report.networks is not None:
        parts.append(numbers.format_items(report.networks, "held-out network"))
    return " · ".join(parts)


def list_card(card: CardRecord, objective: Quantity) -> list[tuple[str, str, str]]:
    """A predictor's report card as labelled figures; entries it does not know come last."""

    def unit(value: float) -> str:
        # Errors of a fraction are shown in points, as differences are.
        return objective.show_difference(value, 0.0).lstrip("+")

    def share(value: float) -> str:
        return numbers.format_percent(value, 0)

    widest = objective.most - objective.least
    known: dict[str, tuple[str, Callable[[Any], str]]] = {
        "model": ("Model", str),
        "samples": ("Fitted on", lambda value: numbers.format_items(value, "network")),
        "tau": ("Kendall τ", lambda value: f"{value:.2f}"),
        "spearman": ("Spearman correlation", lambda value: f"{value:.2f}"),
        "rmse": ("Error (RMSE)", unit),
        # Of a file from before intervals were bounded it may be wider than the scale.
        "half_width": ("Typical ±", lambda value: unit(min(value, widest))),
        "coverage": ("Interval coverage", share),
        "level": ("Coverage wanted", share),
        "regret": ("Regret of the top picks", unit),
        "needed": ("For Kendall τ 0.9", lambda value: f"{value} more" if value else "reached"),
    }
    report = to_json(card)
    entries = []
    for key, (label, write) in known.items():
        if report.get(key) is not None:
            entries.append((label, write(report[key]), ""))
    for key, value in report.items():
        if key not in (*known, "aim", "best", "widest") and isinstance(value, (int, float, str)):
            shown = numbers.format_digits(value) if isinstance(value, float) else str(value)
            entries.append((key.replace("_", " ").capitalize(), shown, ""))
    return entries
