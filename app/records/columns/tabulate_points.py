"""From points that come a few at a time to columns of all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields

import numpy as np

from app.records.columns.choice_columns import ChoiceTable
from app.records.columns.front_columns import Column, make_column
from app.records.columns.point_columns import PointColumns, repeat_column
from app.records.quantities import list_counted
from app.records.searches.front import Estimate, Point

# Searches have a handful; above that only a file could be meant that wants memory.
_MOST_QUANTITIES = 256
_UNKNOWN = make_column([Estimate()])


def tabulate_points(parts: Iterable[Sequence[Point]]) -> PointColumns | None:
    """The columns of points; ``None`` where those have more quantities than searches have.

    Args:
        parts: All of them in order, a few at a time.
    """
    counted = [quantity.name for quantity in list_counted()]
    carried: dict[str, None] = {}
    columns: dict[str, list[Column]] = {name: [] for name in counted}
    choices, facts, rows = ChoiceTable(), [], 0
    for points in parts:
        for point in points:
            carried.update(dict.fromkeys(point.estimates))
        if len(carried) > _MOST_QUANTITIES:
            return None
        for name in carried:
            if name not in columns:
                columns[name] = [repeat_column(_UNKNOWN, rows)]
        for name, found in columns.items():
            found.append(make_column([point.estimate(name) for point in points]))
        choices.append([point.choices for point in points])
        facts += [
            (p.digest, p.on_front, p.indistinguishable, p.verified, p.within_limits is False)
            for p in points
        ]
        rows += len(points)
    whole = {name: _join(found) for name, found in columns.items()}
    digest, *flags = zip(*facts, strict=True) if facts else [()] * 5
    on_front, indistinguishable, verified, out_of_limits = (
        np.array(flag, dtype=np.bool_) for flag in flags
    )
    return PointColumns(
        digest=np.array(digest, dtype=np.str_),
        on_front=on_front,
        indistinguishable=indistinguishable,
        verified=verified,
        out_of_limits=out_of_limits,
        choices=choices.finish(),
        carried=tuple(carried),
        # What is counted on request is mostly not there.
        columns={n: c for n, c in whole.items() if n in carried or not np.isnan(c.best).all()},
    )


def _join(parts: Sequence[Column]) -> Column:
    return Column(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Column)}
    )
