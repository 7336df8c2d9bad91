"""Conjugate gradients on a tangent kernel given by products only, with a Nystrom preconditioner.

K Omega, Omega (n x s) orthonormal and random, gives the Nystrom approximation U diag(lambda) U^T of rank s, with
lambda_1 >= ... >= lambda_s. The preconditioner P^{-1} = I + U diag(lambda_s/lambda - 1) U^T reduces the s largest
eigenvalues to about lambda_s and leaves the rest of the spectrum unchanged (theory 7.8; Frangella, Tropp, Udell, SIAM
J. Matrix Anal. Appl. 44, 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from plsolve._linalg import UNIT, Array, norm

RANK = 128  # of the first preconditioner; each further one has twice the rank
NUMBERS = 1 << 25  # entries of the largest preconditioner (256 MiB)
EAGER = 0.5  # steps for each product of the next preconditioner before it is made: products at once cost less
WORN = 4.0  # the same once the largest is in use: it is renewed because K has changed
PATIENCE = 1000  # steps without progress after which the system counts as inconsistent
FLAT = 1e-20  # of the largest curvature: with less, p has left the range of K
DELAY = 4  # steps over which the growth of x^T K^{-1} x is measured

Product = Callable[[Array], Array]


class Nystrom(NamedTuple):
    """P^{-1} z = z + U (shrink o U^T z)."""

    U: Array
    shrink: Array

    def __call__(self, z: Array) -> Array:
        return z + self.U @ (self.shrink * (self.U.T @ z))


def nystrom(product: Product, n: int, rank: int = RANK, columns: int = 1) -> Nystrom:
    """The preconditioner from ``rank`` products with K (n x n), ``columns`` at once; the same on every call."""
    omega = np.linalg.qr(np.random.default_rng(0).standard_normal((n, min(rank, n))))[0]
    Y = np.empty_like(omega)
    for start in range(0, omega.shape[1], columns):
        Y[:, start : start + columns] = product(omega[:, start : start + columns])
    shift = 10.0 * UNIT * float(np.linalg.norm(Y))  # makes the factorisation possible, and is subtracted again
    Y += shift * omega
    L = np.linalg.cholesky(omega.T @ Y)
    del omega
    B = Y @ np.linalg.inv(L).T  # B B^T approximates K
    del Y
    lam, V = np.linalg.eigh(B.T @ B)
    kept = lam > 1e-14 * lam[-1]
    if not kept.any():
        raise np.linalg.LinAlgError("K is not positive semi-definite, or out of range")
    U = B @ (V[:, kept] / np.sqrt(lam[kept]))
    lam = np.maximum(lam[kept] - shift, shift)
    return Nystrom(U, lam[0] / lam - 1.0)


class Solution(NamedTuple):
    """z with K z = x - left, and the number of products; ``lost``: no step reduces ``left`` (n,) any further."""

    z: Array
    left: Array
    steps: int
    lost: bool


def conjugate_gradients(
    product: Product, x: Array, precondition: Nystrom | None, enough: float, most: int, settled: float = 0.0
) -> Solution:
    """Solve K z = x until ||x - K z|| <= enough, in at most ``most`` steps; if that fails, the best z found.

    settled > 0: only x^T K^{-1} x is needed, to about this relative accuracy.
    """
    z, left = np.zeros_like(x), x.copy()
    best, best_left, least, since = z, left, norm(x), 0
    d = left if precondition is None else precondition(left)
    p, slope, top = d, float(left.dot(d)), 0.0
    gains = [0.0]  # of x^T z
    for k in range(most):
        if least <= enough or (k >= DELAY and sum(gains[-DELAY:]) < settled * sum(gains)):
            return Solution(z, left, k, False)
        q = product(p)
        curvature = float(p.dot(q))
        since += 1
        length = float(p.dot(p))
        top = max(top, curvature / length)
        if not curvature > FLAT * top * length or since > PATIENCE:
            return Solution(best, best_left, k + 1, True)
        z = z + (slope / curvature) * p
        left = left - (slope / curvature) * q
        gains.append(slope * slope / curvature)
        if norm(left) < least:
            best, best_left, least, since = z, left, norm(left), 0
        d = left if precondition is None else precondition(left)
        last, slope = slope, float(left.dot(d))
        p = d + (slope / last) * p
    return Solution(z, left, most, False)


class Memory:
    """The preconditioner, which later solves use again, and how many steps were made since it was built."""

    def __init__(self, rank: int = RANK) -> None:
        self.rank = rank  # of the next preconditioner; 0: none will be made
        self.preconditioner: Nystrom | None = None
        self.steps = 0  # since the last one
        self.due = EAGER * rank

    def solve(self, product: Product, x: Array, accuracy: float, columns: int = 1, settled: float = 0.0) -> Solution:
        """Solve K z = x to ``accuracy`` of ||x||; the product takes ``columns`` vectors at once."""
        enough, most = accuracy * norm(x), max(10 * x.size, 100)
        z, left, steps = np.zeros_like(x), x, 0
        while True:
            limit = most - steps
            if self.rank > 0:
                limit = min(limit, max(int(self.due) - self.steps, 1))
            part = conjugate_gradients(product, left, self.preconditioner, enough, limit, settled)
            z, left, steps = z + part.z, part.left, steps + part.steps
            self.steps += part.steps
            if part.steps < limit or part.lost or norm(left) <= enough:
                return Solution(z, left, steps, part.lost)
            if steps >= most:
                return Solution(z, left, steps, True)
            self.build(product, x.size, columns)

    def build(self, product: Product, n: int, columns: int) -> None:
        """Make the preconditioner for this K, or none if K is not positive semi-definite to rounding."""
        self.preconditioner, self.steps = None, 0
        most = min(n, max(NUMBERS // n, 1))
        rank = min(self.rank, most)
        try:
            self.preconditioner = nystrom(product, n, rank, columns)
        except np.linalg.LinAlgError:
            rank = 0
        self.rank = min(2 * rank, most)
        self.due = (EAGER if self.rank > rank else WORN) * self.rank
