"""Gradient descent on L = 1/2 ||r||^2: w+ = w - eta g, g = J^T r (theory 1.1).

Theorem 1.1 takes eta = 1/M, M = L_F^2 + beta ||r||, a bound on the curvature of L where the loss is no larger. With L_F
given (and beta, unless it is 0), L+ <= (1 - eta mu) L in every step, mu the PL* constant. Otherwise L_F^2 is
lambda_max(K(w0)), and M doubles whenever a step contradicts it, that is, whenever L(w+) <= L + g.p + M/2 ||p||^2 fails:
L falls by at least ||g||^2 / (2 M) in every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from plsolve._history import History
from plsolve._linalg import HUGE, Array, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._tangent import Tangent
from plsolve.methods import options as given
from plsolve.methods import spectrum
from plsolve.methods.ending import FLAT, largest_eigenvalue, step_beta, verdict
from plsolve.methods.method import Method, Stage
from plsolve.methods.options import CONSTANTS, Constants
from plsolve.theory import steps

THEOREM, POLYAK, CAUCHY, FIXED = range(4)
STEP_SIZES = {"theorem": THEOREM, "polyak": POLYAK, "cauchy": CAUCHY}

OPTIONS = ("step_size", "momentum", *CONSTANTS)
LIMIT = 100_000  # iterations

SMALLEST = 1e-16  # of ||w||: shorter steps do not change w


class State(NamedTuple):
    """The point, the step-size rule and the curvature bound M = excess (L_F^2 + beta ||r||)."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool  # r belongs to w
    rule: int
    eta: float  # of the last step; the rule's own number when FIXED
    lipschitz: float  # L_F; 0: not known yet
    beta: float
    exact: bool  # L_F was given
    excess: float  # doubled whenever a step violates the bound M
    pl: float  # 1/2 ||g||^2 / L at the point before; negative: not known
    beta_seen: float  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta


def method(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    """Gradient descent without momentum."""
    rule, eta = given.step_size(options.get("step_size", "theorem"), STEP_SIZES, FIXED)
    known = given.constants(problem, options, beta)
    return Method(
        stages=[Stage(lambda limit, problem, before: start(problem.w0, problem.r0, rule, eta, known), step)],
        limit=LIMIT,
        forecast=forecast,
        guarantee=guarantee if rule == THEOREM else None,
    )


def start(w: Array, r: Array, rule: int, eta: float, known: Constants) -> State:
    """The first state, from w and r alone."""
    return State(
        w=w,
        r=r,
        status=RUNNING,
        nit=0,
        step=0.0,
        checked=True,
        rule=rule,
        eta=eta,
        lipschitz=known.lipschitz,
        beta=known.beta,
        exact=known.lipschitz > 0.0,
        excess=1.0,
        pl=-1.0,
        beta_seen=0.0,
    )


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, False)
    g = T.adjoint(s.r)
    if not norm(g) < HUGE:
        return stopped(s, int(Status.STALLED), pl=-1.0)
    d = -T.metric_gradient(g)
    r2 = float(s.r.dot(s.r))
    L = s.lipschitz if s.lipschitz > 0.0 else largest_eigenvalue(problem, T, s.r) ** 0.5
    pl = float(g.dot(g)) / r2 if r2 > 0.0 else -1.0
    excess = s.excess
    M = excess * (L * L + s.beta * norm(s.r))
    eta = step_size(T, s.rule, s.eta, M, d, float(g.dot(d)), r2)
    while True:
        w = problem.project(s.w + eta * d)
        p = w - s.w
        length, slope = T.norm(p), float(g.dot(p))
        if not (length > SMALLEST * T.norm(s.w) and -slope > FLAT * r2 * eta * M):
            return stopped(s, verdict(problem, s.w, s.r, T), lipschitz=L, excess=excess, pl=pl)
        r = problem.residual(w)
        if norm(r) < HUGE and (s.rule != THEOREM or fell(problem, s, T, r, -slope - 0.5 * M * length * length)):
            most = max(s.beta_seen, step_beta(problem, T, s.w, s.r, p, r, s.beta))
            return s._replace(
                w=w, r=r, nit=s.nit + 1, step=length, eta=eta, lipschitz=L, excess=excess, pl=pl, beta_seen=most
            )
        excess *= 2.0
        M *= 2.0
        eta *= 0.5


def stopped(s: State, status: int, **learnt: Any) -> State:
    """The state that ends the run at s, without a step."""
    return s._replace(status=status, step=0.0, **learnt)


def fell(problem: Problem, s: State, T: Tangent, r: Array, promised: float) -> bool:
    """Whether the loss fell by what M guarantees, up to rounding; with exact constants it always does."""
    if not norm(r) <= norm(s.r):
        return False
    drop = 0.5 * float((s.r - r).dot(s.r + r))
    return s.exact or drop >= promised or drop + problem.rounding_level(s.w, s.r, T) * norm(s.r) >= promised


def step_size(T: Tangent, rule: int, fixed: float, M: float, d: Array, slope: float, r2: float) -> float:
    """eta of the rule (theory 1.1 and 4.4); slope = -||g||^2 in the metric of the step."""
    if rule == FIXED:
        return fixed
    if slope == 0.0:
        return 0.0
    if rule == POLYAK:
        return steps.polyak_step(r2, -slope)
    if rule == CAUCHY:
        Jd = T.apply(d)
        square = float(Jd.dot(Jd))
        return steps.cauchy_step(-slope, square) if square > 0.0 else 0.0
    return 1.0 / M if M > 0.0 else 0.0


def forecast(problem: Problem, s: State, history: History, enough: float) -> tuple[float, float]:
    """Iterations left until ||r|| <= enough, and kappa: from the spectrum where eta is constant (theory 4.3)."""
    seen = spectrum.seen(problem, s.w, s.r, enough)
    if s.rule == THEOREM:
        return seen.iterations(1.0 / (s.excess * s.lipschitz * s.lipschitz)), seen.kappa
    return (seen.iterations(s.eta) if s.rule == FIXED else spectrum.observed(history, seen.loss)), seen.kappa


def guarantee(s: State, history: History) -> Array:
    """L_0 times the product of 1 - eta PL: each step reduces L by at least eta ||g||^2 / 2 (theory 1.1)."""
    loss, pl = history.loss, history.pl[:-1]
    gradient = np.sqrt(2.0 * loss[:-1] * pl)
    eta = np.divide(history.step[1:], gradient, out=np.zeros(gradient.size), where=gradient > 0.0)
    return np.asarray(loss[0] * np.append(1.0, np.cumprod(np.maximum(1.0 - pl * eta, 0.0))))
