"""Block Kaczmarz: Gauss-Newton on a batch of equations, p = -D^2 J_B^T (K_BB + lambda)^{-1} r_B (theory 5.5).

lambda is relative to the mean of the diagonal of K_BB. If a batch has more rows than there are unknowns, the same step
comes from the normal equations. The pivots of the kernel of a sample show how much of the other rows lies outside the
span of k rows, and so how much work blocks of k rows save (theory 5.7).
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from plsolve._linalg import NO_VECTOR, UNIT, Array, Cholesky, cholesky, gram
from plsolve._tangent import Tangent, is_sparse

DAMPING = 1e-3  # of the mean of K_ii; between 1e-2 and 1e-4 it makes no difference to a network of 1024 tanh units
SAFE = 16.0  # times s u: the least damping with which a kernel of s rows can be factored


def block_step(T: Tangent, r: Array, damping: float) -> Array:
    """The step (m,) of damped Gauss-Newton on equations with this tangent and residual."""
    s, m = T.shape
    A = None if s <= m or isinstance(T.J, LinearOperator) else normal_matrix(T)
    K = T.gram() if A is None else A
    if not K.any():
        return np.zeros(m)
    factor = factored(K, damping, float(K.trace()) / s)
    if A is None:
        return -T.metric_gradient(T.adjoint(factor.solve(r)))
    return -T.scaled(factor.solve(T.scaled(T.adjoint(r))))


def normal_matrix(T: Tangent) -> Array:
    """D J^T J D (m, m), from the entries of J."""
    if is_sparse(T.J):
        A = T.J @ sps.diags_array(T.scale) if T.scale.size else T.J
        return (A.T @ A).toarray()  # type: ignore[no-any-return]
    return gram(np.asarray(T.J * T.scale if T.scale.size else T.J).T, NO_VECTOR)


def factored(K: Array, damping: float, mean: float) -> Cholesky:
    """The factor of K + damping mean I, which overwrites K."""
    K.flat[:: len(K) + 1] += max(damping * mean, SAFE * len(K) * UNIT * float(K.diagonal().max()))
    return cholesky(K)


def left(K: Array) -> Array:
    """The squared distance of row k from the span of the k - 1 rows before it (s,), relative to the mean squared row.

    These are the squared pivots of K, which is overwritten. For rows in random order they estimate the average over
    all choices of k rows.
    """
    mean = float(K.trace()) / len(K)
    return np.square(factored(K, 0.0, mean).L.diagonal()) / mean if mean > 0.0 else np.ones(len(K))
