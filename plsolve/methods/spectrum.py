"""The spectrum of the kernel, as far as first-order methods need it: constants at w0, and forecasts (theory 4.3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigvalsh

from plsolve._history import History
from plsolve._linalg import HUGE, Array, finite, gram, lanczos
from plsolve._problem import Problem
from plsolve._stopping import JACOBIAN_NOT_FINITE, Ended, Status
from plsolve._tangent import Tangent
from plsolve.theory import forecasts

RITZ = 80  # Lanczos steps for a forecast, and for constants
WHOLE = 300  # the spectrum of so small a kernel is computed whole
MOST = 1 << 40  # iterations of a forecast: more are as good as infinitely many


def ends(T: Tangent, probes: int = RITZ) -> tuple[float, float]:
    """(lambda_min, lambda_max) of J D^2 J^T, for n > m of D J^T J D: computed if small, else Lanczos, from inside."""
    n, m = T.shape
    if isinstance(T.J, np.ndarray) and min(n, m) <= WHOLE:
        K = gram(T.J, T.scale) if n <= m else gram(T.J.T * T.scaled(np.ones(m))[:, None], np.empty(0))
        values = eigvalsh(K) if finite(K) else np.full(1, math.nan)
    else:
        start = np.random.default_rng(0).standard_normal(n)
        if n > m:
            start = T.apply(T.raised(T.adjoint(start)))
        values = lanczos(lambda v: T.apply(T.raised(T.adjoint(v))), start, min(probes, m))[0]
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
    T = problem.linearise(w, r, False)
    values, weights = lanczos(lambda v: T.apply(T.raised(T.adjoint(v))), r, RITZ)
    values = np.maximum(values, 0.0)
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
