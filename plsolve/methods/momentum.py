"""Gradient descent with momentum: heavy ball, Nesterov's and Chebyshev's (theory 6.2), safeguarded by 6.3.

For linear F all three need about sqrt(kappa) steps where plain gradient descent needs kappa. None of them has a
guarantee of its own for nonlinear F, so each step must keep that of gradient descent, L_t <= (1 - eta mu)^t L_0
(theory 1.1). The loss may oscillate below this ceiling; a step that would exceed it is replaced by one of gradient
descent, and momentum restarts. Momentum also restarts, with a larger bound on the curvature, when a window of
4 sqrt(kappa) steps has reduced the loss by less than this guarantee, or when the loss has risen too far within one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from plsolve._history import History
from plsolve._linalg import HUGE, Array, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING
from plsolve.methods import gradient_descent, spectrum
from plsolve.methods import options as given
from plsolve.methods.ending import step_beta
from plsolve.methods.gradient_descent import THEOREM
from plsolve.methods.method import Method, Stage
from plsolve.methods.options import Constants
from plsolve.theory import forecasts, steps

HEAVY_BALL, NESTEROV, CHEBYSHEV = range(3)
KINDS = {"heavy-ball": HEAVY_BALL, "nesterov": NESTEROV, "chebyshev": CHEBYSHEV}

INFLATED = 1.05  # times the largest curvature: momentum diverges where that is underestimated
GROWN = 1.5  # times that, when a window has reduced the loss by less than gradient descent guarantees
SWING = 1e4  # times the least loss of the window: the loss has risen too far
FLATTEST = 1e-12  # of the largest curvature: the smallest is taken to be no less


class State(NamedTuple):
    """The point, the last step, the constants, and the progress within the current window."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool  # r belongs to w
    kind: int
    p: Array  # the last step
    before: float  # a of the last step
    age: int  # steps since momentum restarted
    known: Constants
    exact: bool  # the constants were given
    swell: float  # factor on the largest curvature
    ceiling: float  # (1 - eta mu)^nit L_0
    least: float  # least loss in this window
    start: float  # least loss before this window
    window: int  # steps in this window
    pl: float
    beta_seen: float


