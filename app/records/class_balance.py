"""How frequent the largest class of a split is, and which accuracies say more than that."""

from __future__ import annotations

from app.records.typed_json.record import Count, Record

# The others are, on average, at least this much rarer before anything is said about it.
_RATIO = 1.5


class LargestClass(Record):
    """The most frequent class of a split.

    Args:
        name: What it is called.
        share: Its share of the samples: the accuracy of always answering with it.
        classes: How many classes there are.
        split: Which split.
    """

    name: str
    share: float
    classes: Count
    split: str

    @property
    def dominates(self) -> bool:
        """Whether it has half again as many samples as the others have on average, or more."""
        return self.share * (self.classes - 1) >= _RATIO * (1 - self.share)

    def is_beaten_by(self, accuracy: float | None) -> bool:
        """Whether an accuracy is higher than that of always answering with this class."""
        return accuracy is not None and accuracy > self.share + 1e-9
