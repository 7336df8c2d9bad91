"""`root` with scipy's signature, for any number of equations and unknowns."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from scipy.linalg import qr
from scipy.optimize import OptimizeWarning
from scipy.sparse.linalg import LinearOperator

from plsolve import _loop as loop
from plsolve._checks import as_flag, as_float, as_tolerance, is_finite, shown, warn
from plsolve._choice import prepared
from plsolve._linalg import ALL_FREE, UNIT, Array, norm
from plsolve._losses import scaled_rows
from plsolve._problem import Problem
from plsolve._record import Record
from plsolve._result import Result
from plsolve._scipy_api.arguments import FUN, as_limit, as_mapping, as_weights
from plsolve._scipy_api.fitting import Settled, tangent_at
from plsolve._state import Start, State
from plsolve._stopping import MESSAGES, RUNNING, Status
from plsolve._tangent import Tangent, tangent
from plsolve.methods import newton
from plsolve.methods.ending import agrees
from plsolve.methods.method import Method

METHODS = ("hybr", "lm", "gauss-newton")
OPTIONS = {
    "hybr": ("col_deriv", "xtol", "maxfev", "band", "eps", "factor", "diag"),
    "lm": ("col_deriv", "xtol", "ftol", "gtol", "maxiter", "eps", "factor", "diag"),
    "gauss-newton": ("xtol", "maxfev", "eps", "diag"),
}
XTOL = 1.49012e-08
NEARLY = 1e5  # times the rounding level of F: a run that stalls below this has solved the system
SMALL = 1e-6  # of the terms of an equation: a smaller residual counts as zero
NEWTONS = 30  # Newton steps at most
DIFFER = 1e6  # ratio of the terms of two equations from which their sizes count as different
STATUSES: dict[str, dict[int, int]] = {  # scipy's numbers for how a run ended
    "hybr": {Status.RESIDUAL: 1, Status.MAX_ITER: 2, Status.STALLED: 5},
    "lm": {Status.RESIDUAL: 2, Status.MAX_ITER: 5, Status.STALLED: 6},
    "gauss-newton": {status: int(status) for status in Status},
}


def root(
    fun: Callable[..., Any],
    x0: Any,
    args: Any = (),
    method: str = "hybr",
    jac: Any = None,
    tol: float | None = None,
    callback: Callable[..., Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Result:
    """Find x with fun(x) = 0: `scipy.optimize.root`, for any numbers of equations and unknowns.

    The parameters are scipy's.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args)``; with ``jac=True`` it returns the pair of value and Jacobian.
    x0 : array_like
        The start. With more unknowns than equations every step has minimum norm.
    args : tuple or object
        Passed on to fun and jac.
    method : {'hybr', 'lm', 'gauss-newton'}
        All mean Gauss-Newton.
    jac : callable, bool or None
        None or False: differences.
    tol : float, optional
        Option ``xtol``: relative error of x.
    callback : callable, optional
        As in `plsolve.solve`, for 'gauss-newton' only; the other methods warn, as in scipy.
    options : dict, optional
        scipy's options of 'hybr' and 'lm'; the limit ``maxfev`` (``maxiter`` for 'lm') does not count the calls for
        differences.

    Returns
    -------
    Result
        With scipy's fields. ``success`` means that x solves the system: the residual is at rounding level, or x has
        converged to a solution within ``xtol``. A local minimum of the residual is not a success.

    Raises
    ------
    ValueError
        For an unknown method, with the list of known ones.

    Examples
    --------
    >>> from plsolve import root
    >>> root(lambda x: [x[0] ** 2 + x[1] ** 2 - 25], [3, 3]).success
    True
    """
    name = str(method).lower()
    if name not in METHODS:
        raise ValueError(f"Unknown solver {shown(method)} (`method`); known are: {', '.join(METHODS)}.")
    if callable(callback) and name != "gauss-newton":
        warn(f"Method {method} does not accept callback.", RuntimeWarning)
        callback = None
    options = as_mapping(options, "options")
    settings = {"xtol": XTOL if tol is None else as_tolerance(tol, "tol"), "eps": None, "diag": None, **options}
    for option in options:
        if option not in OPTIONS[name]:
            warn(f"Unknown solver options: {option}", OptimizeWarning)
    start, eps, diag = as_float(x0, "x0").flatten(), settings["eps"], settings["diag"]
    key = "maxiter" if name == "lm" else "maxfev"
    limit = as_limit(settings.get(key), f"options[{key!r}]", 200 * (start.size + 1), zero=True)
    xtol = as_tolerance(settings["xtol"], "options['xtol']")
    derivative = jac if callable(jac) else (None if jac is None else as_flag(jac, "jac")) or None
    if as_flag(settings.get("col_deriv", False), "options['col_deriv']") and callable(jac):
        derivative = partial(transposed, jac)
    scale = None if diag is None else 1.0 / as_weights(diag, start.size, "options['diag']")
    problem = Problem(
        fun,
        derivative,
        start,
        args=args,
        x_scale=scale,
        flat_gradient=1e-26,  # at a double root J vanishes with r
        diff_step=np.sqrt(as_tolerance(eps, "options['eps']")) if eps is not None else None,
        max_nfev=limit,
        names=FUN,
    )
    record = Record(callback, problem)
    chosen = prepared(problem, lambda: Method(stages=newton.stages(problem, 0.0, True), limit=sys.maxsize))
    observe = Settled(record, partial(settled, problem, xtol))
    s, ended = loop.run_stages(problem, chosen.stages, observe, 0.0, chosen.limit)
    ended = int(Status.RESIDUAL) if ended == RUNNING else ended
    with problem.at_work():
        return package(problem, s, ended, name, limit, xtol, record)


def transposed(jac: Callable[..., Any], x: Any, *args: Any) -> Any:
    return np.transpose(jac(x, *args))


def settled(problem: Problem, xtol: float, before: State, after: State) -> int:
    """RESIDUAL if a step that still removed most of the residual changed x by a relative amount below xtol."""
    d = problem.metric.weights
    small = norm(d * (after.w - before.w)) <= xtol * norm(d * after.w) and norm(after.r) <= 0.01 * norm(before.r)
    return int(Status.RESIDUAL) if small else RUNNING


def package(problem: Problem, s: Any, ended: int, name: str, limit: int, xtol: float, record: Record) -> Result:
    """The result, with scipy's fields and those of this library."""
    T = tangent_at(problem, s, True)
    if ended in (Status.STALLED, Status.STATIONARY):
        level = max(NEARLY * problem.rounding_level(s.w, s.r, T), UNIT * min(1.0, norm(problem.r0)))
        near = norm(s.r) <= level < math.inf and agrees(problem, s.w, s.r, T)
        ended = int(Status.RESIDUAL) if near else ended
    if ended == Status.RESIDUAL:
        last, (s, ended) = s, equation_by_equation(problem, s, T, xtol, record)
        T = T if s is last else tangent_at(problem, s, True)
    status = STATUSES[name].get(ended, STATUSES[name][int(Status.STALLED)])
    message = MESSAGES[Status(ended)]
    if name != "gauss-newton":
        message = minpack_message(name, status, limit, xtol) or message
    elif ended == Status.MAX_ITER:
        message = f"Not solved: {limit} calls of the function were made."
    fields: dict[str, Any] = {
        "x": s.w.copy(),
        "success": ended == Status.RESIDUAL,
        "status": status,
        "message": message,
        "method": name,
        "fun": s.r,
        "nfev": problem.system.nfev + problem.system.nfev_jac,
        "njev": problem.system.njev,
        "nfev_jac": problem.system.nfev_jac,
        "nit": record.last,
        "history": record.history(),
    }
    if problem.n >= problem.m and isinstance(T.J, np.ndarray) and np.isfinite(T.J).all():
        fields |= factors(T.J, s.r) if name == "lm" else square_factors(T.J, s.r)
    return Result(fields, problem, record)


