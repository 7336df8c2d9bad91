"""From a solution to the solution nearest to w0: the KKT point of min ||w - w0|| subject to F(w) = y (theory 7.9).

At a solution w the vector w0 - w is projected on the null space of J, d = (I - J^+ J)(w0 - w), which vanishes exactly
at a KKT point. A step along d leaves the solution set only to second order, and a few Gauss-Newton steps with the same
factor lead back to it. A step is kept only if it ends at a solution nearer to w0 or, where rounding hides the change of
distance, if d has become shorter.
"""

from __future__ import annotations

from typing import NamedTuple

from plsolve._linalg import ALL_FREE, NO_VECTOR, UNIT, Array, alternating, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import Inverse, Tangent, tangent

KKT = 1e-9  # of ||w - w0||: a shorter d counts as zero
CORRECTIONS = 15  # Gauss-Newton steps back to the solution set


class State(NamedTuple):
    """A solution, and the share of the last projected direction d that could be taken."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    share: float
    level: float  # the residual that counts as solved
    pl: float  # negative: not known
    beta_seen: float  # 0: not looked at


def init(problem: Problem, w: Array, r: Array, nit: int) -> State:
    return State(
        w=w,
        r=r,
        status=RUNNING,
        nit=nit,
        step=0.0,
        checked=True,
        share=1.0,
        level=max(problem.target, norm(r)),
        pl=-1.0,
        beta_seen=0.0,
    )


def step(problem: Problem, s: State) -> State:
    J = problem.linearise(s.w, s.r, True).J
    T = tangent(J, NO_VECTOR)  # distances are measured in w, without x_scale
    H = T.inverse(ALL_FREE, False)
    H = H if H.sound else T.inverse(ALL_FREE, True)
    way = problem.w0 - s.w
    u = H.coordinates(T.apply(way))[0]
    d = way - H.from_coordinates(u)
    d = d - H.solve(T.apply(d))  # restores J d = 0, which rounding in the factorisation has lost
    length, size, noise = norm(way), norm(d), blur(problem, s, T, H, way)
    if size <= max(KKT * length, noise):
        return s._replace(status=int(Status.RESIDUAL), step=0.0)
    least = 2.0 * noise / size * (length / size)  # a smaller share of d changes the distance by less than rounding
    share, visible = min(max(s.share, 2.0 * least), 1.0), True
    while visible and share > 1e-8:
        visible = share > least
        w, r = back(problem, H, s.w + share * d, s.level)
        p = w - s.w
        if norm(r) <= s.level and (gains(H, s, way, u, p, r) if visible else norm(p) < 0.9 * s.step):
            return s._replace(w=w, r=r, nit=s.nit + 1, step=norm(p), share=min(1.0, 2.0 * share))
        share *= 0.5
    status = Status.STALLED if visible else Status.RESIDUAL
    return s._replace(status=int(status), step=0.0, share=share)


def gains(H: Inverse, s: State, way: Array, u: Array, p: Array, r: Array) -> bool:
    """Whether w + p, where the residual is r, is nearer to w0; u: the coordinates of J^+ J way.

    ||w - w0||^2 / 2 falls by p . (way - p / 2). Of that, way . J^+ (r - s.r) is due only to the change of residual.
    """
    return bool(p.dot(way - 0.5 * p) > u.dot(H.coordinates(r - s.r)[1]))


def blur(problem: Problem, s: State, T: Tangent, H: Inverse, way: Array) -> float:
    """How far rounding alone moves w, and hence d: the length of J^+ e, e as large as the rounding of F and of J way.

    The signs of e are random, so that every direction has its share of it, the weakest one of J too. J has an error E
    of about u |J|, which turns its null space: d moves by (I - J^+ J) E^T z, z = (J^+)^T way, which is at most
    ||J^+|| u || |J| |way| ||. F has the error e, so that w and w + J^+ e cannot be told apart, and ||w - w0||^2 / 2 is
    uncertain by way . J^+ e <= ||way|| blur. A step along the right share of d changes it by share ||d||^2 / 2, which
    is visible only if it is larger than that.
    """
    size = problem.rounding_level(s.w, s.r, T) + 4.0 * UNIT * T.magnitude(way)
    return H.length(size * alternating(s.r))


def back(problem: Problem, H: Inverse, w: Array, level: float) -> tuple[Array, Array]:
    """Chord steps back to the solution set, while they shrink."""
    r, last = problem.residual(w), float("inf")
    for _ in range(CORRECTIONS):
        if not level < norm(r) < 0.9 * last:
            break
        last = norm(r)
        w = w - H.solve(r)
        r = problem.residual(w)
    return w, r
