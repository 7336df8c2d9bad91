"""J that is evaluated by rows and never held in memory as a whole; each product is one pass over pieces of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator

from plsolve._linalg import NO_VECTOR, Array, norm
from plsolve._tangent.base import Tangent
from plsolve._tangent.operator import OperatorTangent

Indices = npt.NDArray[np.int64]

if TYPE_CHECKING:
    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator

PIECE_NUMBERS = 1 << 22  # in a piece of a dense J (32 MiB)
PIECE_ROWS = 1024  # in a piece of a sparse or operator J


def pieces(n: int, size: int) -> Iterator[Indices]:
    """0, ..., n - 1 in pieces of this size."""
    return (np.arange(start, min(start + size, n), dtype=np.int64) for start in range(0, n, size))


class RowsJacobian(_Operator):
    """J whose rows are evaluated for each product, by ``part(rows, scale)``."""

    def __init__(self, part: Callable[[Indices, Array], Tangent], n: int, m: int) -> None:
        super().__init__(np.float64, (n, m))  # type: ignore[call-arg]
        self._part, self._size = part, max(1, PIECE_NUMBERS // m)

    def parts(self, scale: Array = NO_VECTOR) -> Iterator[tuple[Indices, Tangent]]:
        """All rows, piece by piece, as tangents with this scale."""
        start, n = 0, self.shape[0]
        while start < n:
            rows = np.arange(start, min(start + self._size, n), dtype=np.int64)
            T = self._part(rows, scale)
            yield rows, T
            start += rows.size
            if not isinstance(T.J, np.ndarray):
                self._size = max(self._size, PIECE_ROWS)

    def _matvec(self, v: Array) -> Array:
        return np.concatenate([T.apply(v) for _, T in self.parts()])

    _matmat = _matvec

    def _rmatvec(self, z: Array) -> Array:
        g = np.zeros((self.shape[1], *z.shape[1:]))
        for rows, T in self.parts():
            g += T.adjoint(z[rows])
        return g

    _rmatmat = _rmatvec


class RowsTangent(OperatorTangent):
    """J is a RowsJacobian."""

    def magnitude(self, w: Array) -> float:
        return norm(np.array([T.magnitude(w) for _, T in self.J.parts()]))

    def row_squares(self) -> Array:
        return np.concatenate([T.row_squares() for _, T in self.J.parts(self.scale)])
