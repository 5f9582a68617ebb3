"""An optimiser step for each of the architectures that a sampler draws together."""

from __future__ import annotations

from collections.abc import Sequence

from supernet.errors import InputError
from supernet.space import Architecture
from supernet.training.method import Learns, Sampler, Score

_LOOKED_AT = 64


class Sequential:
    """The architectures of another sampler's draws, one in each step, in the order of the draw.

    A step costs one pass instead of several, and a batch of its own; so at equal passes there are
    as many more steps, on as many more samples.

    Args:
        drawn: Its draws must be functions of the step alone, since one lasts for several steps. A
            draw of fewer architectures than usual (some were drawn twice) begins again.

    Raises:
        InputError: The sampler learns from training, or compares architectures on the batch.
    """

    def __init__(self, drawn: Sampler) -> None:
        asked = []

        def score(architectures: Sequence[Architecture]) -> list[float]:
            asked.append(architectures)
            return [0.0] * len(architectures)

        self.drawn = drawn
        self.period = max(len(drawn.draw(step, score)) for step in range(_LOOKED_AT))
        if asked or isinstance(drawn, Learns):
            raise InputError(
                "sequential = True needs a sampler whose draws do not depend on losses, and those "
                f"of {type(drawn).__name__} do; use sampler = 'sandwich', 'uniform' or 'fair'"
            )

    def draw(self, step: int, score: Score) -> tuple[Architecture, ...]:
        """A function of the step, as the draws are."""
        turn, place = divmod(step, self.period)
        architectures = self.drawn.draw(turn, score)
        return (architectures[place % len(architectures)],)