def equation_by_equation(problem: Problem, start: Any, T: Tangent, xtol: float, record: Record) -> tuple[Any, int]:
    """The state, and RESIDUAL if every equation is solved relative to its own terms, else STALLED.

    Where equations differ in size, the loss is determined by the large ones. Newton's steps do not depend on the scale
    of the equations, and so solve the small ones, too.
    """
    if isinstance(T.J, LinearOperator):
        return start, int(Status.RESIDUAL)
    size = terms(problem, start, T)
    if size.max() > DIFFER * size.min():
        s = newton_steps(problem, start, 1.0 / np.where(size > 0.0, size, size.max()), xtol, record)
        if s is not None:
            return s, int(Status.RESIDUAL)
    return start, int(Status.RESIDUAL if small(problem, start.r, size) else Status.STALLED)


def terms(problem: Problem, s: Any, T: Tangent) -> Array:
    """|J| (|w| + |w - w0|) (n,), the size of the terms that cancel in each equation."""
    return abs(T.J).dot(np.abs(s.w) + np.abs(s.w - problem.w0))  # type: ignore[no-any-return]


def small(problem: Problem, r: Array, size: Array) -> bool:
    """Whether every equation's residual is small beside its terms."""
    return bool((np.abs(r) <= np.maximum(SMALL * size, 4.0 * UNIT * min(1.0, norm(problem.r0)))).all())


