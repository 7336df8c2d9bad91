"""Estimates of the kernel's spectrum for first-order methods: constants at w0, and forecasts (theory 4.3).

If J is read by rows, the estimates come from a sample of as many rows as fit into a piece of memory. With b of n rows,
(n/b) lambda_max(K_SS) >= lambda_max(K) on average (Jensen), and with probability 99 % at most a share 5/b of all rows
has a K_ii above the largest in the sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from plsolve._history import History
from plsolve._linalg import HUGE, Array, finite, gram, lanczos
from plsolve._problem import Problem
from plsolve._stopping import JACOBIAN_NOT_FINITE, Ended, Status
from plsolve._system import Indices
from plsolve._tangent import Tangent, is_sparse
from plsolve.theory import forecasts

RITZ = 80  # Lanczos steps for a forecast, and for constants
WHOLE = 300  # up to this order the spectrum of a kernel is computed as a whole
NUMBERS = 1 << 24  # entries in the sampled rows (128 MiB)
ROWS = 1024  # sampled rows, at least, if they are sparse or an operator
MOST = 1 << 40  # iterations of a forecast: more count as infinitely many


class Sample(NamedTuple):
    """A sample of the rows at a point; the system has ``share`` times as many."""

    T: Tangent
    r: Array
    share: float


def sample(problem: Problem, w: Array, r: Array) -> Sample:
    """A sample of the rows, the same at each point; all rows if J is not read by rows. r is the residual."""
    if not problem.system.by_rows:
        return Sample(T=problem.linearise(w, r, False), r=r, share=1.0)
    rows, T = some_rows(problem, w, problem.n)
    return Sample(T=T, r=r[rows], share=problem.n / rows.size)


def some_rows(problem: Problem, w: Array, most: int) -> tuple[Indices, Tangent]:
    """Rows in a fixed random order and their tangent: at most ``most``, and at most as many as fit into memory."""
    n, fitting = min(problem.n, most), max(1, NUMBERS // problem.m)
    for count in sorted({min(n, fitting), min(n, max(fitting, ROWS))}):
        rows = np.random.default_rng(0).choice(problem.n, count, replace=False)
        T = problem.part(w, rows, problem.scale)
        if isinstance(T.J, np.ndarray) or not (is_sparse(T.J) or hasattr(T.J, "row_squares")):
            break
    return rows, T


def product(problem: Problem, T: Tangent) -> Callable[[Array], Array]:
    """The map v -> J D^2 J^T v, which ends the run when the time is over."""

    def apply(v: Array) -> Array:
        problem.run.check_time()
        return T.apply(T.metric_gradient(T.adjoint(v)))

    return apply


def ends(problem: Problem, T: Tangent, probes: int = RITZ) -> tuple[float, float]:
    """(lambda_min, lambda_max) of J D^2 J^T, for n > m of D J^T J D; for large ones by Lanczos, from inside."""
    n, m = T.shape
    if isinstance(T.J, np.ndarray) and min(n, m) <= WHOLE:
        K = gram(T.J, T.scale) if n <= m else gram(T.J.T * T.scaled(np.ones(m))[:, None], np.empty(0))
        values = eigvalsh(K) if finite(K) else np.full(1, math.nan)
    else:
        start = np.random.default_rng(0).standard_normal(n)
        if n > m:
            start = T.apply(T.metric_gradient(T.adjoint(start)))
        values = lanczos(product(problem, T), start, min(probes, m))[0]
    return max(float(values[0]), 0.0), float(values[-1])


def check_products(lipschitz: float) -> None:
    """End the run if products with an operator J at w0 have overflowed."""
    if not lipschitz < HUGE:
        raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)


class Seen(NamedTuple):
    """The spectrum of K with the weights of its eigenvectors in the residual, and the target loss."""

    values: Array
    weights: Array
    kappa: float
    loss: float

    def iterations(self, eta: float) -> float:
        """Iterations until the target loss, if each component of r falls by (1 - eta lambda_i) in a step."""
        left = forecasts.spectral_iterations(self.values.tolist(), self.weights.tolist(), eta, self.loss, most=MOST)
        return float(left) if left < MOST else math.inf


def seen(problem: Problem, w: Array, r: Array, enough: float) -> Seen:
    """The spectrum of K by Lanczos steps that start at the residual (theory 4.3)."""
    T, part, share = sample(problem, w, r)
    if not part.any():
        raise Ended(Status.STALLED)
    values, weights = lanczos(product(problem, T), part, RITZ)
    values, weights = share * np.maximum(values, 0.0), share * weights
    high = float(values[-1])
    if not math.isfinite(high):
        raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)
    visible = values[(values > 1e-15 * high) & (weights > 1e-30 * weights.sum())]
    size = max(enough, problem.rounding_level(w, r, T))
    return Seen(
        values=values,
        weights=weights,
        kappa=high / float(visible[0]) if visible.size else math.inf,
        loss=max(0.5 * size * size, 1e-300),
    )


def observed(history: History, loss: float) -> float:
    """The iterations left to this loss at the pace so far."""
    return forecasts.observed_iterations(history.nit.tolist(), history.loss.tolist(), loss)
