"""Which method runs, with which options and constants, and how long it is going to take."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh

from plsolve._linalg import HUGE, Array, finite, gram, lanczos, norm
from plsolve._problem import Problem
from plsolve._record import History
from plsolve._stopping import JACOBIAN_NOT_FINITE, Ended, Status
from plsolve._tangent import Tangent, is_sparse
from plsolve.methods import gradient_descent, momentum, sgd, tall, watchdog
from plsolve.methods.ending import largest_eigenvalue
from plsolve.methods.gradient_descent import Constants
from plsolve.theory import forecasts, steps

LEAST = 1e-280  # of ||J||^2: what is smaller has no digits left
_CONSTANTS = ("lipschitz", "mu")
OPTIONS = {
    "auto": ("nearest", "linear_solver"),
    "gauss-newton": ("nearest", "linear_solver"),
    "gd": ("step_size", "momentum", *_CONSTANTS),
    "sgd": ("step_size", "momentum", "batch_size", "rows", "row_smoothness", *_CONSTANTS),
}

_KERNEL_BYTES = 2 << 30  # a kernel beyond this size does not count as fitting into memory
_FEW_ROWS = 1000  # below, Gauss-Newton costs no more than to find out whether it is worth its price
_NEWTON_STEPS = 5.0  # Gauss-Newton iterations that are counted on
_PROBES = 30  # Lanczos steps for kappa
_RITZ = 80  # Lanczos steps for a forecast
_WHOLE = 300  # the spectrum of so small a kernel is computed whole

Step = Callable[[Problem, Any], Any]
Init = Callable[[int, Problem, Any], Any]  # from max_iter, and the state where the stage before ended or None
Stage = tuple[Init, Step]
Stages = list[Stage]
Method = tuple[Stages, int]  # and the default max_iter


# -- method="auto" -----------------------------------------------------------------------------------------------------


def choose(problem: Problem, method: str) -> tuple[str, str]:
    """The method with the fewest operations by theory 4.3, kappa by Lanczos at w0, and the reason in one line."""
    if method != "auto":
        return method, f"{method}: asked for."
    k = min(problem.n, problem.m)
    fits = 8 * k * k <= _KERNEL_BYTES
    if not fits and problem.has_rows:
        return "sgd", f"sgd: a {k} x {k} kernel does not fit into memory, and F and jac have `rows`."
    if k <= _FEW_ROWS or problem.differenced:
        return "gauss-newton", f"gauss-newton: its {k} x {k} kernel is small."
    T = problem.linearise(problem.w0, problem.r0, False)
    low, high = ends(T, _PROBES)
    kappa = high / low if low > 0.0 else math.inf
    newton, descent = operations(T, kappa, fits)
    what = f"its {k} x {k} kernel fits into memory"
    if not fits:
        what = f"by conjugate gradients, since a {k} x {k} kernel does not fit into memory"
    numbers = f"kappa is about {kappa:.2g}: {newton:.1e} operations, against {descent:.1e} for gd"
    if descent < newton:
        return "gd", f"gd: kappa is about {kappa:.2g}: {descent:.1e} operations, against {newton:.1e} for gauss-newton."
    return "gauss-newton", f"gauss-newton: {what}, and {numbers}."


def operations(T: Tangent, kappa: float, fits: bool) -> tuple[float, float]:
    """What Gauss-Newton and gd are going to cost. Passes over a J with entries run at the speed of memory: 20 each."""
    n, m = T.shape
    k, entries = min(n, m), float(n) * m
    once = 4.0 * entries  # J^T r, J v of an operator
    newton = 3.0 * k * entries + k**3 / 3.0  # its kernel, by products
    if is_sparse(T.J):
        entries = float(T.J.nnz)
        once, newton = 40.0 * entries, (entries / n + 30.0) * entries
    elif isinstance(T.J, np.ndarray):
        once, newton = 40.0 * entries, k * entries + k**3 / 3.0
    elif hasattr(T.J, "gram"):
        newton = k**3 / 3.0 + 10.0 * once
    if not fits:
        newton = 20.0 * math.sqrt(kappa) * once
    return _NEWTON_STEPS * newton, 18.0 * kappa * once


def ends(T: Tangent, probes: int) -> tuple[float, float]:
    """(lambda_min, lambda_max) of J D^2 J^T, for n > m of D J^T J D: computed if small, else Lanczos, from inside."""
    n, m = T.shape
    if isinstance(T.J, np.ndarray) and min(n, m) <= _WHOLE:
        K = gram(T.J, T.scale) if n <= m else gram(T.J.T * T.scaled(np.ones(m))[:, None], np.empty(0))
        values = eigvalsh(K) if finite(K) else np.full(1, math.nan)
    else:
        start = np.random.default_rng(0).standard_normal(n)
        if n > m:
            start = T.apply(T.raised(T.adjoint(start)))
        values = lanczos(lambda v: T.apply(T.raised(T.adjoint(v))), start, min(probes, m))[0]
    return max(float(values[0]), 0.0), float(values[-1])


# -- the methods by name -----------------------------------------------------------------------------------------------


def _gauss_newton(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    solver = problem.linear_solver
    solver.kind, solver.inexact, solver.target = options.get("linear_solver", "auto"), True, problem.target
    return gauss_newton_stages(problem, beta, True), 200


def gauss_newton_stages(problem: Problem, beta: float, root: bool) -> Stages:
    """Gauss-Newton; root: a minimum of the residual that is not zero is no answer.

    Of a square system the steps for n <= m are made first, since they need fewer Jacobians, then those that know the
    curvature of the residual, and where they have come to a minimum others around it.
    """
    n, m = problem.n, problem.m

    def watched(plan: int) -> Stage:
        return (lambda limit, problem, before: watchdog.init(problem, beta, plan, root, before)), watchdog.step

    if n < m or problem.linear_solver.kind != "auto" or not is_tall(problem):
        return [watched(watchdog.PHASES if n <= m else watchdog.ALONE)]
    problem.scale_unasked()
    curved: Stage = (lambda limit, problem, before: tall.init(problem, beta, before)), tall.step
    if n > m:
        return [curved]
    return [watched(watchdog.HAND_OVER), curved, *([watched(watchdog.KICKS)] if root else [])]


def is_tall(problem: Problem) -> bool:
    """Whether there are as many equations as unknowns or more, few enough unknowns, and all of J at hand."""
    n, m = problem.n, problem.m
    if not m <= min(n, tall.UNKNOWNS) or norm(problem.r0) <= problem.target:
        return False
    if n * m <= tall.ENTRIES or problem.differenced:
        return True
    return isinstance(problem.linearise(problem.w0, problem.r0, False).J, np.ndarray)


def _gd(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    rule, eta = step_size(options.get("step_size", "theorem"), gradient_descent.STEP_SIZES, gradient_descent.FIXED)
    known = constants(problem, options, beta)

    def plain(limit: int, problem: Problem, before: Any) -> gradient_descent.State:
        return gradient_descent.init(problem, rule, eta, known)

    if "momentum" not in options:
        return [(plain, gradient_descent.step)], 100_000
    kind = named(options, "momentum", momentum.KINDS)
    if rule != gradient_descent.THEOREM:
        raise ValueError("`options`: 'momentum' has steps of its own, it goes with 'step_size' = 'theorem' only.")
    exact = known.lipschitz > 0.0 and known.mu > 0.0
    if not exact:
        low, high = ends(problem.linearise(problem.w0, problem.r0, False), _RITZ)
        known = Constants(known.lipschitz or math.sqrt(high), known.beta, known.mu or low)
    check_products(known.lipschitz)
    if known.lipschitz == 0.0:  # J vanishes: gradient descent says what that means
        return [(plain, gradient_descent.step)], 100_000
    return [((lambda limit, problem, before: momentum.init(problem, kind, known, exact)), momentum.step)], 100_000


def _sgd(problem: Problem, options: Mapping[str, Any], beta: float) -> Method:
    rule, eta = sgd.INTERPOLATION, 0.0
    if "step_size" in options:
        rule, eta = step_size(options["step_size"], sgd.STEP_SIZES, sgd.FIXED)
    mass = "momentum" in options and named(options, "momentum", {"mass": True})
    if mass and rule != sgd.INTERPOLATION:
        raise ValueError("`options`: 'momentum' = 'mass' has steps of its own, 'step_size' cannot be chosen with it.")
    rows = named(options, "rows", sgd.ROWS) if "rows" in options else sgd.UNIFORM
    known = constants(problem, options, beta)
    T = problem.linearise(problem.w0, problem.r0, False)
    row = positive(options, "row_smoothness") or float(rows_squared(T).max())
    row = row if not row < LEAST else 0.0
    largest = known.lipschitz * known.lipschitz or max(largest_eigenvalue(T, problem.r0), row)
    check_products(math.sqrt(largest))
    mu = known.mu
    if mu == 0.0 and (mass or rule == sgd.THEOREM):
        mu = max(ends(T, _RITZ)[0], 1e-12 * largest)
    batch = options.get("batch_size", "auto")
    if isinstance(batch, str) and batch == "auto":
        batch = steps.critical_batch(problem.n, row, largest) if row > 0.0 else 1
    elif isinstance(batch, bool) or not (isinstance(batch, (int, np.integer)) and batch >= 1):
        raise ValueError(f"`options`: 'batch_size' must be 'auto' or a positive integer, got {batch!r}.")
    batch = int(min(batch, problem.n))
    if rule == sgd.KACZMARZ and batch == 1:
        rule = sgd.POLYAK  # which is the same for one row
    weights = np.sqrt(rows_squared(T)) if rows == sgd.MAX else np.zeros(0)
    smoothness = largest + known.beta * float(np.linalg.norm(problem.r0))

    def init(limit: int, problem: Problem, before: Any) -> sgd.State:
        plan = sgd.Plan(rule, eta, batch, rows, mass, limit, row, largest, mu, smoothness)
        return sgd.init(problem, plan, weights)

    step = sgd.step if rows in (sgd.UNIFORM, sgd.CYCLIC) and rule != sgd.KACZMARZ else sgd.other_step
    return [(init, step)], 1000 * -(-problem.n // batch)


def check_products(lipschitz: float) -> None:
    """End the run where products with an operator J at w0 have shown that its square is not finite."""
    if not lipschitz < HUGE:
        raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)


def rows_squared(T: Tangent) -> Array:
    """K_ii (n,), in the metric of the step; an operator may know them, by a method ``row_squares()``."""
    if T.scale.size == 0 and hasattr(T.J, "row_squares"):
        return np.asarray(T.J.row_squares(), np.float64)
    J = T.J if isinstance(T.J, np.ndarray) or hasattr(T.J, "multiply") else T.toarray()
    if T.scale.size:
        J = J * T.scale if isinstance(J, np.ndarray) else J.multiply(T.scale)
    return np.einsum("ij,ij->i", J, J) if isinstance(J, np.ndarray) else np.asarray(J.multiply(J).sum(axis=1)).ravel()


METHODS: dict[str, Callable[[Problem, Mapping[str, Any], float], Method]] = {
    "gauss-newton": _gauss_newton,
    "gd": _gd,
    "sgd": _sgd,
}


def constants(problem: Problem, options: Mapping[str, Any], beta: float) -> Constants:
    """The given constants in the metric of the step, where a unit step is as long as x_scale."""
    high = float(problem.scale.max()) if problem.scale.size else 1.0
    low = float(problem.scale.min()) if problem.scale.size else 1.0
    return Constants(positive(options, "lipschitz") * high, beta * high * high, positive(options, "mu") * low * low)


def positive(options: Mapping[str, Any], name: str) -> float:
    """A positive number, 0 where it is not given."""
    if name not in options:
        return 0.0
    value = options[name]
    if not is_positive(value):
        raise ValueError(f"`options`: {name!r} must be a positive number, got {value!r}.")
    return float(value)


def is_positive(value: Any) -> bool:
    """Whether it is a positive finite real number."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return real and 0.0 < value < math.inf


