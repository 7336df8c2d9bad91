"""Mini-batch stochastic gradient descent under interpolation: w+ = w - eta (n/s) J_B^T r_B, B = s rows drawn at random.

The default step is eta = 1/Ls with Ls = (n/s) max_i K_ii + (1 - 1/s) lambda_max(K), and the default batch the critical
size s* = 1 + n max_i K_ii / lambda_max(K), below which s rows at once are worth s steps of one row (theory 5.1; Ma,
Bassily, Belkin, arXiv 1712.06559). 'theorem' is the smaller step of theory 1.3, for nonlinear F; MaSS adds momentum
(5.3). Constants that are not given are K(w0)'s, so once an epoch the full residual is checked: after many epochs
without progress, or when the loss has blown up, the best point is taken up again with half the step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from plsolve._history import History
from plsolve._linalg import ALL_FREE, HUGE, Array, norm
from plsolve._problem import Problem
from plsolve._stopping import RUNNING, Status
from plsolve._system import Indices
from plsolve._tangent import Tangent
from plsolve.methods import options as given
from plsolve.methods import spectrum
from plsolve.methods.ending import at_rounding_level, largest_eigenvalue, verdict
from plsolve.methods.method import Method, Stage
from plsolve.methods.options import CONSTANTS
from plsolve.theory import steps

INTERPOLATION, THEOREM, POLYAK, KACZMARZ, FIXED = range(5)
STEP_SIZES = {"theorem": THEOREM, "polyak": POLYAK, "kaczmarz": KACZMARZ}

UNIFORM, RESIDUAL, CYCLIC, MAX = range(4)
ROWS = {"uniform": UNIFORM, "residual": RESIDUAL, "cyclic": CYCLIC, "max": MAX}

OPTIONS = ("step_size", "momentum", "batch_size", "rows", "row_smoothness", *CONSTANTS)
EPOCHS = 1000
LEAST = 1e-280  # of ||J||^2: what is smaller has no digits left

SUSPICIOUS = 10  # epochs without progress before the gradient and the rounding level are looked at
PATIENCE = 30  # epochs without progress before the step is halved
BLOWN_UP = 10.0  # times the best ||r||
SMALLEST = 1e-12  # of the first step: no step helps


class Plan(NamedTuple):
    """How the run goes; the constants are those of `steps`, largest = lambda_max(K) or L_F^2."""

    rule: int
    eta: float  # the rule's own when it is FIXED
    batch: int
    rows: int
    mass: bool  # momentum
    last: int  # the iteration that is checked whatever its place in the epoch: max_iter
    largest_row: float
    largest: float
    mu: float
    smoothness: float  # of L: L_F^2 + beta ||r0||


class State(NamedTuple):
    """Where SGD stands: the running point w, and where ``checked`` r = F(w) - y and the length of the step."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    best_w: Array
    best_r: Array
    ahead: Array  # MaSS: where the gradient is taken; else w
    shrink: float  # of the first step
    in_vain: int  # epochs since the best point
    plan: Plan
    eta: float  # of the first step
    kick: float  # MaSS: eta2 / eta1, and the weight of momentum
    gamma: float
    weights: Array  # norms of the rows of J(w0); empty unless rows are chosen by MAX
    pl: float  # negative: not known
    bend: float  # 0: not looked at


