"""Existence, absence and distance of solutions, from numbers at one point.

At w: r = ||F(w) - y||, s <= sigma_min(J), e = ||J^+ r||, lipschitz >= ||J||, mu a PL* constant, beta a Lipschitz
constant of J, betas those of its rows, more what an error of J adds to the noise of F for each unit: 8 u sqrt(n) ||w||
in the model of 3.3. Numbers in brackets refer to plsolve/theory/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

INFINITE = float("inf")


def newton_h(beta: float, e: float, s: float) -> float:
    """h = beta e / s: at most 1/2 where a solution is proved (3.1)."""
    if s > 0.0:
        return beta * e / s
    return INFINITE


def newton_radius(h: float, e: float) -> float:
    """t* = 2 e/(1 + sqrt(1 - 2h)): for h <= 1/2 Gauss-Newton converges to a solution within t* of w (3.1).

    Ben-Israel 1966, Haussler 1986, Walker and Watson 1990, Deuflhard 2004; inf where h > 1/2.
    """
    return 2.0 * e / (1.0 + math.sqrt(1.0 - 2.0 * h)) if h <= 0.5 else INFINITE


def newton_jac_margin(h: float, e: float, s: float, more: float) -> float:
    """An error of J up to which a solution is still proved, within 2 t* (3.10); 0 where h > 1/2."""
    if not (h <= 0.5 and e > 0.0):
        return 0.0
    ratio = 4.0 / (1.0 + math.sqrt(1.0 - 2.0 * h))  # R/e, at first of R = 2 t*
    if h * ratio * ratio > 2.0:
        ratio = math.sqrt(2.0 / h)  # that of the largest error
    return s * max(1.0 - 1.0 / ratio - 0.5 * h * ratio, 0.0) / (1.0 + more / (ratio * e))


def absence_jac_margin(radius: float, lipschitz: float, beta: float, more: float) -> float:
    """An error of J up to which there is no solution within half of the radius of 3.5 (3.10)."""
    if not 0.0 < radius < INFINITE:
        return 0.0
    return (lipschitz + 0.75 * beta * radius) / (1.0 + 2.0 * more / radius)


def moved_newton(omega: float, e: float, away: float) -> tuple[float, float]:
    """Upper bounds of h and ||J^+ r|| at x, from J at a point at distance ``away``, with e = ||J^+ r(x)|| there (3.9).

    omega = beta/sigma_min(J), or of 3.2, at the other point.
    """
    left = 1.0 - omega * away
    return (omega * e / (left * left), e / left) if left > 0.0 else (INFINITE, INFINITE)


def equations_beta(betas: Sequence[float]) -> float:
    """sqrt(SUM beta_i^2), a Lipschitz constant of J where its rows have beta_i (3.2)."""
    return math.hypot(*betas)


def descent_ball(beta: float, r: float, s: float, lipschitz: float, c: float = 1.0) -> tuple[float, float, float]:
    """(R, eta, rate) of gradient descent from w (3.4): R = inf where nothing is proved.

    With h' = beta ||r||/s^2 <= (1 - c/2)/2 the steps eta = c/beta_L stay in B(w, R), converge to a solution there, and
    L_t <= rate^t L_0, rate = 1 - 2 eta (1 - c/2) mu, mu = (s - beta R)^2, beta_L = (||J|| + beta R)^2 + beta ||r||.
    """
    share = 1.0 - 0.5 * c
    h = beta * r / (s * s) if s > 0.0 else INFINITE
    if not h <= 0.5 * share:
        return INFINITE, 0.0, 1.0
    radius = 2.0 * r / (s * share * (1.0 + math.sqrt(1.0 - 2.0 * h / share)))
    largest, least = lipschitz + beta * radius, s - beta * radius
    eta = c / (largest * largest + beta * r)
    return radius, eta, 1.0 - 2.0 * eta * share * least * least


def paper_ball(lipschitz: float, r: float, mu: float) -> float:
    """R = 2 L_F ||r||/mu, the radius of the ball on which 1.1 requires mu-PL* (Liu, Zhu, Belkin 2022, theorem 6)."""
    return 2.0 * lipschitz * r / mu if mu > 0.0 else INFINITE


def absence_radius(r: float, lipschitz: float, beta: float) -> float:
    """(sqrt(||J||^2 + 2 beta ||r||) - ||J||)/beta: no solution lies nearer to w than this (3.5, 4.1)."""
    below = lipschitz + math.sqrt(lipschitz * lipschitz + 2.0 * beta * r)
    return 2.0 * r / below if below > 0.0 else (INFINITE if r > 0.0 else 0.0)
