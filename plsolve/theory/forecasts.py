"""Forecasts of the iterations left: from constants, from the spectrum of K, and from the run so far (4.3).

Letters: ratio is the loss now (for Gauss-Newton, the distance) divided by the target, eta the step size, t a number of
steps, kappa = lambda_max(K)/lambda_min(K). eigenvalues are those of K, weights the squares of the residual's
coordinates in its eigenvectors; nits and losses are the history of a run, loss is the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def near_linear_iterations(eta: float, mu: float, ratio: float) -> int:
    """log(L0/eps)/(-2 log(1 - eta mu)): gradient steps once the slowest component is left, mu = lambda_min(K) (4.3)."""
    if not ratio > 1.0:
        return 0
    return 1 if eta * mu >= 1.0 else math.ceil(math.log(ratio) / (-2.0 * math.log1p(-eta * mu)))


def momentum_iterations(kappa: float, ratio: float) -> int:
    """Steps until L has fallen by ratio, with momentum (6.2), where ||r|| falls by (sqrt k - 1)/(sqrt k + 1) a step."""
    if not ratio > 1.0:
        return 0
    root = math.sqrt(kappa)
    return 1 if root <= 1.0 else math.ceil(math.log(ratio) / (-2.0 * math.log((root - 1.0) / (root + 1.0))))


def newton_iterations(h: float, ratio: float) -> int:
    """Gauss-Newton steps until the distance has fallen by ratio, from h = beta e0/s0 <= 1/2: q^(2^k) <= 1/ratio."""
    root = math.sqrt(max(1.0 - 2.0 * h, 0.0))
    q = (1.0 - root) / (1.0 + root)
    if not ratio > 1.0 or q <= 0.0:
        return 1
    if q >= 1.0:
        return math.ceil(math.log2(ratio))
    return max(1, math.ceil(math.log2(max(-math.log(ratio) / math.log(q), 1.0))))


def spectral_loss(eigenvalues: Sequence[float], weights: Sequence[float], eta: float, t: int) -> float:
    """L_t ~ 1/2 SUM_i (1 - eta lambda_i)^2t (u_i.r0)^2, weights = (u_i.r0)^2: exact where F is linear (4.3)."""
    try:
        return 0.5 * math.fsum(c * (1.0 - eta * v) ** (2 * t) for v, c in zip(eigenvalues, weights, strict=True))
    except OverflowError:  # eta > 2/lambda_max: it diverges
        return math.inf


def spectral_iterations(
    eigenvalues: Sequence[float], weights: Sequence[float], eta: float, loss: float, most: int = 1 << 60
) -> int:
    """The first t with `spectral_loss` <= loss, by bisection; ``most`` if there is none before."""
    if spectral_loss(eigenvalues, weights, eta, 0) <= loss:
        return 0
    low, high = 0, 1
    while spectral_loss(eigenvalues, weights, eta, high) > loss:
        low, high = high, 2 * high
        if high >= most:
            return most
    while high - low > 1:
        middle = (low + high) // 2
        if spectral_loss(eigenvalues, weights, eta, middle) > loss:
            low = middle
        else:
            high = middle
    return high


def observed_iterations(nits: Sequence[int], losses: Sequence[float], loss: float) -> float:
    """Iterations left to the given loss, from the slope of log L over the last half of the run; inf if it is flat."""
    k = len(losses)
    if k == 0 or losses[-1] <= loss:
        return 0.0
    start = k // 2 if k > 2 else 0
    if nits[-1] == nits[start] or not losses[-1] < losses[start]:
        return math.inf
    slope = math.log(losses[start] / losses[-1]) / (nits[-1] - nits[start])
    return math.log(losses[-1] / max(loss, 5e-324)) / slope
