"""The spectrum of the kernel, as far as first-order methods need it: constants at w0, and forecasts (theory 4.3).

A J that is read by rows is not looked at whole: as many rows are drawn as fit into a piece of memory. With b of n rows
(n/b) lambda_max(K_SS) >= lambda_max(K) on average (Jensen), and with probability 99 % no more than a share 5/b of all
rows has a K_ii above the largest that was seen.
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
WHOLE = 300  # the spectrum of so small a kernel is computed whole
NUMBERS = 1 << 24  # in the rows that are looked at (128 MiB)
ROWS = 1024  # of them where they are not arrays but sparse, or an operator
MOST = 1 << 40  # iterations of a forecast: more are as good as infinitely many


class Sample(NamedTuple):
    """Some rows at a point, of which all are ``share`` times as many."""

    T: Tangent
    r: Array
    share: float


def sample(problem: Problem, w: Array, r: Array) -> Sample:
    """All rows where J is not read by rows, else some, the same ones at each point; r is the residual."""
    if not problem.system.by_rows:
        return Sample(T=problem.linearise(w, r, False), r=r, share=1.0)
    rows, T = some_rows(problem, w, problem.n)
    return Sample(T=T, r=r[rows], share=problem.n / rows.size)


def some_rows(problem: Problem, w: Array, most: int) -> tuple[Indices, Tangent]:
    """Rows in random order, always the same: no more of them than asked for, nor than fit into a piece of memory."""
    n, fitting = min(problem.n, most), max(1, NUMBERS // problem.m)
    for count in sorted({min(n, fitting), min(n, max(fitting, ROWS))}):
        rows = np.random.default_rng(0).choice(problem.n, count, replace=False)
        T = problem.part(w, rows, problem.scale)
        if isinstance(T.J, np.ndarray) or not (is_sparse(T.J) or hasattr(T.J, "row_squares")):
            break
    return rows, T


def product(problem: Problem, T: Tangent) -> Callable[[Array], Array]:
    """v -> J D^2 J^T v, as long as there is time."""

    def apply(v: Array) -> Array:
        problem.run.check_time()
        return T.apply(T.metric_gradient(T.adjoint(v)))

    return apply


def ends(problem: Problem, T: Tangent, probes: int = RITZ) -> tuple[float, float]:
    """(lambda_min, lambda_max) of J D^2 J^T, for n > m of D J^T J D: computed if small, else Lanczos, from inside."""
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
    """End the run where products with an operator J at w0 have shown that its square is not finite."""
    if not lipschitz < HUGE:
        raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)


class Seen(NamedTuple):
    """What the residual sees of the spectrum of K, and the loss that is asked for."""

    values: Array
    weights: Array
    kappa: float
    loss: float

    def iterations(self, eta: float) -> float:
        """How many until the loss is reached, where r falls by (1 - eta lambda_i) a step."""
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
    """How many iterations are left to this loss at the pace so far."""
    return forecasts.observed_iterations(history.nit.tolist(), history.loss.tolist(), loss)
