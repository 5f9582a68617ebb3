"""Choices, architectures and search spaces as immutable values; needs numpy only."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supernet.errors import InputError

Value = int | float | str
Positions = NDArray[np.int16]

FORMAT_VERSION = 1
PRECISION = "precision"
"""Kind of the choices that offer number formats."""


def nearest(name: str, legal: Sequence[str]) -> str:
    """Hint at the nearest legal name: ``" (did you mean 'x'?)"``, or ``""`` when none is close."""
    close = difflib.get_close_matches(name, legal, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _content_hash(payload: object, length: int) -> str:
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


@dataclass(frozen=True, slots=True)
class Choice:
    """One named decision with a finite, ordered set of values.

    Args:
        name: Unique within a space, by convention ``part.property`` (``"stage2.depth"``).
        values: Legal values, smallest first, without repeats.
        kind: What the choice varies: ``depth``, ``kernel``, ``expand``, ``width``, ``heads``,
            ``ffn``, ``resolution``, ``precision`` or a family's own word.
        needs: ``(other, value)``: this choice matters only while ``other`` itself matters and
            stands at ``value`` or a later one. ``None``: it always matters.

    Raises:
        InputError: No values, or a value twice.
    """

    name: str
    values: tuple[Value, ...]
    kind: str
    needs: tuple[str, Value] | None = None

    def __post_init__(self) -> None:
        if not self.values:
            raise InputError(f"choice {self.name!r} has no values; it needs at least one")
        if len(set(self.values)) != len(self.values):
            raise InputError(f"choice {self.name!r} lists a value twice: {list(self.values)}")

    def position(self, value: Value) -> int:
        """The index of ``value`` among the legal values; InputError names them otherwise."""
        # bool is an int and 3.0 == 3: a file that says so is wrong, whatever Python thinks.
        for index, legal in enumerate(self.values):
            if legal == value and type(legal) is type(value):
                return index
        raise InputError(
            f"{self.name} = {value!r} is not a legal value; legal values are {list(self.values)}"
        )


@dataclass(frozen=True, slots=True)
class Architecture:
    """One member of a search space: a value for every choice, in canonical form.

    Choices that are inert (a kernel of a block that is not there) hold the first legal value, so
    two architectures are equal exactly when they are the same network. Made by a
    :class:`SearchSpace`, never by hand.
    """

    names: tuple[str, ...]
    values: tuple[Value, ...]
    active: tuple[bool, ...]
    space_digest: str

    def __getitem__(self, name: str) -> Value:
        try:
            return self.values[self.names.index(name)]
        except ValueError:
            raise KeyError(f"no choice {name!r}{nearest(name, self.names)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits of the content: file names, caches, de-duplication."""
        return _content_hash({"space": self.space_digest, "choices": self.to_dict()}, 12)

    def to_dict(self) -> dict[str, Value]:
        """The choices that matter and their values, in the order of the space."""
        rows = zip(self.names, self.values, self.active, strict=True)
        return {name: value for name, value, active in rows if active}

    def to_json(self) -> dict[str, Any]:
        """A JSON-able record with version, space digest and own digest."""
        return {
            "version": FORMAT_VERSION,
            "space": self.space_digest,
            "digest": self.digest,
            "choices": self.to_dict(),
        }

    def diff(self, other: Architecture) -> dict[str, tuple[Value | None, Value | None]]:
        """Choices where the two differ, as ``{name: (ours, theirs)}``; ``None`` marks inert."""
        ours, theirs = self.to_dict(), other.to_dict()
        names = list(dict.fromkeys((*self.names, *other.names)))
        pairs = {name: (ours.get(name), theirs.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@dataclass(frozen=True)
class SearchSpace:
    """A finite set of architectures, described by choices; all bulk work is vectorised.

    Populations are ``int16`` arrays of shape ``(n, len(space))`` whose entries are positions among
    the legal values of each choice. Every method that returns such an array returns it canonical:
    inert entries are 0.

    Raises:
        InputError: Two choices of one name, or a ``needs`` that names an unknown choice, an
            illegal value or itself in a circle.
    """

    choices: tuple[Choice, ...]
    _levels: tuple[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int16]], ...] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        names = [choice.name for choice in self.choices]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two choices are named {name!r}; names must be unique")
        index = {name: i for i, name in enumerate(names)}
        level: dict[int, int] = {}
        for start in range(len(self.choices)):
            self._find_level(start, index, level, ())
        levels = []
        for depth in range(1, max(level.values(), default=0) + 1):
            rows = [i for i in range(len(names)) if level[i] == depth]
            needs = [self.choices[i].needs or ("", 0) for i in rows]
            parents = [index[name] for name, _ in needs]
            least = [
                self.choices[p].position(value)
                for p, (_, value) in zip(parents, needs, strict=True)
            ]
            levels.append((np.array(rows), np.array(parents), np.array(least, dtype=np.int16)))
        object.__setattr__(self, "_levels", tuple(levels))

    def _find_level(
        self, i: int, index: Mapping[str, int], level: dict[int, int], path: tuple[int, ...]
    ) -> int:
        if i in path:
            circle = " -> ".join(self.choices[j].name for j in (*path, i))
            raise InputError(f"choices need each other in a circle: {circle}")
        if i not in level:
            needs = self.choices[i].needs
            if needs is None:
                level[i] = 0
            elif needs[0] not in index:
                raise InputError(
                    f"choice {self.choices[i].name!r} needs {needs[0]!r}, which is not in the "
                    f"space{nearest(needs[0], list(index))}"
                )
            else:
                level[i] = 1 + self._find_level(index[needs[0]], index, level, (*path, i))
        return level[i]

    def __len__(self) -> int:
        return len(self.choices)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the choices, in order."""
        return tuple(choice.name for choice in self.choices)

    @cached_property
    def cardinalities(self) -> NDArray[np.int16]:
        """Number of legal values of each choice, shape ``(len(space),)``."""
        return np.array([len(choice.values) for choice in self.choices], dtype=np.int16)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the content: equal for equal spaces, on any machine."""
        return _content_hash([_choice_to_json(choice) for choice in self.choices], 16)

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.names)}

    def index(self, name: str) -> int:
        """The column of the choice ``name``; KeyError with the nearest name otherwise."""
        if name not in self._indices:
            raise KeyError(f"no choice {name!r} in the space{nearest(name, self.names)}")
        return self._indices[name]

    def choice(self, name: str) -> Choice:
        """The choice called ``name``; KeyError with the nearest name otherwise."""
        return self.choices[self.index(name)]

    @cached_property
    def size(self) -> int:
        """Number of distinct architectures, exact."""
        children: dict[int, list[tuple[int, int]]] = {i: [] for i in range(len(self))}
        roots = []
        for i, choice in enumerate(self.choices):
            if choice.needs is None:
                roots.append(i)
            else:
                parent = self.index(choice.needs[0])
                children[parent].append((i, self.choices[parent].position(choice.needs[1])))

        def count(i: int) -> int:
            below = [(count(child), least) for child, least in children[i]]
            return sum(
                prod(n for n, least in below if position >= least)
                for position in range(len(self.choices[i].values))
            )

        return prod(count(root) for root in roots)

    @cached_property
    def smallest(self) -> Architecture:
        """Every choice at its first value."""
        return self.decode(np.zeros((1, len(self)), dtype=np.int16))[0]

    @cached_property
    def largest(self) -> Architecture:
        """Every choice at its last value."""
        return self.decode((self.cardinalities - 1)[None])[0]

    # -- single architectures ------------------------------------------------------------------

    def architecture(self, values: Mapping[str, Value]) -> Architecture:
        """The architecture with these values; inert choices may be left out and are ignored.

        Raises:
            InputError: A choice is unknown, illegal, or active and missing; the legal names or
                values are in the message.
        """
        for name in values:
            if name not in self._indices:
                raise InputError(f"unknown choice {name!r}{nearest(name, self.names)}")
        positions = np.zeros((1, len(self)), dtype=np.int16)
        for i, choice in enumerate(self.choices):
            if choice.name in values:
                positions[0, i] = choice.position(values[choice.name])
        needed = self.active(positions)[0].tolist()
        for choice in itertools.compress(self.choices, needed):
            if choice.name not in values:
                raise InputError(
                    f"choice {choice.name!r} is missing; legal values are {list(choice.values)}"
                )
        return self.decode(positions)[0]

    def architecture_from_json(self, payload: object) -> Architecture:
        """Read what :meth:`Architecture.to_json` wrote, checking version, space and content.

        Raises:
            InputError: Not such a record, of an unknown version, or of another space.
        """
        if not isinstance(payload, Mapping) or not isinstance(payload.get("choices"), Mapping):
            raise InputError('an architecture file is a JSON object with a "choices" object')
        if payload.get("version", FORMAT_VERSION) != FORMAT_VERSION:
            raise InputError(
                f"architecture version {payload['version']!r} is unknown; "
                f"this release reads version {FORMAT_VERSION}"
            )
        architecture = self.architecture(payload["choices"])
        if payload.get("space", self.digest) != self.digest:
            raise InputError(
                f"the architecture belongs to space {payload['space']}, not to {self.digest}"
            )
        return architecture

    def check(self, architecture: Architecture) -> None:
        """InputError unless the architecture was made by this space (or an equal one)."""
        if architecture.space_digest != self.digest:
            raise InputError(
                f"the architecture belongs to space {architecture.space_digest}, "
                f"not to {self.digest}"
            )

    # -- populations ---------------------------------------------------------------------------

    def active(self, positions: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which entries matter; ``(n, len(space))`` in, the same shape out."""
        mask = np.ones(positions.shape, dtype=bool)
        for rows, parents, least in self._levels:
            mask[:, rows] = mask[:, parents] & (positions[:, parents] >= least)
        return mask

    def canonical(self, positions: NDArray[np.integer]) -> Positions:
        """The same networks with inert entries 0; ``(n, len(space))`` in and out."""
        result: Positions = np.where(self.active(positions), positions, 0).astype(np.int16)
        return result

    def sample(self, rng: np.random.Generator, count: int) -> Positions:
        """``count`` architectures, every choice uniform, shape ``(count, len(space))``."""
        # Scaled doubles are several times faster than bounded integers with a bound per column.
        draws = rng.random((count, len(self)), dtype=np.float32)
        positions = (draws * self.cardinalities).astype(np.int16)
        return self.canonical(np.minimum(positions, self.cardinalities - 1))

    def sample_one(self, rng: np.random.Generator) -> Architecture:
        """One architecture, every choice uniform."""
        return self.decode(self.sample(rng, 1))[0]

    def encode(self, architectures: Sequence[Architecture]) -> Positions:
        """Positions of the architectures, shape ``(n, len(space))``.

        Raises:
            InputError: One belongs to another space.
        """
        result = np.zeros((len(architectures), len(self)), dtype=np.int16)
        lookup = [{value: i for i, value in enumerate(c.values)} for c in self.choices]
        for row, architecture in enumerate(architectures):
            self.check(architecture)
            result[row] = [table[v] for table, v in zip(lookup, architecture.values, strict=True)]
        return result

    def decode(self, positions: NDArray[np.integer]) -> list[Architecture]:
        """Architectures of the positions ``(n, len(space))``.

        Raises:
            InputError: A position is outside the legal values.
        """
        if positions.ndim != 2 or positions.shape[1] != len(self):
            raise InputError(f"positions have shape {positions.shape}; expected (n, {len(self)})")
        outside = (positions < 0) | (positions >= self.cardinalities)
        if outside.any():
            row, column = (int(i) for i in np.argwhere(outside)[0])
            choice = self.choices[column]
            raise InputError(
                f"position {positions[row, column]} of choice {choice.name!r} is outside "
                f"0..{len(choice.values) - 1}"
            )
        canonical = self.canonical(positions)
        active = self.active(canonical)
        return [
            Architecture(
                self.names,
                tuple(c.values[p] for c, p in zip(self.choices, row, strict=True)),
                tuple(mask),
                self.digest,
            )
            for row, mask in zip(canonical.tolist(), active.tolist(), strict=True)
        ]

    def mutate(
        self, positions: NDArray[np.integer], rng: np.random.Generator, rate: float | None = None
    ) -> Positions:
        """Reset mutation: each entry changes with probability ``rate`` to another value.

        Args:
            positions: ``(n, len(space))``.
            rng: Source of randomness.
            rate: Probability of change per entry; by default ``1 / len(space)``.

        Returns:
            ``(n, len(space))``, canonical.
        """
        rate = 1 / len(self) if rate is None else rate
        rows, columns = np.nonzero(rng.random(positions.shape, dtype=np.float32) < rate)
        # Adding 1..n-1 modulo n never returns the old value; one-valued choices stay put.
        others = np.maximum(self.cardinalities[columns] - 1, 1)
        shift = 1 + (rng.random(len(columns)) * others).astype(np.int16)
        moved = np.array(positions, dtype=np.int16)
        moved[rows, columns] = (moved[rows, columns] + shift) % self.cardinalities[columns]
        return self.canonical(moved)

    def crossover(
        self,
        first: NDArray[np.integer],
        second: NDArray[np.integer],
        rng: np.random.Generator,
    ) -> Positions:
        """Uniform crossover: every entry from either parent; ``(n, len(space))`` each."""
        coins = np.frombuffer(rng.bytes(-(-first.size // 8)), dtype=np.uint8)
        heads = np.unpackbits(coins, count=first.size).view(bool).reshape(first.shape)
        return self.canonical(np.where(heads, first, second))

    def neighbours(self, row: NDArray[np.integer]) -> Positions:
        """All distinct networks one change away from ``row`` ``(len(space),)``."""
        origin = self.canonical(np.asarray(row)[None])
        changed = []
        for column in np.flatnonzero(self.active(origin)[0]):
            for position in range(int(self.cardinalities[column])):
                if position != origin[0, column]:
                    other = origin[0].copy()
                    other[column] = position
                    changed.append(other)
        if not changed:
            return np.zeros((0, len(self)), dtype=np.int16)
        return np.unique(self.canonical(np.stack(changed)), axis=0)

    def restrict(self, allowed: Mapping[str, Sequence[Value]]) -> SearchSpace:
        """The subspace where the named choices keep only the given values.

        The result is a space of its own; carry its members over with
        ``space.architecture(member.to_dict())``. A dependency on a value that is gone moves to
        the next value left; a choice that can never matter any more is left out.

        Raises:
            InputError: Unknown choice, illegal value or nothing left.
        """
        for name in allowed:
            if name not in self._indices:
                raise InputError(f"unknown choice {name!r}{nearest(name, self.names)}")
        kept: dict[str, tuple[Value, ...]] = {}
        for choice in self.choices:
            wanted = {choice.position(v) for v in allowed.get(choice.name, choice.values)}
            if not wanted:
                raise InputError(f"choice {choice.name!r} would have no values left")
            kept[choice.name] = tuple(choice.values[i] for i in sorted(wanted))
        dropped: set[str] = set()
        choices = []
        for choice in sorted(self.choices, key=lambda c: self._depth(c)):
            needs = choice.needs
            if needs is not None:
                parent = self.choice(needs[0])
                least = parent.position(needs[1])
                left = [v for v in kept[needs[0]] if parent.position(v) >= least]
                if needs[0] in dropped or not left:
                    dropped.add(choice.name)
                    continue
                needs = (needs[0], left[0])
            choices.append(Choice(choice.name, kept[choice.name], choice.kind, needs))
        order = {name: i for i, name in enumerate(self.names)}
        return SearchSpace(tuple(sorted(choices, key=lambda c: order[c.name])))

    def _depth(self, choice: Choice) -> int:
        return 0 if choice.needs is None else 1 + self._depth(self.choice(choice.needs[0]))

    # -- JSON ----------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """A JSON-able record with version and digest."""
        return {
            "version": FORMAT_VERSION,
            "digest": self.digest,
            "choices": [_choice_to_json(choice) for choice in self.choices],
        }

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> SearchSpace:
        """Read what :meth:`to_json` wrote.

        Raises:
            InputError: Unknown version, or content that does not match its digest.
        """
        if payload.get("version") != FORMAT_VERSION:
            raise InputError(
                f"space version {payload.get('version')!r} is unknown; "
                f"this release reads version {FORMAT_VERSION}"
            )
        space = cls(
            tuple(
                Choice(
                    row["name"],
                    tuple(row["values"]),
                    row["kind"],
                    None if row["needs"] is None else (row["needs"][0], row["needs"][1]),
                )
                for row in payload["choices"]
            )
        )
        if payload.get("digest") != space.digest:
            raise InputError(
                f"the space says its digest is {payload.get('digest')} but its content has "
                f"{space.digest}; the file was edited or damaged"
            )
        return space


def _choice_to_json(choice: Choice) -> dict[str, Any]:
    return {
        "name": choice.name,
        "values": list(choice.values),
        "kind": choice.kind,
        "needs": None if choice.needs is None else list(choice.needs),
    }