def newton_steps(problem: Problem, s: Any, even: Array, xtol: float, record: Record) -> Any:
    """The state where Newton's steps converge and every equation is solved, else None; even: the equations' scale."""
    for _ in range(NEWTONS):
        T = tangent_at(problem, s, True)
        if problem.spent or not (is_finite(T.J) and norm(s.r) < math.inf):
            return None
        p = -tangent(scaled_rows(T.J, even), problem.scale).inverse(ALL_FREE, True).solve(even * s.r)
        length = (np.abs(p) / np.maximum(np.abs(s.w), xtol * norm(s.w) + 1e-300)).max()
        if length <= 0.1 * xtol and small(problem, s.r, terms(problem, s, T)):
            return s
        s = Start(s.w + p, problem.residual(s.w + p), nit=s.nit + 1, step=T.norm(p))
        record(s)
    return None


def minpack_message(name: str, status: int, limit: int, xtol: float) -> str:
    """scipy's message for its status; empty where MINPACK would report a minimum of the residual as a success."""
    return {
        ("hybr", 1): "The solution converged.",
        ("hybr", 2): f"The number of calls to function has reached maxfev = {limit}.",
        ("hybr", 5): "The iteration is not making good progress, as measured by the \n"
        " improvement from the last ten iterations.",
        ("lm", 2): f"The relative error between two consecutive iterates is at most {xtol:f}",
        ("lm", 5): f"Number of calls to function has reached maxfev = {limit}.",
    }.get((name, status), "")


def square_factors(J: Any, r: Any) -> dict[str, Any]:
    """J = Q R in the form of scipy's 'hybr': Q^T, the rows of R one after another, and Q^T r."""
    Q, R = qr(J, mode="economic")
    return {"fjac": Q.T, "r": R[np.triu_indices(R.shape[0])], "qtf": Q.T @ r}


def factors(J: Any, r: Any) -> dict[str, Any]:
    """J P = Q R in MINPACK's format, Q^T r, and (J^T J)^{-1}, which is None if J is rank-deficient."""
    (packed, _), R, order = qr(J, mode="raw", pivoting=True)
    R = R[: J.shape[1]]
    pivots = np.abs(R.diagonal())
    cov = None
    if pivots.min() > 1e-15 * pivots.max():
        half = np.linalg.inv(R)
        cov = np.empty_like(R)
        cov[np.ix_(order, order)] = half @ half.T
    Q = qr(J, mode="economic", pivoting=True)[0]
    return {"fjac": packed.T, "ipvt": order + 1, "qtf": Q.T @ r, "cov_x": cov}