def method(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    """Gradient descent with the momentum named in `options`; constants that are not given are estimated at w0."""
    plain = gradient_descent.method(problem, options, beta)
    kind = given.named(options, "momentum", KINDS)
    if options.get("step_size", "theorem") != "theorem":
        raise ValueError("`options`: 'momentum' sets its own steps, so 'step_size' must be 'theorem' or left out.")
    known = given.constants(problem, options, beta)
    exact = known.lipschitz > 0.0 and known.mu > 0.0
    if not exact:
        low, high = spectrum.ends(problem, problem.linearise(problem.w0, problem.r0, False))
        largest = math.sqrt(high) if high >= 0.0 else math.nan  # products that do not belong together
        known = Constants(known.lipschitz or largest, known.beta, known.mu or low)
    spectrum.check_products(known.lipschitz)
    if known.lipschitz == 0.0:  # J vanishes: gradient descent ends with the right status
        return plain
    return Method(
        stages=[Stage(lambda limit, problem, before: init(problem, kind, known, exact), step)],
        limit=plain.limit,
        forecast=forecast,
        guarantee=guarantee,
    )


def init(problem: Problem, kind: int, known: Constants, exact: bool) -> State:
    """The first state; ``known`` is complete: lipschitz and mu are positive."""
    r = problem.r0
    loss = 0.5 * float(r.dot(r))
    return State(
        w=problem.w0,
        r=r,
        status=RUNNING,
        nit=0,
        step=0.0,
        checked=True,
        kind=kind,
        p=np.zeros(problem.m),
        before=0.0,
        age=0,
        known=known,
        exact=exact,
        swell=INFLATED,
        ceiling=loss,
        least=loss,
        start=loss,
        window=0,
        pl=-1.0,
        beta_seen=0.0,
    )


def step(problem: Problem, s: State) -> State:
    M = s.swell * (s.known.lipschitz**2 + s.known.beta * norm(s.r))
    mu = max(s.known.mu, FLATTEST * M)
    a, b = coefficients(s.kind, M, mu, s.before, s.age)
    u, ru = s.w, s.r
    if s.kind == NESTEROV and s.age > 0:
        u = problem.project(s.w + b * s.p)
        ru = problem.residual(u)
    if not norm(ru) < HUGE:
        return plain(problem, s, True)
    T = problem.linearise(u, ru, False)
    g = T.adjoint(ru)
    w = problem.project(s.w + b * s.p - a * T.metric_gradient(g))
    r = problem.residual(w)
    p, loss = w - s.w, 0.5 * float(r.dot(r))
    pl = float(g.dot(g)) / float(ru.dot(ru)) if ru.any() else -1.0
    ceiling = s.ceiling * steps.gd_rate(steps.gd_step(s.known.lipschitz, s.known.beta, norm(s.r)), s.known.mu)
    if not (loss <= ceiling and loss <= SWING * s.least and p.any()):
        return plain(problem, s, not loss <= SWING * s.least)
    window, least, start, known = s.window + 1, min(s.least, loss), s.start, learnt(problem, s, pl)
    if window >= 4.0 * math.sqrt(M / mu) + 10.0:
        if not least < start * steps.gd_rate(1.0 / M, mu) ** window:
            return plain(problem, s, True)
        window, start, least = 0, least, loss
    most = max(s.beta_seen, step_beta(problem, T, u, ru, w - u, r, s.known.beta))
    age = 0 if s.kind == NESTEROV and float(g.dot(p)) > 0.0 else s.age + 1  # uphill: restart
    return s._replace(
        w=w, r=r, nit=s.nit + 1, step=T.norm(p), p=p, before=a, age=age, known=known, ceiling=ceiling, least=least,
        start=start, window=window, pl=pl, beta_seen=most,
    )  # fmt: skip


def coefficients(kind: int, M: float, mu: float, before: float, age: int) -> tuple[float, float]:
    """(a, b) of w+ = w + b p - a g, p the last step (theory 6.2)."""
    if kind == HEAVY_BALL:
        return steps.heavy_ball(M, mu)
    if kind == NESTEROV:
        return steps.nesterov(M, mu)
    a, b = steps.chebyshev(M, mu, before, age)
    return a, (a * b / before if age > 0 else 0.0)


def learnt(problem: Problem, s: State, pl: float) -> Constants:
    """Estimates corrected by the PL ratio, which lies between lambda_min(K) and lambda_max(K)."""
    if s.exact or pl <= 0.0 or problem.n > problem.m:
        return s.known
    return Constants(max(s.known.lipschitz, math.sqrt(pl)), s.known.beta, min(s.known.mu, pl))


def plain(problem: Problem, s: State, inflate: bool) -> State:
    """A step of gradient descent, after which momentum restarts; inflate: with a larger bound on the curvature."""
    L, beta, mu = s.known
    before = gradient_descent.start(s.w, s.r, THEOREM, 0.0, s.known)
    new = gradient_descent.step(problem, before._replace(nit=s.nit, exact=s.exact, beta_seen=s.beta_seen))
    loss = 0.5 * float(new.r.dot(new.r))
    rate = steps.gd_rate(steps.gd_step(L, beta, norm(s.r)), mu)
    swell = min(GROWN * s.swell, 1e6) if inflate else s.swell
    known = Constants(L * math.sqrt(new.excess), beta, mu)
    ceiling = max(s.ceiling * rate, loss)
    return s._replace(
        w=new.w, r=new.r, status=new.status, nit=new.nit, step=new.step, p=np.zeros(s.w.size), before=0.0, age=0,
        known=known, swell=swell, ceiling=ceiling, least=loss, start=loss, window=0, pl=new.pl, beta_seen=new.beta_seen,
    )  # fmt: skip


def forecast(problem: Problem, s: State, history: History, enough: float) -> tuple[float, float]:
    """Iterations left until ||r|| <= enough, and kappa (theory 4.3)."""
    seen = spectrum.seen(problem, s.w, s.r, enough)
    curvature = s.swell * s.known.lipschitz * s.known.lipschitz
    condition = min(curvature / max(s.known.mu, 1e-300), 1e12)
    return float(forecasts.momentum_iterations(condition, 0.5 * float(s.r.dot(s.r)) / seen.loss)), seen.kappa


def guarantee(s: State, history: History) -> Array:
    """(1 - eta mu)^t L_0 (theory 6.3)."""
    nit, loss = history.nit, history.loss
    if not (loss[0] > 0.0 and s.nit > 0):
        return history.bound
    return np.asarray(loss[0] * (s.ceiling / loss[0]) ** (nit / s.nit))