def named(options: Mapping[str, Any], name: str, known: Mapping[str, Any]) -> Any:
    value = options[name]
    if not (isinstance(value, str) and value in known):
        raise ValueError(f"`options`: {name!r} must be one of {', '.join(known)}, got {value!r}.")
    return known[value]


def step_size(value: Any, rules: Mapping[str, int], fixed: int) -> tuple[int, float]:
    """The rule's number and the fixed step that goes with it."""
    if isinstance(value, str) and value in rules:
        return rules[value], 0.0
    if is_positive(value):
        return fixed, float(value)
    raise ValueError(f"`options`: 'step_size' must be a positive number or one of {', '.join(rules)}, got {value!r}.")


# -- forecasts ---------------------------------------------------------------------------------------------------------


def forecast(problem: Problem, s: Any, history: History, enough: float) -> tuple[float, float]:
    """(iterations left until ||r|| <= enough, kappa) for a first-order method that stands at s (theory 4.3).

    The spectrum of K that the residual sees comes from Lanczos steps that start at it.
    """
    T = problem.linearise(s.w, s.r, False)
    values, weights = lanczos(lambda v: T.apply(T.raised(T.adjoint(v))), s.r, _RITZ)
    values = np.maximum(values, 0.0)
    high = float(values[-1])
    if not math.isfinite(high):
        raise Ended(Status.STALLED, JACOBIAN_NOT_FINITE)
    seen = values[(values > 1e-15 * high) & (weights > 1e-30 * weights.sum())]
    kappa = high / float(seen[0]) if seen.size else math.inf
    size = max(enough, problem.rounding_level(s.w, s.r, T))
    loss = max(0.5 * size * size, 1e-300)
    eta = mean_step(s)
    if isinstance(s, momentum.State):
        ratio = 0.5 * float(s.r.dot(s.r)) / loss
        curvature = s.swell * s.known.lipschitz * s.known.lipschitz
        condition = min(curvature / max(s.known.mu, 1e-300), 1e12)
        return float(forecasts.momentum_iterations(condition, ratio)), kappa
    if eta == 0.0:
        return forecasts.observed_iterations(history.nit.tolist(), history.loss.tolist(), loss), kappa
    left = forecasts.spectral_iterations(values.tolist(), weights.tolist(), eta, loss, most=1 << 40)
    return (float(left) if left < 1 << 40 else math.inf), kappa


