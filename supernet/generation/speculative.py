"""Speculative decoding: a small model drafts, a large one verifies several tokens at once.

Leviathan et al. 2023, "Fast inference from transformers via speculative decoding". The draft may be
a subnetwork of the model: no choice of a MatLM touches keys and values, so that the draft can read
those of the model's first layers for all text that is verified, and needs none of its own (Devvrit
et al. 2023, "MatFormer", section 4.1.2). In nested shells it reads the heads of its own shells,
whose keys and values are those that it would have computed itself. Where experts are mixed for each
architecture they are only alike; whatever a draft reads, the model decides on the text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernet.errors import InputError
from supernet.generation.decoding import check_ids
from supernet.generation.language_model import LanguageModel, Past, check_room
from supernet.generation.sampling import GREEDY, Sampling, choose, find_probabilities

DRAFTED = 4
"""Tokens that are drafted before they are verified."""


@dataclass(frozen=True)
class Speculated:
    """What came of speculative decoding.

    Args:
        ids: ``(tokens,)``, those generated.
        drafted: How many tokens were drafted.
        accepted: How many of these the model agreed with.
        passes: Forward passes of the model, the prompt's included.
    """

    ids: Tensor
    drafted: int
    accepted: int
    passes: int

    @property
    def acceptance(self) -> float:
        """Share of the drafted tokens that the model agreed with; 0 when none was drafted."""
        return self.accepted / self.drafted if self.drafted else 0.0


def speculate(
    model: LanguageModel,
    draft: LanguageModel,
    prompt: Tensor,
    tokens: int,
    *,
    drafted: int = DRAFTED,
    shared: bool = True,
    sampling: Sampling = GREEDY,
    seed: int = 0,
    show: Callable[[Tensor], None] | None = None,
) -> Speculated:
    """Generate what the model alone would, with a draft's help.

    Greedily the tokens are those of :func:`supernet.generation.decoding.generate`, but for ties
    within rounding: several tokens are scored at once, in another order of sums. Drawn tokens have
    the same distribution (Leviathan et al., appendix A.1).

    Args:
        model: Whose text it is.
        draft: A cheaper model of the same vocabulary.
        prompt: Ids ``(1, length)``.
        tokens: How many to generate.
        drafted: Tokens drafted before they are verified.
        shared: The draft reads keys and values of the model's first layers, which works for
            subnetworks of one supernet; ``False`` gives it its own.
        sampling: How tokens are chosen.
        seed: Of what is drawn.
        show: Told every verified id ``(1,)``.

    Raises:
        InputError: A draft of another vocabulary, layers that cannot be shared, several prompts,
            ids outside of the vocabulary, or more tokens than the context.
    """
    _check(model, draft, prompt, tokens, drafted, shared)
    return _Speculation(model, draft, drafted, shared, sampling, seed, show).run(prompt, tokens)


def can_share(model: LanguageModel, draft: LanguageModel) -> bool:
    """Whether a draft finds all layers and key-value heads that it has in those of a model.

    Args:
        model: Whose keys and values they are.
        draft: A subnetwork of the same supernet.
    """
    theirs = [(key.shape[1], key.shape[3]) for key, _ in draft.start(1)]
    ours = [(key.shape[1], key.shape[3]) for key, _ in model.start(1)]
    fits = all(a <= b and c == d for (a, c), (b, d) in zip(theirs, ours, strict=False))
    return len(theirs) <= len(ours) and fits


class _Speculation:
    """One text as it grows: verified ids, and what both models know of them."""

    def __init__(
        self,
        model: LanguageModel,
        draft: LanguageModel,
        drafted: int,
        shared: bool,
        sampling: Sampling,
        seed: int,
        show: Callable[[Tensor], None] | None,
    ) -> None:
        self.model, self.draft, self.most, self.shared = model, draft, drafted, shared
        self.sampling, self.show = sampling, show
        self.generator = torch.Generator().manual_seed(seed)
        self.heads = [key.shape[1] for key, _ in draft.start(1)]
        self.drafted = self.accepted = self.passes = 0
        self.found: list[Tensor] = []

    def run(self, prompt: Tensor, tokens: int) -> Speculated:
        logits, self.past = self._verify(prompt, self.model.start(1))
        self.own = self.draft.start(1)
        self.text = prompt
        self._add(choose(logits[:, -1], self.sampling, self.generator))
        while len(self.found) < tokens:
            # The last token comes from the model in any case.
            count = min(self.most, tokens - len(self.found) - 1)
            self._advance(*self._propose(count))
        ids = torch.cat(self.found)[:tokens]
        return Speculated(ids, self.drafted, self.accepted, self.passes)

    def _propose(self, count: int) -> tuple[list[Tensor], list[Tensor]]:
        """Draft some tokens; gives their ids, and the logits that each was chosen from."""
        past = _take_heads(self.past, self.heads) if self.shared else self.own
        known = past[0][0].shape[2]
        unread, ids, scores = self.text[:, known:], [], []
        for _ in range(count):
            logits, past = self.draft.score(unread, past)
            chosen = choose(logits[:, -1], self.sampling, self.generator).cpu()
            ids.append(chosen)
            scores.append(logits[:, -1])
            unread = chosen[:, None]
        self.own = past
        self.drafted += count
        return ids, scores

    def _advance(self, ids: list[Tensor], scores: list[Tensor]) -> None:
        """Verify drafted tokens, keep those the model agrees with and add one of its own."""
        before = self.text.shape[1]
        read = torch.cat([self.text[:, -1:], *(i[:, None] for i in ids)], dim=1)
        logits, past = self._verify(read, self.past)
        kept = 0
        while kept < len(ids):
            verdict = self._judge(ids[kept], scores[kept], logits[:, kept])
            self._add(ids[kept] if verdict is None else verdict)
            if verdict is not None:
                break
            kept += 1
        else:
            self._add(choose(logits[:, kept], self.sampling, self.generator))
        self.accepted += kept
        # All but the token that was added last are known by now.
        self.past = _cut(past, before + kept)
        self.own = _cut(self.own, before + kept)

    def _judge(self, token: Tensor, draft: Tensor, model: Tensor) -> Tensor | None:
        """None where the model takes a drafted token, else the token it has in its place."""
        if self.sampling.temperature == 0:
            own = model.argmax(-1).cpu()
            return None if torch.equal(own, token) else own
        ours = find_probabilities(model, self.sampling).cpu()
        theirs = find_probabilities(draft, self.sampling).cpu()
        ratio = (ours / theirs)[0, int(token)]
        if torch.rand((), generator=self.generator, dtype=torch.float64) < ratio:
            return None
        rest = (ours - theirs).clamp(min=0)
        return torch.multinomial(rest, 1, generator=self.generator)[:, 0]

    def _verify(self, ids: Tensor, past: Past) -> tuple[Tensor, Past]:
        self.passes += 1
        return self.model.score(ids, past)

    def _add(self, token: Tensor) -> None:
        token = token.cpu()
        self.found.append(token)
        self.text = torch.cat((self.text, token[:, None]), dim=1)
        if self.show is not None:
            self.show(token)


def _cut(past: Past, tokens: int) -> Past:
    """Keys and values of the first tokens; of all there are where those are fewer."""
    return [(key[:, :, :tokens], value[:, :, :tokens]) for key, value in past]


def _take_heads(past: Past, heads: Sequence[int]) -> Past:
    """The first key-value heads of the first layers."""
    return [
        (key[:, :count], value[:, :count])
        for (key, value), count in zip(past[: len(heads)], heads, strict=True)
    ]


def _check(
    model: LanguageModel,
    draft: LanguageModel,
    prompt: Tensor,
    tokens: int,
    drafted: int,
    shared: bool,
) -> None:
    if len(prompt) != 1:
        raise InputError(f"speculative decoding is of one text at a time, not of {len(prompt)}")
    if drafted < 1:
        raise InputError(f"drafted = {drafted} must be at least 1")
    if draft.vocabulary != model.vocabulary:
        raise InputError(
            f"the draft has {draft.vocabulary} tokens and the model {model.vocabulary}; a draft "
            "needs the same vocabulary"
        )
    check_room(model, prompt.shape[1], tokens)
    check_room(draft, prompt.shape[1], tokens)
    check_ids(model, prompt)
    if not shared:
        return
    if not can_share(model, draft):
        raise InputError(
            "the draft cannot read the keys and values of the model: it has more layers or "
            "key-value heads, or heads of another size; give it its own (shared=False)"
        )
