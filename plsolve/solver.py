"""`solve`: validate, choose the method, run the loop, package."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from plsolve import loop
from plsolve.checks import check_limits, check_options, generator
from plsolve.linalg import norm
from plsolve.methods import gauss_newton, gradient_descent, nearest, sgd
from plsolve.problem import BestAttached, Problem
from plsolve.record import Record
from plsolve.result import Result
from plsolve.stopping import AT_ROUNDING_LEVEL, MESSAGES, RUNNING, Status

OPTIONS = {
    "auto": ("nearest",),
    "gauss-newton": ("nearest",),
    "gd": ("step_size",),
    "sgd": ("step_size", "batch_size"),
}

_KERNEL_BYTES = 2 << 30  # a kernel beyond this size does not count as fitting into memory


def solve(
    F: Callable[..., Any],
    jac: Any,
    w0: Any,
    y: Any = None,
    *,
    method: str = "auto",
    args: tuple[Any, ...] = (),
    bounds: Any = None,
    x_scale: Any = 1.0,
    tol: float = 1e-10,
    eps: float = 0.0,
    max_iter: int | None = None,
    max_time: float | None = None,
    callback: Callable[..., Any] | None = None,
    rng: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Result:
    r"""Solve F(w) = y, with more unknowns than equations or not.

    Parameters
    ----------
    F : callable
        ``F(w, *args) -> (n,)``. For SGD it may take ``rows``, an int64 array of equation numbers, and return those
        entries alone.
    jac : callable, True, None or {'2-point', '3-point', 'cs'}
        ``jac(w, *args) -> (n, m)``: array, scipy.sparse or `scipy.sparse.linalg.LinearOperator` (whose method
        ``gram()``, if it has one, gives J J^T). True: F returns the pair (F(w), J(w)). Otherwise differences with
        steps relative to \|w\|; None: one-sided first, central near the end.
    w0 : array_like (m,)
        Start. Never modified, nor is any other argument.
    y : array_like (n,), optional
        Target, zeros by default.
    method : {'auto', 'gauss-newton', 'gd', 'sgd'}
        See Notes.
    args : tuple
        Passed on to F and jac.
    bounds : (lower, upper) or scipy.optimize.Bounds, optional
        F is never called outside. w0 must lie inside.
    x_scale : array_like (m,) or 'jac'
        Typical size of the unknowns: steps are measured by ||p / x_scale||.
    tol : float
        Solved when ||F(w) - y|| <= tol max(||y||, ||F(w0)||), or at the rounding level of F,
        4 u (||F|| + ||y|| + || |J| |w| ||), u = 1.1e-16. 0 asks for the rounding level.
    eps : float
        Loss 1/2 ||F(w) - y||^2 at which to stop: for noisy or almost over-parameterized systems (PL*_eps, theory 1.6).
    max_iter : int, optional
        Limit of ``nit``: Gauss-Newton steps (200), gradient steps (100 000) or mini-batch steps (1000 epochs).
    max_time : float, optional
        Seconds.
    callback : callable, optional
        ``callback(intermediate_result)`` (by that name) or ``callback(w)``, after every iteration (SGD:
        every epoch); StopIteration stops.
    rng : int, numpy.random.Generator, ..., optional
        Seeds SGD's batches.
    options : dict, optional
        'gauss-newton': ``nearest`` (bool: the solution nearest to w0). 'gd': ``step_size`` ('theorem', 'polyak',
        'cauchy' or a number). 'sgd': ``step_size`` ('polyak', 'kaczmarz' or a number), ``batch_size`` (int or 'auto').

    Returns
    -------
    Result
        ``x``, ``success``, ``status``, ``message`` and the rest, see there.

    Raises
    ------
    TypeError, ValueError
        For bad input, before the first step: the message names the argument.
    Exception
        Whatever F, jac or callback raise passes through, KeyboardInterrupt too, with the best point as ``exc.best``.

    Notes
    -----
    *gauss-newton* takes minimum-norm steps -J^T K^{-1} r from the n x n tangent kernel K = J J^T (theory 7.1) in a
    trust region; every step reduces the loss. *gd* reduces the loss by ||g||^2 / (2 M) in every step, M a bound on its
    curvature (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022, theorem 6; theory 1.1). *sgd* contracts the
    expected distance to the solutions of a linear system by 1 - lambda_min(K)/Ls in every step (theory 5.1).
    *auto* takes Gauss-Newton while its kernel fits into memory.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import solve
    >>> sol = solve(lambda w: [w @ w], lambda w: 2 * w[None], [3.0, 4.0], [1.0])
    >>> sol.x.round(12)
    array([0.6, 0.8])
    """
    options = check_options(method, options or {}, OPTIONS)
    max_iter, deadline = check_limits(tol, eps, max_iter, max_time)
    problem = Problem(F, jac, w0, y, args, bounds, x_scale, tol, generator(rng))
    if options.get("nearest") and problem.bounded:
        raise ValueError("`options`: 'nearest' cannot be combined with `bounds`.")
    method, reason = choose(problem, method)
    with BestAttached(problem.w0):
        init, step, limit = METHODS[method](problem, options)
    limit = limit if max_iter is None else max_iter
    record = Record(callback)
    enough = max(problem.target, math.sqrt(2.0 * eps))
    s, status = loop.run(problem, partial(init, limit), step, record, residual_norm, enough, limit, deadline)
    if status == RUNNING:
        status = Status.RESIDUAL if norm(s.r) <= problem.target else Status.EPSILON
    if status == Status.RESIDUAL and options.get("nearest"):
        start = partial(nearest.init, w=s.w, r=s.r, nit=s.nit)
        s, status = loop.run(problem, start, nearest.step, record, problem.distance, -1.0, limit, deadline)
    status = Status(status)
    message = AT_ROUNDING_LEVEL if status == Status.RESIDUAL and norm(s.r) > problem.target else MESSAGES[status]
    return Result(
        {
            "x": s.w.copy(),
            "success": status > 0,
            "status": status,
            "message": message,
            "fun": s.r,
            "cost": 0.5 * float(s.r.dot(s.r)),
            "nit": record.nit[-1],
            "nfev": problem.nfev,
            "njev": problem.njev,
            "nfev_jac": problem.nfev_jac,
            "method": method,
            "method_reason": reason,
            "history": record.history(),
        },
        problem,
    )


def residual_norm(s: loop.State) -> float:
    return norm(s.r)


def choose(problem: Problem, method: str) -> tuple[str, str]:
    """The method and the reason, in one line."""
    if method != "auto":
        return method, f"{method}: asked for."
    k = min(problem.n, problem.m)
    if 8 * k * k <= _KERNEL_BYTES:
        return "gauss-newton", f"gauss-newton: its {k} x {k} kernel fits into memory."
    if problem.has_rows:
        return "sgd", f"sgd: a {k} x {k} kernel does not fit into memory, and F and jac have `rows`."
    return (
        "gauss-newton",
        f"gauss-newton: by iterative least squares, since a {k} x {k} kernel does not fit into memory.",
    )


# -- the methods by name: (init(limit, problem), step, default max_iter) -----------------------------------------------


def _gauss_newton(problem: Problem, options: Mapping[str, Any]) -> tuple[Any, Any, int]:
    return (lambda limit, problem: gauss_newton.init(problem)), gauss_newton.step, 200


def _gd(problem: Problem, options: Mapping[str, Any]) -> tuple[Any, Any, int]:
    rule, eta = step_size(options.get("step_size", "theorem"), gradient_descent.STEP_SIZES, gradient_descent.FIXED)
    return (lambda limit, problem: gradient_descent.init(problem, rule, eta)), gradient_descent.step, 100_000


def _sgd(problem: Problem, options: Mapping[str, Any]) -> tuple[Any, Any, int]:
    rule, eta = sgd.INTERPOLATION, 0.0
    if "step_size" in options:
        rule, eta = step_size(options["step_size"], sgd.STEP_SIZES, sgd.FIXED)
    batch = options.get("batch_size", "auto")
    if batch == "auto":
        batch = sgd.critical_batch(problem)
    elif not (isinstance(batch, (int, np.integer)) and batch >= 1):
        raise ValueError(f"`options`: 'batch_size' must be 'auto' or a positive integer, got {batch!r}.")
    batch = int(min(batch, problem.n))
    epochs = 1000 * -(-problem.n // batch)
    return (lambda limit, problem: sgd.init(problem, rule, eta, batch, limit)), sgd.step, epochs


METHODS: dict[str, Callable[[Problem, Mapping[str, Any]], tuple[Any, Any, int]]] = {
    "gauss-newton": _gauss_newton,
    "gd": _gd,
    "sgd": _sgd,
}


def step_size(value: Any, rules: Mapping[str, int], fixed: int) -> tuple[int, float]:
    """The rule's number and the fixed step that goes with it."""
    if isinstance(value, str) and value in rules:
        return rules[value], 0.0
    if isinstance(value, (int, float, np.number)) and 0.0 < value < math.inf:
        return fixed, float(value)
    raise ValueError(f"`options`: 'step_size' must be a positive number or one of {', '.join(rules)}, got {value!r}.")
