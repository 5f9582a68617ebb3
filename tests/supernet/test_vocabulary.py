"""Vocabularies: text to token ids and back, what they lack, and how byte pairs are learnt."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supernet.data import open_data
from supernet.data.vocabulary import (
    BytePairs,
    Bytes,
    Characters,
    Vocabulary,
    digest_vocabulary,
    encode_prompt,
    find_size,
    learn_vocabulary,
    read_vocabulary,
)
from supernet.data.vocabulary.bpe import split_text
from supernet.errors import InputError, MissingPackageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
ENGLISH = (
    "the sea and the sand and the sun;\nthen there were three, and these were there.\n"
    "She'll sell 1200 sea shells -- \u00e9t\u00e9, 10 \u20ac\n\n\tthe end  of   it\n"
) * 3


@pytest.fixture(scope="module")
def pairs() -> Vocabulary:
    """Byte pairs that were learnt from some lines."""
    pytest.importorskip("tokenizers")
    return learn_vocabulary("bpe", ENGLISH, 300)


# -- round trips -------------------------------------------------------------------------------


@given(TEXT)
def test_characters_come_back(text: str) -> None:
    vocabulary = learn_vocabulary("characters", text, 1 << 20)
    ids = vocabulary.encode(text)
    assert ids.dtype == torch.int64
    assert ids.shape == (len(text),)
    assert vocabulary.decode(ids) == text
    assert torch.equal(encode_prompt(vocabulary, text), ids)
    assert read_vocabulary(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@given(TEXT)
def test_bytes_come_back(text: str) -> None:
    vocabulary = learn_vocabulary("bytes", "")
    ids = vocabulary.encode(text)
    assert ids.dtype == torch.int64
    assert ids.tolist() == list(text.encode())
    assert vocabulary.decode(ids) == text
    assert read_vocabulary(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.hf
@settings(deadline=None)
@given(text=TEXT | st.lists(st.sampled_from(ENGLISH.split(" "))).map(" ".join))
def test_byte_pairs_come_back(text: str, pairs: Vocabulary) -> None:
    ids = pairs.encode(text)
    assert ids.dtype == torch.int64
    assert pairs.decode(ids) == text
    assert pairs.decode(ids.tolist()) == text
    assert len(ids) <= len(text.encode())


@pytest.mark.hf
@settings(deadline=None, max_examples=30)
@given(text=TEXT, size=st.integers(257, 400))
def test_byte_pairs_of_any_text_come_back(text: str, size: int) -> None:
    pytest.importorskip("tokenizers")
    vocabulary = learn_vocabulary("bpe", text * 3, size)
    assert len(vocabulary.labels) <= size
    assert vocabulary.decode(vocabulary.encode(text)) == text
    again = read_vocabulary(json.loads(json.dumps(vocabulary.to_json())))
    assert again == vocabulary
    assert digest_vocabulary(again) == digest_vocabulary(vocabulary)


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert Bytes().decode([0x61, 0xC3, 0x62, 0xFF]) == "a\ufffdb\ufffd"
    assert BytePairs(((0xC3, 0xA9), (0x61, 0xC3))).decode([256, 257, 0x62]) == "\u00e9a\ufffdb"


# -- labels ------------------------------------------------------------------------------------


@pytest.mark.hf
def test_labels_are_unique_and_visible(pairs: Vocabulary) -> None:
    for vocabulary in (Bytes(), pairs):
        assert len(set(vocabulary.labels)) == len(vocabulary.labels)
        assert all(label.isprintable() and " " not in label for label in vocabulary.labels)
    assert pairs.labels[:256] == Bytes().labels
    assert len(pairs.labels) == 300


@pytest.mark.hf
def test_bytes_are_shown_as_the_library_shows_them() -> None:
    library = pytest.importorskip("tokenizers")
    assert set(Bytes().labels) == set(library.pre_tokenizers.ByteLevel.alphabet())
    shown = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    for text in ("a b\n", "\u00e9\u20ac\u00ad", "\x00\x7f\u00a0"):
        found = "".join(word for word, _ in shown.pre_tokenize_str(text))
        assert found == "".join(Bytes().labels[i] for i in text.encode())


# -- what is lacking ---------------------------------------------------------------------------


def test_a_prompt_names_the_characters_that_are_lacking() -> None:
    vocabulary = learn_vocabulary("characters", "abc")
    message = "^the prompt has characters that the vocabulary lacks: '\u00e9', '\u20ac'$"
    with pytest.raises(InputError, match=message):
        encode_prompt(vocabulary, "a\u00e9b\u20acc\u00e9")
    # The text itself has an unknown token for them.
    assert vocabulary.encode("a\u00e9b").tolist() == [1, 0, 2]
    with pytest.raises(InputError, match=r"'i', 'j', \.\.\. \(12 in total\)$"):
        encode_prompt(learn_vocabulary("characters", "z"), "abcdefghijkl")


def test_half_a_character_is_lacking_everywhere() -> None:
    for vocabulary in (Characters(("\ufffd", "a")), Bytes(), BytePairs(())):
        with pytest.raises(InputError, match=r"lacks: '\\udcff'$"):
            encode_prompt(vocabulary, "a\udcff")


@pytest.mark.parametrize(
    ("vocabulary", "ids"),
    [
        (Characters(("\ufffd", "a")), [2]),
        (Bytes(), [256]),
        (BytePairs(((1, 2),)), [257]),
        (Bytes(), [-1]),
    ],
)
def test_ids_of_no_token_are_refused(vocabulary: Vocabulary, ids: list[int]) -> None:
    with pytest.raises(InputError, match=rf"^{ids[0]} is no token of a vocabulary of"):
        vocabulary.decode(torch.tensor(ids))


# -- learning ----------------------------------------------------------------------------------

SYMBOLS = Bytes().labels
WORDS = re.compile(r" ?[a-z]+|\s+(?!\S)|\s+")


def learn_by_hand(text: str, size: int) -> list[tuple[str, str]]:
    """Merges by counting all pairs of all words anew for each of them (Sennrich et al. 2016)."""
    words = Counter(tuple(SYMBOLS[b] for b in word.encode()) for word in WORDS.findall(text))
    rank = {symbol: place for place, symbol in enumerate(sorted(SYMBOLS))}
    merges = []
    while len(rank) < size:
        counts: Counter[tuple[str, str]] = Counter()
        for word, number in words.items():
            for pair in pairwise(word):
                counts[pair] += number
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda p: (-counts[p], rank[p[0]], rank[p[1]]))
        merges.append(best)
        rank.setdefault("".join(best), len(rank))
        joined: Counter[tuple[str, ...]] = Counter()
        for word, number in words.items():
            joined[join_pair(word, best)] += number
        words = joined
    return merges


def join_pair(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    found, place = [], 0
    while place < len(word):
        if word[place : place + 2] == pair:
            found.append("".join(pair))
            place += 2
        else:
            found.append(word[place])
            place += 1
    return tuple(found)


@pytest.mark.hf
@pytest.mark.parametrize("seed", range(5))
def test_merges_and_tokens_are_those_of_counting_by_hand(seed: int) -> None:
    """Few letters and short words, so that many pairs are equally frequent."""
    pytest.importorskip("tokenizers")
    rng = np.random.default_rng(seed)
    letters = list("abcdefgh")
    words = ["".join(rng.permutation(letters)[: rng.integers(1, 6)]) for _ in range(150)]
    text = " ".join(words) + "\n\n" + "\n".join(words[:40])
    vocabulary = learn_vocabulary("bpe", text, 330)
    assert isinstance(vocabulary, BytePairs)
    labels = vocabulary.labels
    expected = learn_by_hand(text, 330)
    assert [(labels[a], labels[b]) for a, b in vocabulary.merges] == expected
    by_hand = []
    for word in WORDS.findall(text):
        parts = tuple(SYMBOLS[b] for b in word.encode())
        for pair in expected:
            parts = join_pair(parts, pair)
        by_hand += parts
    assert [labels[i] for i in vocabulary.encode(text)] == by_hand


LEARN = """
import sys
from pathlib import Path
from supernet.data import open_data
from supernet.data.vocabulary import digest_vocabulary
data = open_data(f"text:{sys.argv[1]}", context=4, tokens="bpe", vocabulary=600)
print(digest_vocabulary(data.vocabulary), data.fingerprint)
"""


@pytest.mark.hf
def test_the_same_text_gives_the_same_merges_in_every_process(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), rng.integers(2, 9))) for _ in range(3000)]
    (tmp_path / "t.txt").write_text(" ".join(words))
    found = {
        subprocess.run(
            [sys.executable, "-c", LEARN, tmp_path / "t.txt"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(3)
    }
    assert len(found) == 1


@pytest.mark.hf
def test_nothing_is_learnt_from_the_parts_that_judge(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    train, rest = "".join(f"some word{i % 7} and " for i in range(1300)), 2000
    found = []
    for end in ("zq" * (rest // 2), "the sea " * (rest // 8)):
        (tmp_path / "t.txt").write_text(train[:18000] + end)
        found.append(open_data(f"text:{tmp_path / 't.txt'}", tokens="bpe", context=8))
    assert found[0].vocabulary == found[1].vocabulary
    assert found[0].shape == found[1].shape
    assert found[0].fingerprint != found[1].fingerprint
    (tmp_path / "t.txt").write_text("the sea " + train[:17992] + "zq" * (rest // 2))
    other = open_data(f"text:{tmp_path / 't.txt'}", tokens="bpe", context=8, vocabulary=290)
    (tmp_path / "t.txt").write_text("zqzqzqzq" * 9 + train[:17928] + "zq" * (rest // 2))
    changed = open_data(f"text:{tmp_path / 't.txt'}", tokens="bpe", context=8, vocabulary=290)
    assert other.vocabulary != changed.vocabulary, "another training part has other merges"


@pytest.mark.hf
@given(text=st.text(st.sampled_from("ab'\u00e9 \n\t1.\u3000\x1c")))
@settings(deadline=None)
def test_no_token_reaches_across_the_blocks_of_a_text(text: str, pairs: Vocabulary) -> None:
    for length in (1, 2, 5):
        blocks = list(split_text(text, length))
        assert "".join(blocks) == text
        apart = [number for block in blocks for number in pairs.encode(block).tolist()]
        assert apart == pairs.encode(text).tolist()


# -- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "size", "message"),
    [
        ("words", None, "unknown tokens 'words'; use characters, bytes, bpe"),
        ("byte", None, "did you mean 'bytes'"),
        ("bytes", 300, "300 tokens is impossible for bytes, which are 256; leave it out"),
        ("bpe", 256, "256 tokens is impossible for bpe; it must have 257 to 1,048,576"),
        ("bpe", 2**62, "is impossible for bpe"),
        ("characters", 1, "1 tokens is impossible for characters; it must have 2 to"),
    ],
)
def test_impossible_vocabularies_are_refused(kind: str, size: int | None, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        learn_vocabulary(kind, "text", size)


def test_sizes_have_defaults() -> None:
    assert [find_size(kind, None) for kind in ("characters", "bytes", "bpe")] == [256, 256, 1024]
    assert find_size("bytes", 256) == 256


# -- what is read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ([], "an object whose kind is characters, bytes, bpe"),
        ({"kind": "words"}, "an object whose kind is characters, bytes, bpe"),
        ({"kind": "characters"}, "characters needs a list of tokens"),
        ({"kind": "characters", "tokens": ["\ufffd", "ab"]}, "must be single characters"),
        ({"kind": "characters", "tokens": ["\ufffd", 5]}, "must be single characters"),
        ({"kind": "characters", "tokens": ["\ufffd", "\ud800"]}, "must be whole characters"),
        ({"kind": "characters", "tokens": ["a"]}, "others after it, each once"),
        ({"kind": "characters", "tokens": ["\ufffd", "a", "a"]}, "others after it, each once"),
        ({"kind": "bpe"}, "bpe needs a list of merges"),
        ({"kind": "bpe", "merges": [5]}, "must be pairs of token ids"),
        ({"kind": "bpe", "merges": [[1, 2], [1, 2]]}, "each pair once"),
        ({"kind": "bpe", "merges": [[1, 2, 3]]}, r"merge 0 of a vocabulary is \(1, 2, 3\)"),
        ({"kind": "bpe", "merges": [[1, 2], [0, 257]]}, "a pair of the 257 tokens before it"),
        ({"kind": "bpe", "merges": [[1, True]]}, "a pair of the 256 tokens before it"),
        ({"kind": "bpe", "merges": [[1, -1]]}, "a pair of the 256 tokens before it"),
        # Each token is twice as long as the one before: the last of these would have 2^60 bytes.
        (
            {"kind": "bpe", "merges": [[65, 65], *([i, i] for i in range(256, 315))]},
            "merge 7 of a vocabulary makes a token of 256 bytes",
        ),
    ],
)
def test_what_is_no_vocabulary_is_refused(payload: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_vocabulary(payload)


@pytest.mark.hf
def test_a_pair_may_make_a_token_that_is_there_already() -> None:
    pytest.importorskip("tokenizers")
    a, b, c = b"abc"
    vocabulary = BytePairs(((a, b), (b, c), (256, c), (a, 257)))
    assert vocabulary.tokens[256:] == (b"ab", b"bc", b"abc")
    assert vocabulary.encode("abc abc").tolist() == [258, 32, 258]


# -- texts -------------------------------------------------------------------------------------


@pytest.mark.hf
def test_every_part_has_the_same_text_with_all_vocabularies(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    text = ("".join(f"line {i}: \u00e9t\u00e9 \u20ac {i * i}\n" for i in range(600)))[:9000]
    (tmp_path / "t.txt").write_text(text, encoding="utf-8")
    for kind in ("characters", "bytes", "bpe"):
        data = open_data(f"text:{tmp_path / 't.txt'}", context=16, tokens=kind)
        assert data.vocabulary is not None
        assert data.vocabulary.labels == data.shape.labels
        assert data.shape.classes == len(data.shape.labels)
        for name, start, end in (("train", 0, 8100), ("val", 8100, 8550), ("test", 8550, 9000)):
            part, split = text[start:end], data.split(name)
            expected = data.vocabulary.encode(part)
            assert torch.equal(split.inputs[0], expected[:16])
            assert torch.equal(split.targets[0], expected[1:17])
            size = len(part.encode()) / len(expected)
            assert data.bytes_per_token[name] == size
            # A loss of a byte's worth of coin flips for each token.
            bits = data.count_bits_per_byte(8 * math.log(2) * size, name)
            assert bits == pytest.approx(8)
        assert data.epoch == len(data.vocabulary.encode(text[:8100])) // 16
    assert open_data("digits").count_bits_per_byte(1.0, "val") is None


@pytest.mark.hf
def test_windows_are_counted_in_tokens(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "t.txt").write_text("once more and " * 120)
    spec = f"text:{tmp_path / 't.txt'}"
    assert len(open_data(spec, context=40).val) == 2
    assert len(open_data(spec, context=40, tokens="bytes").val) == 2
    message = r"the val part of .*t\.txt has \d\d tokens; with a context of 40 tokens at least 81 a"
    with pytest.raises(InputError, match=message):
        open_data(spec, context=40, tokens="bpe")
    # Characters of two bytes: half as many of them do.
    (tmp_path / "t.txt").write_text("\u00e9" * 1000, encoding="utf-8")
    with pytest.raises(InputError, match=r"has 1000 characters; with a context of 40 .* 1620"):
        open_data(spec, context=40)
    assert len(open_data(spec, context=40, tokens="bytes").val) == 2


@pytest.mark.hf
def test_a_text_with_less_to_learn_says_so(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    (tmp_path / "t.txt").write_text("once more and " * 400)
    data = open_data(f"text:{tmp_path / 't.txt'}", context=4, tokens="bpe")
    assert data.shape.classes < 300
    (note,) = data.notes
    assert note.endswith(
        f"no more to learn than a vocabulary of {data.shape.classes} tokens, and 1,024 were asked "
        "for"
    )
    assert open_data(f"text:{tmp_path / 't.txt'}", context=4).notes == ()


def test_memory_is_that_of_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.txt").write_text("once more and " * 400)
    monkeypatch.setattr("supernet.data.memory.measure_available_memory", lambda: 14 * 400 * 8)
    for kind, what in (("characters", "characters"), ("bytes", "bytes"), ("bpe", "tokens")):
        with pytest.raises(InputError, match=rf"^the {what} of .*t\.txt need 0 MB of memory"):
            open_data(f"text:{tmp_path / 't.txt'}", tokens=kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tokens": "bytes"}, "tokens bytes applies to text:PATH data; 'digits' has none"),
        ({"vocabulary": 300}, "vocabulary 300 applies to text:PATH data; 'digits' has none"),
    ],
)
def test_other_data_have_no_tokens(options: dict[str, int | str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_data("digits", **options)  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'supernet\[hf\]'$"):
        learn_vocabulary("bpe", "text")
    with pytest.raises(MissingPackageError, match=r"pip install 'supernet\[hf\]'$"):
        BytePairs(()).encode("text")
    # Whoever only reads what a network writes needs none.
    assert BytePairs(((104, 105),)).decode([256, 33]) == "hi!"
