"""The most frequent class of the data of a run."""

from __future__ import annotations

from app.records.class_balance import LargestClass
from supernet.data import IMAGES, DataSource
from supernet.quality.class_balance import find_largest_class


def describe_largest_class(data: DataSource, split: str) -> LargestClass | None:
    """The most frequent class of a split; ``None`` for data without classes.

    Args:
        data: The data.
        split: ``"train"``, ``"val"`` or ``"test"``.
    """
    if data.shape.task != IMAGES:
        return None
    index, share = find_largest_class(data.split(split).targets)
    return LargestClass(
        name=data.shape.labels[index], share=share, classes=data.shape.classes, split=split
    )
