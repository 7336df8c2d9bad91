"""Conjugate gradients on a tangent kernel that is not at hand, with a Nystrom preconditioner.

K Omega, Omega (n x s) orthonormal and random, gives the best part of rank s that these products show, U diag(lambda)
U^T with lambda_1 >= ... >= lambda_s. The preconditioner P^{-1} = I + U diag(lambda_s/lambda - 1) U^T brings those
eigenvalues down to about lambda_s, and leaves the rest of the spectrum alone (theory 7.8; Frangella, Tropp, Udell, SIAM
J. Matrix Anal. Appl. 44, 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plsolve.linalg import UNIT, Array, norm

RANK = 128  # products that a preconditioner costs; solves that need fewer steps go without
PATIENCE = 1000  # steps without progress after which the system counts as inconsistent
FLAT = 1e-20  # of the largest curvature: p has left the range of K
WORN = 3  # times the steps of its first solve: the preconditioner belongs to another K by now


class Nystrom(NamedTuple):
    """P^{-1} z = z + U (shrink o U^T z)."""

    U: Array
    shrink: Array

    def __call__(self, z: Array) -> Array:
        return z + self.U @ (self.shrink * (self.U.T @ z))


def nystrom(product: Callable[[Array], Array], n: int, rank: int = RANK) -> Nystrom:
    """The preconditioner from ``rank`` products with K (n x n), the same on every call."""
    omega = np.linalg.qr(np.random.default_rng(0).standard_normal((n, min(rank, n))))[0]
    Y = np.column_stack([product(column) for column in omega.T])
    shift = 10.0 * UNIT * float(np.linalg.norm(Y))  # lets the factorisation go through, and is taken off again
    Y += shift * omega
    L = np.linalg.cholesky(omega.T @ Y)
    U, s, _ = np.linalg.svd(np.linalg.solve(L, Y.T).T, full_matrices=False)
    lam = np.maximum(s * s - shift, shift)
    return Nystrom(U, lam[-1] / lam - 1.0)


class Solution(NamedTuple):
    """z with K z = x up to ``left`` (n,), after so many products; ``lost``: no step reduces ``left`` any more."""

    z: Array
    left: Array
    steps: int
    lost: bool


def conjugate_gradients(
    product: Callable[[Array], Array], x: Array, precondition: Nystrom | None, enough: float, most: int
) -> Solution:
    """K z = x until ||x - K z|| <= enough, in at most ``most`` steps; the best z on the way."""
    z, left = np.zeros_like(x), x.copy()
    best, least, since = z, norm(x), 0
    best_left = left
    d = left if precondition is None else precondition(left)
    p, slope, top = d, float(left.dot(d)), 0.0
    for k in range(most):
        if least <= enough:
            return Solution(best, best_left, k, False)
        q = product(p)
        curvature = float(p.dot(q))
        since += 1
        length = float(p.dot(p))
        top = max(top, curvature / length)
        if not curvature > FLAT * top * length or since > PATIENCE:
            return Solution(best, best_left, k + 1, True)
        z = z + (slope / curvature) * p
        left = left - (slope / curvature) * q
        if norm(left) < least:
            best, best_left, least, since = z, left, norm(left), 0
        d = left if precondition is None else precondition(left)
        last, slope = slope, float(left.dot(d))
        p = d + (slope / last) * p
    return Solution(best, best_left, most, least > enough)


class Memory:
    """What one kernel's solves tell the next ones, at other points: the preconditioner, and whether it still serves."""

    def __init__(self, rank: int = RANK) -> None:
        self.rank = rank
        self.preconditioner: Nystrom | None = None
        self.usual = 0  # steps of the preconditioner's first solve
        self.steps = 0  # products in all

    def solve(self, product: Callable[[Array], Array], x: Array, accuracy: float) -> Solution:
        """K z = x to ``accuracy`` of ||x||, with a preconditioner from the first solve on that would take long."""
        enough, most = accuracy * norm(x), max(10 * x.size, 100)
        if self.preconditioner is None and self.rank > 0:
            first = conjugate_gradients(product, x, None, enough, min(self.rank, most))
            self.steps += first.steps
            if norm(first.left) <= enough or first.steps < self.rank:
                return first
            self.build(product, x.size)
            rest = conjugate_gradients(product, first.left, self.preconditioner, enough, most)
            self.usual = rest.steps
            result = Solution(first.z + rest.z, rest.left, rest.steps, rest.lost)
        else:
            result = conjugate_gradients(product, x, self.preconditioner, enough, most)
            if self.preconditioner is not None and result.steps > WORN * max(self.usual, self.rank):
                self.preconditioner = None  # the next long solve builds a new one
        self.steps += result.steps
        return result

    def build(self, product: Callable[[Array], Array], n: int) -> None:
        """Make the preconditioner for this K; none, where K is not positive semi-definite to rounding."""
        try:
            self.preconditioner = nystrom(product, n, self.rank)
        except np.linalg.LinAlgError:
            self.rank = 0
        self.steps += min(self.rank, n)
