"""The geometry of the unknowns: the box of the bounds, and the metric ||p / scale|| of steps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_bounds, as_float, shown
from plsolve._linalg import Array, column_lengths

EMPTY: Array = np.zeros(0)
NEGLIGIBLE = 1e-7  # of the largest x_scale: the squares of smaller ones are lost to rounding in J D^2 J^T
DIFFERENT = 1e3  # ratio of the norms of J's columns from which unknowns are scaled by default; 30 to 1e4 do as well


class Box:
    """The points with lower <= w <= upper.

    Attributes
    ----------
    bounded : bool
        Whether there is any bound.
    lower, upper : ndarray (m,)
        Empty where no bounds are given.
    """

    bounded = False
    lower = upper = EMPTY

    def __init__(self, bounds: Any, w0: Array, name: str) -> None:
        if bounds is not None:
            self.lower, self.upper = as_bounds(bounds, w0, name)
            self.bounded = bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def project(self, w: Array) -> Array:
        """The point of the box nearest to w."""
        return np.minimum(np.maximum(w, self.lower), self.upper) if self.bounded else w

    def move(self, w: Array, p: Array) -> Array:
        """w + p, projected on the box; exactly on a bound where p is the distance to it."""
        if not self.bounded:
            return w + p
        t = np.where(p == self.lower - w, self.lower, self.project(w + p))
        return np.where(p == self.upper - w, self.upper, t)


class Metric:
    """The scale of the unknowns: given, or computed from the columns of J.

    Attributes
    ----------
    scale : ndarray (m,)
        Steps are measured by ||p / scale||; empty: all ones.
    by_columns : bool
        Whether it comes from J (x_scale='jac').
    unasked : bool
        Whether it comes from J by default (x_scale None). Systems that do not need a scale must keep their steps, so
        this applies only where n >= m and the unknowns have very different sizes.
    """

    def __init__(self, x_scale: Any, w0: Array) -> None:
        self._w0 = w0
        self.unasked = x_scale is None
        self.by_columns = x_scale is None or isinstance(x_scale, str)
        self.scale = EMPTY
        self._largest = EMPTY  # norms of the columns of J so far
        if isinstance(x_scale, str) and x_scale != "jac":
            raise ValueError(f"`x_scale` must be 'jac' or positive numbers, got {shown(x_scale)}.")
        if not (self.by_columns or (type(x_scale) is float and x_scale == 1.0)):
            self.scale = as_scale(x_scale, w0.size)

    def scale_unasked(self) -> None:
        """Turn on the default of x_scale None: unknowns of very different sizes are scaled."""
        if not (self.by_columns or self.scale.size):
            self.by_columns = self.unasked = True

    def update(self, J: Any) -> None:
        """x_scale='jac': the scale becomes the inverse of the largest norm that each column of J has had.

        By default only where these norms are very different and, for n = m, the unknowns at w0, too. Elsewhere scaling
        would change the first steps, which could then lead to other minima.
        """
        n, m = J.shape
        if self.unasked and (n < m or isinstance(J, LinearOperator)):
            return
        if isinstance(J, LinearOperator):
            raise ValueError("`x_scale='jac'` needs the entries of J; jac returned a LinearOperator.")
        size = column_lengths(J)
        self._largest = np.maximum(self._largest, size) if self._largest.size else np.where(size == 0.0, 1.0, size)
        different = self._largest.max() > DIFFERENT * self._largest.min() and not (n == m and self._alike())
        self.scale = self._inverse(self._largest) if different or not self.unasked else EMPTY

    def _alike(self) -> bool:
        """Whether the unknowns have similar sizes at the start, and so hardly different units."""
        size = np.abs(self._w0)
        return bool(size.min() > size.max() / DIFFERENT)

    def _inverse(self, largest: Array) -> Array:
        return float(largest.min()) * (1.0 / largest) if self.unasked else 1.0 / largest

    @property
    def weights(self) -> Any:
        """Weights that make the unknowns comparable: 1/x_scale, or the norms of the columns of J (MINPACK)."""
        if self._largest.size:
            return self._largest
        return 1.0 / self.scale if self.scale.size else 1.0

    def column_norms(self, n: int) -> Array:
        """The largest norms of the columns of J so far (0: none yet); empty where the scale does not come from J."""
        if not self.by_columns or (self.unasked and n < self._w0.size):
            return EMPTY
        return self._largest if self._largest.size else np.zeros(self._w0.size)

    @property
    def columns(self) -> tuple[Array, Array] | None:
        """The scale, and the norms from which it comes; None where it does not come from J."""
        return (self.scale, self._largest) if self.by_columns else None

    def take_columns(self, columns: tuple[Array, Array]) -> None:
        """Take over `columns` of an earlier process."""
        self.scale, self._largest = columns

    def take_norms(self, largest: Array, scaled: bool) -> None:
        """Take over these norms from compiled code; scaled: they determine the scale."""
        if largest.any():
            self._largest = largest
            self.scale = self._inverse(largest) if scaled else EMPTY


def as_scale(x_scale: Any, m: int) -> Array:
    """The given scale (m,), empty where it is all ones."""
    scale = as_float(x_scale, "x_scale")
    if scale.shape not in ((), (1,), (m,)):
        raise ValueError(f"`x_scale` must be a number or have shape ({m},), got {scale.shape}.")
    if np.count_nonzero((scale > 0.0) & (scale < math.inf)) < scale.size:
        raise ValueError(f"`x_scale` must be positive and finite, got {shown(x_scale)}.")
    if (scale == 1.0).all():
        return EMPTY
    return np.full(m, np.maximum(scale, NEGLIGIBLE * scale.max()))
