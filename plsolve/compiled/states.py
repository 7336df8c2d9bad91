"""The states of the loop as words and numbers, which go from Python into compiled code and back in one piece.

Scalars take a word each, and vectors one for their size; the numbers of the vectors stand behind, one after the other.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any, get_type_hints

import numpy as np
from numba.extending import overload, register_jitable

from plsolve.compiled.callbacks import as_bits, as_number
from plsolve.compiled.vectors import load, peek, poke, store, vector
from plsolve.linalg import Array
from plsolve.methods import watchdog

MAKERS: dict[Any, Any] = {watchdog.State: watchdog.state}  # of states that repeat what they contain


def parts_of(State: Any) -> dict[str, Any]:
    """What a state is made of, with the kinds."""
    return {name: kind for name, kind in get_type_hints(MAKERS.get(State, State)).items() if name != "return"}


def members(State: Any, prefix: str = "s") -> list[tuple[str, type]]:
    """What a state is made of, that of what it contains included, with the kinds."""
    found: list[tuple[str, type]] = []
    for name, kind in parts_of(State).items():
        if hasattr(kind, "_fields"):
            found += members(kind, f"{prefix}.{name}")
        else:
            found.append((f"{prefix}.{name}", kind if kind in (int, float, bool) else np.ndarray))
    return found


def read(State: Any, frame: int, words: int, numbers: int) -> Any:
    """The state of these words and of the numbers of its vectors: addresses of both."""


def put(s: Any, words: int, numbers: int) -> int:
    """Write a state there; where its numbers end."""
    raise NotImplementedError


@overload(read, strict=False)
def _read(State: Any, frame: Any, words: Any, numbers: Any) -> Any:
    scope: dict[str, Any] = {"peek": peek, "as_number": as_number, "vector": vector}
    lines: list[str] = []

    def source(shape: Any, place: int) -> tuple[str, int]:
        parts, name = [], f"Made{len(scope)}"
        scope[name] = MAKERS.get(shape, shape)
        for kind in parts_of(shape).values():
            word = f"peek(words + {8 * place})"
            if hasattr(kind, "_fields"):
                part, place = source(kind, place)
                parts.append(part)
                continue
            if kind is float:
                parts.append(f"as_number({word})")
            elif kind is bool:
                parts.append(f"{word} != 0")
            elif kind is int:
                parts.append(word)
            else:
                lines.append(f"x{place} = vector(numbers, {word}, frame).copy()\n    numbers += 8 * {word}")
                parts.append(f"x{place}")
            place += 1
        return f"{name}({', '.join(parts)})", place

    made = source(State.instance_class, 0)[0]
    exec("\n    ".join(["def made(State, frame, words, numbers):", *lines, f"return {made}"]), scope)
    return scope["made"]


@overload(put, strict=False)
def _put(s: Any, words: Any, numbers: Any) -> Any:
    lines = []
    for place, (name, kind) in enumerate(members(s.instance_class)):
        word = f"words + {8 * place}"
        if kind is np.ndarray:
            lines.append(f"poke({word}, {name}.size)\n    numbers = copied({name}, numbers)")
        else:
            lines.append(f"poke({word}, {f'as_bits({name})' if kind is float else f'int({name})'})")
    scope: dict[str, Any] = {"peek": peek, "poke": poke, "as_bits": as_bits, "copied": copied}
    exec("\n    ".join(["def put(s, words, numbers):", *lines, "return numbers"]), scope)
    return scope["put"]


@register_jitable
def copied(x: Any, place: int) -> int:
    """Copy a vector to this address; where it ends there."""
    z = vector(place, x.size, x.frame)
    for i in range(x.size):
        store(z, i, load(x, i))
    return place + 8 * x.size


# -- in Python --------------------------------------------------------------------------------------------------------


def joined(parts: Any) -> Array:
    """Contiguous arrays and bytes in one new array (three times quicker than `np.concatenate`)."""
    return np.frombuffer(bytearray().join(parts))


class Layout:
    """How the states of a method are written: words for scalars and the sizes of vectors, then the vectors' numbers."""

    def __init__(self, State: Any) -> None:
        names = members(State)
        self.format = struct.Struct("".join("d" if kind is float else "q" for _, kind in names))
        self.vectors = [i for i, (_, kind) in enumerate(names) if kind is np.ndarray]
        words = [f"{n}.size" if k is np.ndarray else f"int({n})" if k is bool else n for n, k in names]
        parts = [f"pack({', '.join(words)})", *(names[i][0] for i in self.vectors)]
        self._scope: dict[str, Any] = {"pack": self.format.pack}
        self.written = eval(f"lambda s: ({', '.join(parts)})", self._scope)
        self.made = eval(f"lambda t, x: {self._source(State, [0, 0])}", self._scope)

    def _source(self, State: Any, places: list[int]) -> str:
        """The constructor of a state from its words t and its vectors x."""
        name = f"State{len(self._scope)}"
        self._scope[name] = MAKERS.get(State, State)
        parts = []
        for kind in parts_of(State).values():
            if hasattr(kind, "_fields"):
                parts.append(self._source(kind, places))
                continue
            if kind in (int, float, bool):
                parts.append(f"bool(t[{places[0]}])" if kind is bool else f"t[{places[0]}]")
            else:
                parts.append(f"x[{places[1]}]")
                places[1] += 1
            places[0] += 1
        return f"{name}({', '.join(parts)})"


layout_of = cache(Layout)


class States:
    """Memory for the last state and for the best one, half of it each, which compiled code reads and writes."""

    def __init__(self, s: Any, best: Any) -> None:
        self._layout = layout = layout_of(type(s))  # type: ignore[arg-type]
        last = layout.written(s)
        self.numbers = joined(last + (last if best is s else layout.written(best)))

    def state(self, k: int) -> Any:
        """A copy of the last state (0) or of the best one (1)."""
        layout, numbers, vectors = self._layout, self.numbers, []
        start = k * (numbers.size // 2)
        words = layout.format.unpack_from(numbers, 8 * start)  # type: ignore[arg-type]
        start += len(words)
        for i in layout.vectors:
            vectors.append(numbers[start : start + words[i]].copy())
            start += words[i]
        return layout.made(words, vectors)