def guaranteed(problem: Problem, s: Any, history: History) -> History:
    """The history with what was guaranteed of the loss, s the last state."""
    nit, loss, step, pl, bound = history
    if problem.bounded or problem.scale.size or nit.size < 2:
        return history
    if isinstance(s, gradient_descent.State) and s.rule == gradient_descent.THEOREM:
        gradient = np.sqrt(2.0 * loss[:-1] * pl[:-1])
        falls = 1.0 - pl[:-1] * np.divide(step[1:], gradient, out=np.zeros(gradient.size), where=gradient > 0.0)
        bound = loss[0] * np.append(1.0, np.cumprod(np.maximum(falls, 0.0)))
    elif isinstance(s, momentum.State) and loss[0] > 0.0 and s.nit > 0:
        bound = loss[0] * (s.ceiling / loss[0]) ** (nit / s.nit)
    return history._replace(bound=bound)


def is_first_order(s: Any) -> bool:
    """Whether the state is one of gd's or sgd's."""
    return isinstance(s, (gradient_descent.State, momentum.State, sgd.State))


def mean_step(s: Any) -> float:
    """eta with which the residual falls by (1 - eta lambda_i) a step on average; 0 where steps vary."""
    if isinstance(s, gradient_descent.State):
        if s.rule == gradient_descent.THEOREM:
            return 1.0 / (s.excess * s.lipschitz * s.lipschitz)
        return s.eta if s.rule == gradient_descent.FIXED else 0.0
    if isinstance(s, sgd.State) and s.plan.rule not in (sgd.POLYAK, sgd.KACZMARZ) and not s.plan.mass:
        return s.eta * s.shrink
    return 0.0