def method(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    """SGD, with constants that are estimated at w0 where they are not given."""
    rule, eta, mass, rows = chosen_rule(options)
    known = given.constants(problem, options, beta)
    T = problem.linearise(problem.w0, problem.r0, False)
    row = given.positive(options, "row_smoothness") or float(row_squares(T).max())
    row = row if not row < LEAST else 0.0
    largest = known.lipschitz * known.lipschitz or max(largest_eigenvalue(T, problem.r0), row)
    spectrum.check_products(math.sqrt(largest))
    mu = known.mu
    if mu == 0.0 and (mass or rule == THEOREM):
        mu = max(spectrum.ends(T)[0], 1e-12 * largest)
    batch = batch_size(options, problem.n, row, largest)
    if rule == KACZMARZ and batch == 1:
        rule = POLYAK  # which is the same for one row
    weights = np.sqrt(row_squares(T)) if rows == MAX else np.zeros(0)

    def first(limit: int, problem: Problem, before: Any) -> State:
        plan = Plan(
            rule=rule,
            eta=eta,
            batch=batch,
            rows=rows,
            mass=mass,
            last=limit,
            largest_row=row,
            largest=largest,
            mu=mu,
            smoothness=largest + known.beta * norm(problem.r0),
        )
        return init(problem, plan, weights)

    return Method(
        stages=[Stage(first, step if rows in (UNIFORM, CYCLIC) and rule != KACZMARZ else other_step)],
        limit=EPOCHS * -(-problem.n // batch),
        forecast=forecast,
    )


def chosen_rule(options: Mapping[str, Any]) -> tuple[int, float, bool, int]:
    """The rule of the step with its number, whether there is momentum, and how rows are chosen."""
    rule, eta = INTERPOLATION, 0.0
    if "step_size" in options:
        rule, eta = given.step_size(options["step_size"], STEP_SIZES, FIXED)
    mass = "momentum" in options and given.named(options, "momentum", {"mass": True})
    if mass and rule != INTERPOLATION:
        raise ValueError("`options`: 'momentum' = 'mass' has steps of its own, 'step_size' cannot be chosen with it.")
    return rule, eta, mass, given.named(options, "rows", ROWS) if "rows" in options else UNIFORM


def batch_size(options: Mapping[str, Any], n: int, row: float, largest: float) -> int:
    """The number of rows in a batch; by default the critical one."""
    batch = options.get("batch_size", "auto")
    if isinstance(batch, str) and batch == "auto":
        batch = steps.critical_batch(n, row, largest) if row > 0.0 else 1
    elif isinstance(batch, bool) or not (isinstance(batch, (int, np.integer)) and batch >= 1):
        raise ValueError(f"`options`: 'batch_size' must be 'auto' or a positive integer, got {batch!r}.")
    return int(min(batch, n))


def row_squares(T: Tangent) -> Array:
    """K_ii (n,), in the metric of the step; an operator may know them, by a method ``row_squares()``."""
    if T.scale.size == 0 and hasattr(T.J, "row_squares"):
        return np.asarray(T.J.row_squares(), np.float64)
    J = T.J if isinstance(T.J, np.ndarray) or hasattr(T.J, "multiply") else T.toarray()
    if T.scale.size:
        J = J * T.scale if isinstance(J, np.ndarray) else J.multiply(T.scale)
    return np.einsum("ij,ij->i", J, J) if isinstance(J, np.ndarray) else np.asarray(J.multiply(J).sum(axis=1)).ravel()


def init(problem: Problem, plan: Plan, weights: Array) -> State:
    w, r = problem.w0, problem.r0
    T = problem.linearise(w, r, False)
    status = RUNNING
    if plan.largest_row == 0.0 or at_rounding_level(problem, w, r, T):
        status = verdict(problem, w, r, T)
    eta, kick, gamma = first_step(problem.n, plan) if status == RUNNING else (0.0, 0.0, 0.0)
    return State(w, r, status, 0, 0.0, True, w, r, w, 1.0, 0, plan, eta, kick, gamma, weights, -1.0, 0.0)


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
    return 1.0 / steps.batch_smoothness(n, plan.batch, plan.largest_row, plan.largest), 0.0, 0.0


def step(problem: Problem, s: State) -> State:
    rows = drawn(problem, s.plan, s.nit, 1)[0] if s.plan.rows in (UNIFORM, CYCLIC) else chosen(problem, s)
    r = problem.residual_rows(s.ahead, rows)
    if not norm(r) < HUGE:
        return checked(problem, s, s.w, s.ahead, s.nit + 1, math.inf)
    T = problem.linearise_rows(s.ahead, rows)
    w = problem.project(stepped(T, s.ahead, r, s.plan.rule, s.shrink * s.eta * problem.n / s.plan.batch))
    ahead = problem.project(w + s.gamma * (w - s.w) - s.kick * (w - s.ahead)) if s.plan.mass else w
    nit, epoch = s.nit + 1, (problem.n + s.plan.batch - 1) // s.plan.batch
    if nit % epoch and nit != s.plan.last and norm(w) < HUGE and not problem.run.late():
        return s._replace(w=w, ahead=ahead, nit=nit, step=0.0, checked=False)
    return checked(problem, s, w, ahead, nit, T.distance(w, s.w))


def other_step(problem: Problem, s: State) -> State:
    """The same: for rules that want more of a batch than its gradient, or look at all rows first."""
    return step(problem, s)


def drawn(problem: Problem, plan: Plan, nit: int, count: int) -> Indices:
    """The rows of the next batches (count, s), whatever the residual."""
    n, shape = problem.n, (count, plan.batch)
    if plan.rows == UNIFORM:
        return problem.rng.integers(0, n, shape)
    return (nit * plan.batch + np.arange(count * plan.batch, dtype=np.int64)).reshape(shape) % n


def chosen(problem: Problem, s: State) -> Indices:
    """The rows of the next batch by the whole residual (theory 5.6)."""
    size = np.abs(s.r if s.checked and s.ahead is s.w else problem.residual(s.ahead))
    if s.plan.rows == MAX:
        weights = np.where(s.weights > 0.0, s.weights, np.inf)
        return np.argsort(-size / weights, kind="stable")[: s.plan.batch]
    share = np.cumsum((size / max(size.max(), 1e-300)) ** 2)
    picked: Indices = np.searchsorted(share, share[-1] * problem.rng.random(s.plan.batch), side="right")
    return np.minimum(picked, problem.n - 1)


def stepped(T: Tangent, w: Array, r: Array, rule: int, eta: float) -> Array:
    """w after a step on a batch: down its gradient, or (KACZMARZ) Gauss-Newton on its equations (theory 5.4, 5.5)."""
    if rule == KACZMARZ:
        H = T.inverse(ALL_FREE, False)
        return w - (H if H.sound else T.inverse(ALL_FREE, True)).solve(r)
    if rule == POLYAK:
        g = T.adjoint(r)
        slope = float(g.dot(T.raised(g)))
        return w - (float(r.dot(r)) / slope if slope > 0.0 else 1.0) * T.raised(g)
    return T.moved(w, -eta * r)


def checked(problem: Problem, s: State, w: Array, ahead: Array, nit: int, length: float) -> State:
    """The end of an epoch: the full residual decides whether to go on from here or from the best point."""
    r = problem.residual(w) if math.isfinite(length) else np.full(s.r.size, np.inf)
    status, shrink, in_vain = RUNNING, s.shrink, s.in_vain + 1
    best_w, best_r = s.best_w, s.best_r
    if norm(r) < norm(best_r):
        best_w, best_r, in_vain = w, r, 0
    elif in_vain == SUSPICIOUS:
        status = verdict(problem, best_w, best_r, problem.linearise(best_w, best_r, True))
        status = RUNNING if status == Status.STALLED else status
    elif in_vain >= PATIENCE or not norm(r) <= min(BLOWN_UP * norm(best_r), HUGE):
        w, r, shrink, in_vain = best_w, best_r, 0.5 * shrink, 0
        ahead = w
        if shrink < SMALLEST or s.plan.rule in (POLYAK, KACZMARZ):
            status = int(Status.STALLED)
    if status != RUNNING:
        w, r = best_w, best_r
    return s._replace(
        w=w, r=r, status=status, nit=nit, step=length, checked=True, best_w=best_w, best_r=best_r, ahead=ahead,
        shrink=shrink, in_vain=in_vain,
    )  # fmt: skip


def forecast(problem: Problem, s: State, history: History, enough: float) -> tuple[float, float]:
    """Iterations left until ||r|| <= enough, and kappa: by the spectrum where steps are of one length (theory 4.3)."""
    seen = spectrum.seen(problem, s.w, s.r, enough)
    varies = s.plan.rule in (POLYAK, KACZMARZ) or s.plan.mass or s.eta * s.shrink == 0.0
    return (spectrum.observed(history, seen.loss) if varies else seen.iterations(s.eta * s.shrink)), seen.kappa
