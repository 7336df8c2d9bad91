"""Mini-batch stochastic gradient descent under interpolation: w+ = w - eta (n/s) J_B^T r_B, B = s rows drawn uniformly.

The default step is eta = 1/Ls with Ls = (n/s) max_i K_ii + (1 - 1/s) lambda_max(K), and the default batch the critical
size s* = 1 + n max_i K_ii / lambda_max(K), below which s rows at once are worth s steps of one row (theory 5.1; Ma,
Bassily, Belkin, arXiv 1712.06559). Both constants are K(w0)'s, so once an epoch the full residual is checked: after
many epochs without progress, or when the loss has blown up, the best point is taken up again with half the step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from plsolve.linalg import Array, norm
from plsolve.methods.ending import HUGE, largest_eigenvalue, verdict
from plsolve.problem import Problem
from plsolve.stopping import RUNNING, Status
from plsolve.tangent import Tangent

INTERPOLATION, POLYAK, KACZMARZ, FIXED = range(4)
STEP_SIZES = {"polyak": POLYAK, "kaczmarz": KACZMARZ}

SUSPICIOUS = 3  # epochs without progress before the gradient and the rounding level are looked at
PATIENCE = 30  # epochs without progress before the step is halved
BLOWN_UP = 10.0  # times the best ||r||
SMALLEST = 1e-12  # of the first step: no step helps


class State(NamedTuple):
    """Where SGD stands: the running point w, and r = F(w) - y where ``checked``."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    best_w: Array
    best_r: Array
    rule: int
    eta: float
    first_eta: float
    batch: int
    in_vain: int  # epochs since the best point
    last: int  # the iteration that is checked whatever its place in the epoch: max_iter


def init(problem: Problem, rule: int, eta: float, batch: int, last: int) -> State:
    """eta is the rule's own when it is FIXED."""
    w, r = problem.w0, problem.r0
    T = problem.linearise(w, r, False)
    row, top = constants(T, r)
    status = RUNNING
    if row == 0.0 or norm(r) <= problem.rounding_level(w, r, T):
        status = verdict(problem, w, r, T)
    elif rule == INTERPOLATION:
        eta = 1.0 / (problem.n / batch * row + (1.0 - 1.0 / batch) * top)
    return State(w, r, status, 0, 0.0, True, w, r, rule, eta, eta, batch, 0, last)


def step(problem: Problem, s: State) -> State:
    n = problem.n
    rows = problem.rng.integers(0, n, s.batch)
    r = problem.residual_rows(s.w, rows)
    T = problem.linearise_rows(s.w, rows)
    p = direction(T, r, s.rule, s.eta * n / s.batch)
    w = problem.project(s.w + p)
    nit, length = s.nit + 1, T.norm(p)
    epoch = (n + s.batch - 1) // s.batch
    if nit % epoch and nit != s.last and math.isfinite(length):
        first = s.first_eta
        return State(
            w, s.r, RUNNING, nit, length, False, s.best_w, s.best_r, s.rule, s.eta, first, s.batch, s.in_vain, s.last
        )
    return checked(problem, s, w, nit, length)


def direction(T: Tangent, r: Array, rule: int, eta: float) -> Array:
    """The step on a batch: down its gradient, or (KACZMARZ) Gauss-Newton on its equations (theory 5.4, 5.5)."""
    if rule == KACZMARZ:
        free = np.empty(0, np.bool_)
        H = T.inverse(free, False)
        return -(H if H.sound else T.inverse(free, True)).solve(r)
    g = T.adjoint(r)
    d = -T.raised(g)
    if rule == POLYAK:
        slope = float(g.dot(d))
        return float(r.dot(r)) / -slope * d if slope < 0.0 else d
    return eta * d


def checked(problem: Problem, s: State, w: Array, nit: int, length: float) -> State:
    """The end of an epoch: the full residual decides whether to go on from here or from the best point."""
    r = problem.residual(w) if math.isfinite(length) else np.full(problem.n, np.inf)
    status, eta, in_vain = RUNNING, s.eta, s.in_vain + 1
    best_w, best_r = s.best_w, s.best_r
    if norm(r) < norm(best_r):
        best_w, best_r, in_vain = w, r, 0
    elif in_vain == SUSPICIOUS:
        status = verdict(problem, best_w, best_r, problem.linearise(best_w, best_r, True))
        status = RUNNING if status == Status.STALLED else status
    elif in_vain >= PATIENCE or not norm(r) <= min(BLOWN_UP * norm(best_r), HUGE):
        w, r, eta, in_vain = best_w, best_r, 0.5 * eta, 0
        if eta < SMALLEST * s.first_eta or s.rule in (POLYAK, KACZMARZ):
            status = int(Status.STALLED)
    return State(w, r, status, nit, length, True, best_w, best_r, s.rule, eta, s.first_eta, s.batch, in_vain, s.last)


def critical_batch(problem: Problem) -> int:
    """s* = 1 + n max_i K_ii / lambda_max(K) at w0, at most n."""
    row, top = constants(problem.linearise(problem.w0, problem.r0, False), problem.r0)
    return int(min(1.0 + problem.n * row / top, problem.n)) if row > 0.0 else 1


def constants(T: Tangent, r: Array) -> tuple[float, float]:
    """max_i K_ii and lambda_max(K)."""
    row = largest_row(T)
    return row, max(largest_eigenvalue(T, r), row)


def largest_row(T: Tangent) -> float:
    """max_i K_ii."""
    J = T.J if isinstance(T.J, np.ndarray) or hasattr(T.J, "multiply") else T.toarray()
    if T.scale.size:
        J = J * T.scale if isinstance(J, np.ndarray) else J.multiply(T.scale)
    squares = np.einsum("ij,ij->i", J, J) if isinstance(J, np.ndarray) else J.multiply(J).sum(axis=1)
    return float(np.max(squares))
