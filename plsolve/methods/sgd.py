"""Mini-batch stochastic gradient descent under interpolation: w+ = w - eta (n/s) J_B^T r_B, B = s rows drawn at random.

The default step is eta = 1/Ls with Ls = (n/s) max_i K_ii + (1 - 1/s) lambda_max(K), and the default batch the critical
size s* = 1 + n max_i K_ii / lambda_max(K), below which s rows at once are worth s steps of one row (theory 5.1; Ma,
Bassily, Belkin, arXiv 1712.06559). 'theorem' is the smaller step of theory 1.3, for nonlinear F; MaSS adds momentum
(5.3); 'kaczmarz' makes Gauss-Newton steps on batches (5.5). Constants that are not given are estimated from some rows
at w0 (`batches`). Since they may be wrong, the residual of all equations is evaluated now and then: after many
epochs without progress, or if the loss has blown up, SGD returns to the best point with half the step or more damping.

If an epoch takes all rows in a new order, the residuals of its batches give an estimate of the loss. All of F is then
evaluated only after 1, 4, 16, ... epochs, and where the estimate shows a solved system or no progress.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from plsolve._history import History
from plsolve._linalg import HUGE, Array, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._system import Indices
from plsolve._tangent import Tangent
from plsolve.methods import batches, spectrum
from plsolve.methods import options as given
from plsolve.methods.blocks import DAMPING, block_step
from plsolve.methods.ending import at_rounding_level, largest_eigenvalue, verdict
from plsolve.methods.method import Method, Stage
from plsolve.methods.options import CONSTANTS
from plsolve.theory import steps

INTERPOLATION, THEOREM, POLYAK, KACZMARZ, FIXED = range(5)
STEP_SIZES = {"theorem": THEOREM, "polyak": POLYAK, "kaczmarz": KACZMARZ}

UNIFORM, RESIDUAL, CYCLIC, MAX, SHUFFLED, CHOSEN = range(6)
ROWS = {"uniform": UNIFORM, "residual": RESIDUAL, "cyclic": CYCLIC, "max": MAX, "shuffled": SHUFFLED}

OPTIONS = ("step_size", "momentum", "batch_size", "rows", "damping", "row_smoothness", *CONSTANTS)
EPOCHS = 1000
LEAST = 1e-280  # smaller values of ||J||^2 have lost their digits

SUSPICIOUS = 10  # epochs without progress before the gradient and the rounding level are tested
PATIENCE = 30  # epochs without progress before the step is halved
BLOWN_UP = 10.0  # times the best ||r||
SMALLEST = 1e-12  # of the first step: below this, no step helps
DAMPED = 1e-4  # the same for blocks, whose damping grows with the inverse square of the step
UNKNOWN = -1.0  # a constant that is not known
CALM = 0.125  # of all rows: once this many in a row are solved in their batches, all equations are evaluated
NO_ROWS: Indices = np.empty(0, np.int64)
NOTHING: Array = np.empty(0)


class Plan(NamedTuple):
    """The settings of a run; the constants are those of `theory.steps`, with largest = lambda_max(K) or L_F^2."""

    rule: int
    eta: float  # the rule's own when it is FIXED
    batch: int
    rows: int
    mass: bool  # momentum
    last: int  # max_iter, the iteration that is checked wherever it is in its epoch
    largest_row: float  # UNKNOWN: not needed
    largest: float
    mu: float
    smoothness: float  # of L: L_F^2 + beta ||r0||
    damping: float  # initial damping of blocks


class State(NamedTuple):
    """The running point w; if ``checked``, also r = F(w) - y and the length of the step.

    If the state is ``noted`` but not checked, r has the residual of each row at the point where its batch was drawn.
    """

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    noted: bool
    best_w: Array
    best_r: Array
    ahead: Array  # MaSS: the point where the gradient is evaluated; else w
    shrink: float  # factor on the first step
    idle: int  # evaluations of all equations since the best point
    plan: Plan
    eta: float  # of the first step
    kick: float  # MaSS: eta2 / eta1, and the weight of momentum
    gamma: float
    weights: Array  # norms of the rows of J(w0); empty unless rows are chosen by MAX
    order: Indices  # of the rows in this epoch; empty unless they are shuffled
    met: Array  # r of each row in its last batch; empty unless rows are shuffled
    least: float  # least norm of ``met`` at the end of an epoch
    calm: int  # consecutive rows that were solved in their batches
    wait: float  # value of ``calm`` at which all equations are evaluated
    pl: float  # negative: not known
    beta_seen: float  # 0: not looked at
    cut: bool  # all equations were evaluated only because the run ends here

    def limited(self, limit: int) -> State:
        """The state in a run with another limit of iterations."""
        return self._replace(plan=self.plan._replace(last=limit))


class Asked(NamedTuple):
    """The options; batch = 0 and rows = CHOSEN: chosen to suit the other options."""

    rule: int
    eta: float
    mass: bool
    rows: int
    batch: int
    damping: float


def method(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    """SGD, with constants that are estimated at w0 where they are not given."""
    problem.read_by_rows()
    asked, known, reason = as_asked(options, problem.n), given.constants(problem, options, beta), ""
    alone = not options and problem.n > batches.FEW
    if problem.system.rows_F and problem.system.rows_of_J and (alone or (asked.rule == KACZMARZ and asked.batch == 0)):
        kind = batches.cheapest(problem, alone)
        reason = kind.reason
        if kind.block:
            asked = asked._replace(rule=KACZMARZ, batch=kind.block)
    plan = planned(problem, asked, known, given.positive(options, "row_smoothness"))
    plain = plan.rows in (UNIFORM, CYCLIC) and plan.rule != KACZMARZ
    return Method(
        stages=[Stage(partial(init, plan=plan), step if plain else other_step)],
        limit=EPOCHS * -(-problem.n // plan.batch),
        forecast=forecast,
        reason=reason,
    )


def as_asked(options: Mapping[str, Any], n: int) -> Asked:
    """The options after their checks."""
    rule, eta = INTERPOLATION, 0.0
    if "step_size" in options:
        rule, eta = given.step_size(options["step_size"], STEP_SIZES, FIXED)
    mass = "momentum" in options and given.named(options, "momentum", {"mass": True})
    if mass and rule != INTERPOLATION:
        raise ValueError("`options`: 'momentum' = 'mass' sets its own steps, so 'step_size' must be left out.")
    damping = given.positive(options, "damping")
    if damping and rule != KACZMARZ:
        raise ValueError("`options`: 'damping' goes with 'step_size' = 'kaczmarz' only.")
    batch = options.get("batch_size", "auto")
    if isinstance(batch, str) and batch == "auto":
        batch = 0
    elif isinstance(batch, bool) or not (isinstance(batch, (int, np.integer)) and batch >= 1):
        raise ValueError(f"`options`: 'batch_size' must be 'auto' or a positive integer, got {batch!r}.")
    return Asked(
        rule=rule,
        eta=eta,
        mass=bool(mass),
        rows=given.named(options, "rows", ROWS) if "rows" in options else CHOSEN,
        batch=int(min(batch, n)),
        damping=damping or DAMPING,
    )


def planned(problem: Problem, asked: Asked, known: given.Constants, row: float) -> Plan:
    """The plan with the constants that its steps need; those not given are estimated from some rows of J(w0)."""
    rule, batch, largest, mu = asked.rule, asked.batch, known.lipschitz * known.lipschitz, known.mu
    by_constants = rule in (INTERPOLATION, THEOREM) or batch == 0
    needs_mu = mu == 0.0 and (asked.mass or rule == THEOREM)
    looked = not problem.system.by_rows or needs_mu or (by_constants and not (row and largest))
    if looked:
        seen = spectrum.sample(problem, problem.w0, problem.r0)
        row = row or float(seen.T.row_squares().max())
        row = row if not row < LEAST else 0.0
        largest = largest or max(seen.share * largest_eigenvalue(problem, seen.T, seen.r), row)
        spectrum.check_products(math.sqrt(largest))
        mu = max(spectrum.ends(problem, seen.T)[0], 1e-12 * largest) if needs_mu else mu
        if row == 0.0 and problem.system.by_rows:  # other rows may be different: steps that need no constants
            rule, row, asked = POLYAK, UNKNOWN, asked._replace(mass=False)
    if batch == 0:
        batch = steps.critical_batch(problem.n, row, largest) if row > 0.0 else 1
    rule = POLYAK if rule == KACZMARZ and batch == 1 else rule  # the same for one row
    rows = SHUFFLED if rule == KACZMARZ else UNIFORM
    return Plan(
        rule=rule,
        eta=asked.eta,
        batch=batch,
        rows=rows if asked.rows == CHOSEN else asked.rows,
        mass=asked.mass,
        last=0,
        largest_row=row if row or looked else UNKNOWN,
        largest=largest,
        mu=mu,
        smoothness=largest + known.beta * norm(problem.r0),
        damping=asked.damping,
    )


def init(limit: int, problem: Problem, before: Any, plan: Plan) -> State:
    w, r, shuffled = problem.w0, problem.r0, plan.rows == SHUFFLED
    status = RUNNING
    if plan.largest_row == 0.0 or (not problem.system.by_rows and at_rounding_level(problem, w, r, whole(problem))):
        status = verdict(problem, w, r, whole(problem))
    eta, kick, gamma = first_step(problem.n, plan) if status == RUNNING else (0.0, 0.0, 0.0)
    return State(
        w=w,
        r=r,
        status=status,
        nit=0,
        step=0.0,
        checked=True,
        noted=True,
        best_w=w,
        best_r=r,
        ahead=w,
        shrink=1.0,
        idle=0,
        plan=plan._replace(last=limit),
        eta=eta,
        kick=kick,
        gamma=gamma,
        weights=np.sqrt(whole(problem).row_squares()) if plan.rows == MAX else NOTHING,
        order=NO_ROWS,
        met=r.copy() if shuffled else NOTHING,
        least=norm(r),
        calm=0,
        wait=CALM * problem.n,
        pl=-1.0,
        beta_seen=0.0,
        cut=False,
    )


def whole(problem: Problem) -> Tangent:
    """The tangent at w0."""
    return problem.linearise(problem.w0, problem.r0, False)


def first_step(n: int, plan: Plan) -> tuple[float, float, float]:
    """eta with which w+ = w - eta (n/s) J_B^T r_B, and the other two numbers of MaSS."""
    if plan.mass:
        eta, more, gamma, _ = steps.mass(n, plan.batch, plan.largest_row, plan.largest, plan.mu)
        return eta / n, more / eta, gamma
    if plan.rule == THEOREM:
        eta = steps.sgd_theorem_step(n, plan.batch, plan.mu, plan.largest_row, plan.smoothness)
        return eta * plan.batch / n, 0.0, 0.0
    if plan.rule == FIXED:
        return plan.eta, 0.0, 0.0
    if plan.rule in (POLYAK, KACZMARZ):
        return math.inf, 0.0, 0.0
    return 1.0 / steps.batch_smoothness(n, plan.batch, plan.largest_row, plan.largest), 0.0, 0.0


def step(problem: Problem, s: State) -> State:
    order = reordered(problem, s)
    s = s if order is s.order else s._replace(order=order)
    rows = chosen(problem, s)
    r = problem.residual_rows(s.ahead, rows)
    size, nit = norm(r), s.nit + 1
    if not size < HUGE:
        return checked(problem, s, s.w, s.ahead, nit, math.inf)
    T = problem.linearise_rows(s.ahead, rows)
    w = problem.project(moved(T, s, r, problem.n))
    ahead = problem.project(w + s.gamma * (w - s.w) - s.kick * (w - s.ahead)) if s.plan.mass else w
    if s.met.size:
        s.met[rows] = r
        solved = size * math.sqrt(problem.n / rows.size) <= problem.goal.enough
        s = s._replace(calm=s.calm + rows.size if solved else 0)
    over = nit % epoch(problem, s) == 0
    due = s.calm >= s.wait or not norm(w) < HUGE or (over and not s.met.size)
    if due or nit == s.plan.last or problem.run.late():
        return checked(problem, s, w, ahead, nit, T.distance(w, s.w))._replace(cut=not due)
    if over:
        return noted(problem, s, w, ahead, nit, T.distance(w, s.w))
    return s._replace(w=w, ahead=ahead, nit=nit, step=0.0, checked=False, noted=False)


def other_step(problem: Problem, s: State) -> State:
    """A step by the rules that need more of a batch than its gradient, or the residual of all rows."""
    return step(problem, s)


def epoch(problem: Problem, s: State) -> int:
    """The number of steps in an epoch."""
    return -(-problem.n // s.plan.batch)


def reordered(problem: Problem, s: State) -> Indices:
    """The order of the rows: a new one at the beginning of an epoch, if rows are shuffled."""
    if s.plan.rows != SHUFFLED or (s.order.size and s.nit % epoch(problem, s)):
        return s.order
    order: Indices = problem.rng.permutation(problem.n)
    return order


def chosen(problem: Problem, s: State) -> Indices:
    """The rows of the next batch; RESIDUAL and MAX use the whole residual (theory 5.6)."""
    if s.plan.rows in (UNIFORM, CYCLIC):
        return drawn(problem, s.plan, s.nit, 1).ravel()
    if s.plan.rows == SHUFFLED:
        start = s.nit % epoch(problem, s) * s.plan.batch
        picked = s.order[start : start + s.plan.batch].copy()
        picked.sort()  # files and sparse matrices are read faster so
        return picked
    size = np.abs(s.r if s.checked and s.ahead is s.w else problem.residual(s.ahead))
    if s.plan.rows == MAX:
        weights = np.where(s.weights > 0.0, s.weights, np.inf)
        return np.argsort(-size / weights, kind="stable")[: s.plan.batch]
    share = np.cumsum((size / max(size.max(), 1e-300)) ** 2)
    found: Indices = np.searchsorted(share, share[-1] * problem.rng.random(s.plan.batch), side="right")
    return np.minimum(found, problem.n - 1)


def drawn(problem: Problem, plan: Plan, nit: int, count: int) -> Indices:
    """The rows of the next batches (count, s), by rules that do not depend on the residual."""
    n, shape = problem.n, (count, plan.batch)
    if plan.rows == UNIFORM:
        return problem.rng.integers(0, n, shape)
    return (nit * plan.batch + np.arange(count * plan.batch, dtype=np.int64)).reshape(shape) % n


def moved(T: Tangent, s: State, r: Array, n: int) -> Array:
    """The point after a step on a batch, along its gradient or (KACZMARZ) by Gauss-Newton on its equations.

    POLYAK minimises the linear loss of the batch along the gradient; so do steps with estimated constants that would
    increase this loss. For a linear system, a step a < 2 ||r_B||^2/||J_B^T r_B||^2 reduces the distance to every
    solution, whatever the constants.
    """
    if s.plan.rule == KACZMARZ:
        return s.ahead + block_step(T, r, s.plan.damping / (s.shrink * s.shrink))
    a = s.shrink * s.eta * n / s.plan.batch
    if not safeguarded(s.plan):
        return T.moved(s.ahead, -a * r)
    g = T.adjoint(r)
    d = T.metric_gradient(g)
    slope, square = float(g.dot(d)), float(r.dot(r))
    if a * slope > 2.0 * square:
        a = square / slope
    return s.ahead - a * d if slope > 0.0 else s.ahead


def safeguarded(plan: Plan) -> bool:
    """Whether steps are limited so that they do not increase the linear loss of their batch."""
    return plan.rule in (INTERPOLATION, POLYAK) and not plan.mass


def noted(problem: Problem, s: State, w: Array, ahead: Array, nit: int, length: float) -> State:
    """The state at the end of an epoch of all rows, with the loss as estimated from its batches."""
    size, epochs = norm(s.met), nit // epoch(problem, s)
    if not size < s.least or epochs == 4 ** round(math.log(epochs, 4)):
        return checked(problem, s._replace(least=min(s.least, size)), w, ahead, nit, length)
    return s._replace(w=w, ahead=ahead, r=s.met.copy(), nit=nit, step=length, checked=False, noted=True, least=size)


def checked(problem: Problem, s: State, w: Array, ahead: Array, nit: int, length: float) -> State:
    """The state after an evaluation of all equations, which decides whether to go on from here or the best point."""
    r = problem.residual(w) if math.isfinite(length) else np.full(s.r.size, np.inf)
    status, shrink, idle = RUNNING, s.shrink, s.idle + 1
    best_w, best_r = s.best_w, s.best_r
    if norm(r) < norm(best_r):
        best_w, best_r, idle = w, r, 0
    elif idle == SUSPICIOUS:
        status = verdict(problem, best_w, best_r, problem.linearise(best_w, best_r, True))
        status = RUNNING if status == Status.STALLED else status
    elif idle >= PATIENCE or not norm(r) <= min(BLOWN_UP * norm(best_r), HUGE):
        w, r, shrink, idle = best_w, best_r, 0.5 * shrink, 0
        ahead = w
        if shrink < (DAMPED if s.plan.rule == KACZMARZ else SMALLEST) or s.plan.rule == POLYAK:
            status = int(Status.STALLED)
    if status != RUNNING:
        w, r = best_w, best_r
    failed = s.calm >= s.wait
    return s._replace(
        w=w, r=r, status=status, nit=nit, step=length, checked=True, noted=True, best_w=best_w, best_r=best_r,
        ahead=ahead, shrink=shrink, idle=idle, calm=0,
        wait=min(2.0 * s.wait, problem.n) if failed else s.wait,
    )  # fmt: skip


def forecast(problem: Problem, s: State, history: History, enough: float) -> tuple[float, float]:
    """Iterations left until ||r|| <= enough, and kappa: from the spectrum where eta is constant (theory 4.3).

    Blocks go on at their pace so far, whatever kappa (NaN).
    """
    if s.plan.rule == KACZMARZ:
        return spectrum.observed(history, max(0.5 * enough * enough, 1e-300)), math.nan
    seen = spectrum.seen(problem, s.w, s.r, enough)
    varies = s.plan.rule == POLYAK or s.plan.mass or s.eta * s.shrink == 0.0
    return (spectrum.observed(history, seen.loss) if varies else seen.iterations(s.eta * s.shrink)), seen.kappa
