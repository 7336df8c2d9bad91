"""Layers and activations of fully connected networks, and a network evaluated at a point."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from plsolve._checks import as_count
from plsolve._linalg import Array

Indices = npt.NDArray[np.int64]
Function = Callable[[Array], Array]

BLOCK_NUMBERS = 1 << 17  # in one temporary of a blocked pass (1 MiB: it stays in the cache)
_COLUMNS = 512  # of a matrix product with several vectors
UNITS = 1_000_000_000  # in a layer at most: a larger number is taken for a mistake


class Activation(NamedTuple):
    """sigma and its derivative, from z alone or, where ``by_value``, from a = sigma(z) alone."""

    value: Callable[[Array, Array], object]  # (z, out); out may be z
    slope: Function
    by_value: bool


def _tanh_slope(a: Array) -> Array:
    s: Array = a * a
    return np.subtract(1.0, s, out=s)


def _gelu(z: Array, out: Array) -> None:
    np.multiply(z, ndtr(z), out=out)


def _gelu_slope(z: Array) -> Array:
    s: Array = ndtr(z) + z * np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return s


def _softplus(z: Array, out: Array) -> None:
    np.logaddexp(0.0, z, out=out)


ACTIVATIONS = {
    "tanh": Activation(lambda z, out: np.tanh(z, out=out), _tanh_slope, True),
    "relu": Activation(lambda z, out: np.maximum(z, 0.0, out=out), lambda a: (a > 0.0).astype(np.float64), True),
    "softplus": Activation(_softplus, lambda a: -np.expm1(-a), True),
    "gelu": Activation(_gelu, _gelu_slope, False),
}


def as_activation(activation: Any, name: str) -> Activation:
    """The activation with that name, or from a pair (sigma, derivative)."""
    if isinstance(activation, str) and activation in ACTIVATIONS:
        return ACTIVATIONS[activation]
    if isinstance(activation, Sequence) and len(activation) == 2 and all(callable(f) for f in activation):
        function, slope = activation

        def value(z: Array, out: Array) -> None:
            out[...] = function(z)

        return Activation(value, lambda z: np.array(slope(z), dtype=np.float64), False)
    raise ValueError(f"`{name}` must be one of {', '.join(ACTIVATIONS)} or a pair (f, df), got {activation!r}.")


def as_widths(widths: Any) -> list[int]:
    """One or several positive integers."""
    listed = isinstance(widths, (list, tuple, range)) or (isinstance(widths, np.ndarray) and widths.ndim > 0)
    several = list(widths) if listed else [widths]
    if not several:
        raise ValueError("`widths` must have at least one entry.")
    return [as_count(width, "widths", 1, UNITS) for width in several]


def slices(n: int, size: int) -> Iterator[slice]:
    """0, ..., n in pieces of this size."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


class Layer(NamedTuple):
    """Z = factor A W + b, with the position of W and b in w (-1: not trained, so that the network holds them)."""

    fan_in: int
    fan_out: int
    factor: float
    start: int  # of W in w, row by row; b follows
    W: Array
    b: Array

    @property
    def trained(self) -> bool:
        return self.start >= 0

    @property
    def wide(self) -> bool:
        """Whether D_l is wider than A_{l-1}."""
        return self.fan_in < self.fan_out

    def blocks(self, n: int) -> Iterator[slice]:
        """Slices of n rows: temporaries stay in the cache, and no block has fewer rows than W."""
        return slices(n, max(BLOCK_NUMBERS // min(self.fan_in, self.fan_out), self.fan_in, self.fan_out))

    def batches(self, columns: int) -> Iterator[slice]:
        """Slices of the columns that are multiplied at once, so that matrix products are large enough."""
        return slices(columns, max(1, _COLUMNS // min(self.fan_in, self.fan_out)))

    def rows(self, V: Array) -> Array:
        """W, with b as one more row, in each of the vectors V (s, m): a view (s, fan-in or one more, fan-out)."""
        end = self.start + self.fan_in * self.fan_out + self.b.size
        return V[:, self.start : end].reshape(len(V), -1, self.fan_out)

    def split(self, w: Array) -> tuple[Array, Array]:
        """W and b in w; b empty without biases."""
        if not self.trained:
            return self.W, self.b
        end = self.start + self.fan_in * self.fan_out
        return w[self.start : end].reshape(self.fan_in, self.fan_out), w[end : end + self.b.size]


class Point(NamedTuple):
    """The network at w, a copy: outputs f (N, q), and A_1, Z_1, A_2, Z_2, ... in ``kept`` (Z_l may be A_l itself)."""

    w: Array
    X: Array
    kept: list[Array]
    f: Array
