"""The tangent kernel K = J J^T and its spectrum (theory section 8)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh

from plsolve.linalg import Array, gram
from plsolve.tangent import Tangent


class TangentKernel:
    """K = J J^T at a point, computed when first asked for.

    Attributes
    ----------
    matrix : ndarray (n, n)
        K.
    eigenvalues : ndarray (min(n, m),)
        Ascending; for n > m those of J^T J, the rest being zero.
    mu, lipschitz, kappa : float
        lambda_min(K) (0 for n > m), ||J|| = sqrt(lambda_max(K)), and lambda_max / lambda_min.
    """

    def __init__(self, T: Tangent) -> None:
        self._T = T
        self.n, self.m = T.shape

    @cached_property
    def _J(self) -> Array:
        return self._T.toarray()

    @cached_property
    def matrix(self) -> Array:
        return _symmetric(gram(self._J, np.zeros(0)))

    @cached_property
    def eigenvalues(self) -> Array:
        K = gram(self._J if self.n <= self.m else self._J.T, np.zeros(0))
        return np.maximum(eigvalsh(K, lower=True, overwrite_a=True), 0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {"n": self.n, "m": self.m, "matrix": self.matrix, "eigenvalues": self.eigenvalues}

    def __repr__(self) -> str:
        spectrum = f"mu={self.mu:.3g}, lipschitz={self.lipschitz:.3g}, kappa={self.kappa:.3g}"
        return f"TangentKernel(n={self.n}, m={self.m}, {spectrum})"

    @property
    def mu(self) -> float:
        return float(self.eigenvalues[0]) if self.n <= self.m else 0.0

    @property
    def lipschitz(self) -> float:
        return float(np.sqrt(self.eigenvalues[-1]))

    @property
    def kappa(self) -> float:
        return float(self.eigenvalues[-1]) / self.mu if self.mu > 0.0 else float("inf")


def _symmetric(lower: Array) -> Array:
    return np.tril(lower) + np.tril(lower, -1).T
