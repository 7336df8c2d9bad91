"""Step sizes, momentum coefficients and batch sizes, with the rates that they guarantee.

Letters: L = 1/2 ||r||^2, g = J^T r, K = J J^T, mu <= lambda_min(K), lipschitz >= ||J|| (L_F), beta the Lipschitz
constant of J, eta a step size. r, r2, g2, jg2 stand for ||r||, ||r||^2, ||g||^2, ||J g||^2; largest for lambda_max(K),
largest_row for max_i K_ii, smoothness for a bound Ls of the curvature, kappa for lambda_max(K)/mu; n is the number of
equations, batch (s) the number of rows in a batch; theta and tube (D) belong to a tube around the solutions, on which
sigma <= sigma_min(J). Numbers in brackets refer to plsolve/theory/README.md.
"""

from __future__ import annotations

import math


def gd_step(lipschitz: float, beta: float, r: float) -> float:
    """eta = 1/(L_F^2 + beta ||r||), the step of gradient descent (1.1).

    With it L+ <= L - eta/2 ||g||^2 <= (1 - eta mu) L: on the level set of w the curvature of L is at most 1/eta, and
    the step does not leave that set (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022, theorem 6).
    """
    return 1.0 / (lipschitz * lipschitz + beta * r)


def gd_rate(eta: float, mu: float) -> float:
    """Bound of L+/L in a step eta <= 1/(L_F^2 + beta ||r||) under mu-PL*: 1 - eta mu (1.1)."""
    return 1.0 - eta * mu


def polyak_step(r2: float, g2: float) -> float:
    """||r||^2/||g||^2 (4.4): the step to L = 0 of the linear model along g. It needs no constant and has no rate."""
    return r2 / g2


def cauchy_step(g2: float, jg2: float) -> float:
    """||g||^2/||J g||^2 (4.4): the step to the least loss of the linear model along g; exact where F is linear."""
    return g2 / jg2


def sgd_theorem_step(n: int, batch: int, mu: float, row_smoothness: float, smoothness: float) -> float:
    """eta of w -= eta SUM_{i in B} grad l_i, l_i = 1/2 r_i^2, B = batch rows drawn uniformly with replacement (1.3).

    eta = n mu / (beta_L (n lambda + mu (s - 1))), lambda = row_smoothness of every l_i, beta_L = smoothness of L. Then
    E L_t <= (1 - mu s eta / n)^t L_0 under mu-PL* (sharpened from Liu, Zhu, Belkin, theorem 7: by the descent lemma, as
    E||sum_B||^2 = (s/n) SUM ||grad l_i||^2 + s (s-1)/n^2 ||g||^2 <= (s/n) ||g||^2 (lambda/mu + (s-1)/n)).
    """
    return n * mu / smoothness / (n * row_smoothness + mu * (batch - 1))


def sgd_theorem_rate(n: int, batch: int, mu: float, eta: float) -> float:
    """1 - mu s eta / n: the factor of E L in a step of `sgd_theorem_step` (1.3)."""
    return 1.0 - mu * batch * eta / n


def batch_smoothness(n: int, batch: float, largest_row: float, largest: float) -> float:
    """Ls = (n/s) max_i K_ii + (1 - 1/s) lambda_max(K): E||(n/s) J_B^T r_B||^2 <= 2 Ls L (5.1)."""
    return n / batch * largest_row + (1.0 - 1.0 / batch) * largest


def sgd_rate(smoothness: float, mu: float) -> float:
    """1 - lambda_min/Ls: the factor of E dist^2 to the solutions, linear F, steps (n/s)/Ls on a batch (5.1).

    Ma, Bassily, Belkin, ICML 2018 (arXiv 1712.06559).
    """
    return 1.0 - mu / smoothness


def critical_batch(n: int, largest_row: float, largest: float) -> int:
    """s* = 1 + n max_i K_ii / lambda_max(K), at most n (5.1; Ma, Bassily, Belkin, ICML 2018).

    Below it s rows in a batch are worth s steps of one row, above it more rows save no steps.
    """
    return int(min(n, 1.0 + n * largest_row / largest)) if largest > 0.0 else 1


def tube_step(theta: float, smoothness: float) -> float:
    """theta/(2 Ls), the step of SGD inside a tube around the solutions (5.2), theta from `tube_theta`."""
    return theta / (2.0 * smoothness)


def tube_theta(beta: float, tube: float, sigma: float) -> float:
    """theta = 2 (1 - x/(2 - x)), x = beta D/sigma < 1: tube of radius D, sigma <= sigma_min(J) on solutions (5.2)."""
    x = beta * tube / sigma
    if not x < 1.0:
        raise ValueError(f"the tube is too wide: beta D / sigma = {x:.3g} must be below 1")
    return 2.0 * (1.0 - x / (2.0 - x))


def tube_rate(theta: float, beta: float, tube: float, sigma: float, smoothness: float) -> float:
    """Factor of E dist^2 in a step of `tube_step` while dist <= D (5.2); P(ever leaving the tube) <= dist_0^2/D^2."""
    return 1.0 - (theta * (sigma - 0.5 * beta * tube)) ** 2 / (4.0 * smoothness)


def mass(n: int, batch: int, largest_row: float, largest: float, mu: float) -> tuple[float, float, float, float]:
    """(eta1, eta2, gamma, rate) of MaSS on batch means (5.3; Liu, Belkin, ICLR 2020, arXiv 1810.13395).

    w+ = u - eta1 g~(u); u+ = (1 + gamma) w+ - gamma w + eta2 g~(u). Linear F: the expected distance falls by rate.
    """
    smoothness = largest_row / batch + (1.0 - 1.0 / batch) * largest / n
    kappa = n * smoothness / mu
    statistical = n / batch + (batch - 1.0) / batch
    q = math.sqrt(kappa * statistical)
    eta = 1.0 / smoothness
    return eta, eta * (q / (q + 1.0)) * (1.0 - 1.0 / statistical), (q - 1.0) / (q + 1.0), 1.0 - 1.0 / q


def heavy_ball(largest: float, mu: float) -> tuple[float, float]:
    """(a, b) of w+ = w - a g + b (w - w_before) (6.2; Polyak 1964).

    Linear F: ||r|| falls by (sqrt k - 1)/(sqrt k + 1) a step in the limit, k = largest/mu.
    """
    root, low = math.sqrt(largest), math.sqrt(mu)
    return 4.0 / (root + low) ** 2, ((root - low) / (root + low)) ** 2


def nesterov(largest: float, mu: float) -> tuple[float, float]:
    """(a, b) of w+ = u - a g(u), u+ = w+ + b (w+ - w) (6.2; Nesterov 2004).

    Linear F: L_t <= 2 (1 - 1/sqrt k)^t L_0, k = largest/mu.
    """
    root, low = math.sqrt(largest), math.sqrt(mu)
    return 1.0 / largest, (root - low) / (root + low)


def chebyshev(largest: float, mu: float, before: float, age: int) -> tuple[float, float]:
    """(a_j, b_j) of p = -g + b p, w += a p (6.2; Golub and Varga 1961), a_j from a_{j-1} = before; age = j.

    Linear F: ||r_t||/||r_0|| <= 2 q^t/(1 + q^2t), q = (sqrt k - 1)/(sqrt k + 1), k = largest/mu: the best
    bound that any polynomial in K can guarantee.
    """
    d, c = 0.5 * (largest + mu), 0.5 * (largest - mu)
    if age == 0:
        return 1.0 / d, 0.0
    x = c * before
    b = 0.5 * x * x if age == 1 else 0.25 * x * x  # products, unlike powers, may overflow
    return 1.0 / (d - b / before), b
