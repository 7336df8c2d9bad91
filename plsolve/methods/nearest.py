"""From a solution to the solution nearest to w0: the KKT point of min ||w - w0|| subject to F(w) = y (theory 7.9).

At a solution w the way back to w0 is projected on the null space of J, d = (I - J^+ J)(w0 - w), which vanishes exactly
at a KKT point. A step along d leaves the solution set by its curvature only; a few Gauss-Newton steps with the factor
at hand bring it back. Steps are kept only if they end at a solution nearer to w0, so that each point is a better answer
than the one before.
"""

from __future__ import annotations

from typing import NamedTuple

from plsolve.linalg import Array, all_free, norm, nothing
from plsolve.problem import Problem
from plsolve.stopping import RUNNING, Status
from plsolve.tangent import Inverse, tangent

KKT = 1e-9  # of ||w - w0||: d is zero
VISIBLE = 1e-7  # of ||w - w0||: a shorter d changes the distance by its square, which rounding hides; it has to shrink
CORRECTIONS = 15  # Gauss-Newton steps back to the solution set


class State(NamedTuple):
    """A solution, and how much of the last projected way could be taken."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    share: float
    level: float  # the residual that counts as solved
    pl: float  # negative: not known
    bend: float  # 0: not looked at


def init(problem: Problem, w: Array, r: Array, nit: int) -> State:
    return State(w, r, RUNNING, nit, 0.0, True, 1.0, max(problem.target, norm(r)), -1.0, 0.0)


def step(problem: Problem, s: State) -> State:
    J = problem.linearise(s.w, s.r, True).J
    T = tangent(J, nothing(J)[1])  # distances are in w, whatever x_scale
    free = all_free(s.w)
    H = T.inverse(free, False)
    H = H if H.sound else T.inverse(free, True)
    way = problem.w0 - s.w
    d = way - H.solve(T.apply(way))
    if norm(d) <= KKT * norm(way):
        return State(s.w, s.r, int(Status.RESIDUAL), s.nit, 0.0, True, s.share, s.level, -1.0, 0.0)
    share, visible = s.share, norm(d) > VISIBLE * norm(way)
    while share > 1e-8:
        w, r = back(problem, H, s.w + share * d, s.level)
        nearer = norm(w - problem.w0) < norm(way) if visible else norm(w - s.w) < 0.9 * s.step
        if norm(r) <= s.level and nearer:
            return State(w, r, RUNNING, s.nit + 1, norm(w - s.w), True, min(1.0, 2.0 * share), s.level, -1.0, 0.0)
        if not visible:
            break
        share *= 0.5
    status = Status.STALLED if visible else Status.RESIDUAL
    return State(s.w, s.r, int(status), s.nit, 0.0, True, share, s.level, -1.0, 0.0)


def back(problem: Problem, H: Inverse, w: Array, level: float) -> tuple[Array, Array]:
    """Chord steps to the solution set, while they shrink."""
    r, last = problem.residual(w), float("inf")
    for _ in range(CORRECTIONS):
        if not level < norm(r) < 0.9 * last:
            break
        last = norm(r)
        w = w - H.solve(r)
        r = problem.residual(w)
    return w, r
