"""Gradient descent on L = 1/2 ||r||^2: w+ = w - eta g, g = J^T r (theory 1.1).

Theorem 1.1 takes eta = 1/(L_F^2 + beta ||r0||), the inverse of a bound on the curvature of L. Here that bound is
estimated: it starts from lambda_max(K(w0)) and doubles whenever a step contradicts it, that is, whenever
L(w+) <= L + g.p + M/2 ||p||^2 fails. Then L falls by at least ||g||^2 / (2 M) in every step.
"""

from __future__ import annotations

from typing import NamedTuple

from plsolve.linalg import Array, norm
from plsolve.methods.ending import FLAT, HUGE, largest_eigenvalue, verdict
from plsolve.problem import Problem
from plsolve.stopping import RUNNING
from plsolve.tangent import Tangent

THEOREM, POLYAK, CAUCHY, FIXED = range(4)
STEP_SIZES = {"theorem": THEOREM, "polyak": POLYAK, "cauchy": CAUCHY}

SMALLEST = 1e-16  # of ||w||: shorter steps do not change w


class State(NamedTuple):
    """Where gradient descent stands, with the step-size rule and the estimate M of the curvature of L."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool  # r belongs to w
    rule: int
    eta: float  # of the last step; the rule's own number when FIXED
    smoothness: float  # M; 0: not known yet


def init(problem: Problem, rule: int, eta: float) -> State:
    return State(problem.w0, problem.r0, RUNNING, 0, 0.0, True, rule, eta, 0.0)


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, False)
    g = T.adjoint(s.r)
    d = -T.raised(g)
    r2 = float(s.r.dot(s.r))
    M = s.smoothness if s.smoothness > 0.0 else largest_eigenvalue(T, s.r)
    eta = step_size(T, s.rule, s.eta, M, d, float(g.dot(d)), r2)
    while True:
        w = problem.project(s.w + eta * d)
        p = w - s.w
        length, slope = T.norm(p), float(g.dot(p))
        if not (length > SMALLEST * T.norm(s.w) and -slope > FLAT * r2 * eta * M):
            status = verdict(problem, s.w, s.r, T)
            return State(s.w, s.r, status, s.nit, 0.0, True, s.rule, s.eta, M)
        r = problem.residual(w)
        fell = norm(r) < HUGE
        if fell and s.rule == THEOREM:  # the descent lemma: what M promises
            drop = 0.5 * float((s.r - r).dot(s.r + r))
            fell = drop >= -slope - 0.5 * M * length * length and norm(r) <= norm(s.r)
        if fell:
            return State(w, r, RUNNING, s.nit + 1, length, True, s.rule, eta, M)
        M *= 2.0
        eta *= 0.5


def step_size(T: Tangent, rule: int, fixed: float, M: float, d: Array, slope: float, r2: float) -> float:
    """eta of the rule (theory 1.1 and 4.4); slope = -||g||^2 in the metric of the step."""
    if rule == FIXED:
        return fixed
    if slope == 0.0:
        return 0.0
    if rule == POLYAK:
        return r2 / -slope
    if rule == CAUCHY:
        Jd = T.apply(d)
        return -slope / float(Jd.dot(Jd))
    return 1.0 / M if M > 0.0 else 0.0
