"""The noise of the data, y ~ N(F(w), R). Everything is computed in units of the noise, where R is the identity."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sps
from scipy.linalg import solve_triangular

from plsolve._checks import as_float
from plsolve._inference.prior import check_positive, factor
from plsolve._linalg import Array


class Noise(NamedTuple):
    """R = L L^T: L is a number, standard deviations (n,), or a lower triangular matrix. Vectors may be matrices."""

    L: float | Array

    @property
    def matrix(self) -> Array | None:
        """L if it is a matrix, else None."""
        return self.L if isinstance(self.L, np.ndarray) and self.L.ndim == 2 else None

    def white(self, x: Array) -> Array:
        """L^{-1} x: in units of the noise."""
        if self.matrix is not None:
            return np.asarray(solve_triangular(self.matrix, x, lower=True))
        return np.asarray(x / self._beside(x))

    def white_adjoint(self, x: Array) -> Array:
        """L^{-T} x."""
        if self.matrix is not None:
            return np.asarray(solve_triangular(self.matrix, x, lower=True, trans=1))
        return np.asarray(x / self._beside(x))

    def colour(self, x: Array) -> Array:
        """L x."""
        return self.matrix @ x if self.matrix is not None else x * self._beside(x)

    def colour_adjoint(self, x: Array) -> Array:
        """L^T x."""
        return self.matrix.T @ x if self.matrix is not None else x * self._beside(x)

    def kernel(self, K: Array) -> Array:
        """L^{-1} K L^{-T}."""
        return self.white(self.white(K).T)

    def _beside(self, x: Array) -> Any:
        """L in a shape that broadcasts with vectors, or with matrices row by row."""
        return self.L[:, None] if isinstance(self.L, np.ndarray) and x.ndim > 1 else self.L


def as_noise(noise: Any, n: int) -> Noise:
    """The noise of n data, from a number, standard deviations (n,) or a covariance (n, n)."""
    if sps.issparse(noise):
        raise TypeError("`noise` must be an array if it is a covariance, got a sparse matrix.")
    R = as_float(noise, "noise")
    if R.shape == (n, n) and R.ndim == 2:
        return Noise(factor(R, "noise"))
    if R.shape not in ((), (1,), (n,)):
        raise ValueError(
            f"`noise` must be a number, or have shape ({n},), standard deviations, or ({n}, {n}), a covariance; "
            f"got shape {R.shape}."
        )
    check_positive(R, noise, "noise")
    return Noise(float(R.flat[0]) if R.size == 1 else R.copy())
