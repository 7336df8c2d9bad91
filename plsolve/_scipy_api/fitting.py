"""`least_squares` with scipy's signature, solved by this library's methods."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse

from plsolve import _differences as differences
from plsolve import _loop as loop
from plsolve._checks import as_float, as_real, warn
from plsolve._choice import prepared
from plsolve._linalg import Array, norm
from plsolve._losses import LOSSES, Loss, scaled_rows
from plsolve._problem import Problem
from plsolve._record import Record
from plsolve._result import Result
from plsolve._scipy_api import arguments as check
from plsolve._state import State
from plsolve._stopping import RUNNING, Ended, Status
from plsolve._system import as_values
from plsolve._tangent import Tangent, tangent
from plsolve.methods import METHODS, nearest, newton
from plsolve.methods.linear_model import model_at
from plsolve.methods.method import Method

STALLED = -1
SETTLED = 100  # added to scipy's 2, 3 or 4, so that the numbers differ from those of `plsolve.Status`
MESSAGES = {
    -2: "Stopped because `callback` function raised `StopIteration` or returned `True`",
    STALLED: "Not solved: no step reduces the cost noticeably any further, and none of the tolerances is met.",
    0: "The maximum number of function evaluations is exceeded.",
    1: "`gtol` termination condition is satisfied.",
    2: "`ftol` termination condition is satisfied.",
    3: "`xtol` termination condition is satisfied.",
    4: "Both `ftol` and `xtol` termination conditions are satisfied.",
}

NEAR = 0.01  # safety factor of xtol and ftol, since the remaining error is only estimated


class Tolerances(NamedTuple):
    """scipy's three tolerances, interpreted so that each bounds an error of x; 0 means off.

    ftol: near a minimum, a relative reduction of the loss by ftol^2 moves x by about ftol times its standard error.
    gtol bounds the cosine of the angle between the residual and the range of J in the same way. xtol bounds the
    relative change of every unknown.
    """

    ftol: float
    xtol: float
    gtol: float

    @property
    def flat(self) -> float:
        """The least predicted relative reduction of the loss for which a step is made."""
        return max(self.ftol, self.gtol) ** 2

    def settled(self, before: State, after: State) -> int:
        """SETTLED and scipy's status 2, 3 or 4 if the step was small enough, else RUNNING."""
        if after.nit == before.nit or np.array_equal(after.w, before.w):  # no step: the watchdog has changed the phase
            return RUNNING
        left = 1.0  # estimated remaining distance, as a multiple of the last step
        if after.step < before.step and getattr(before, "full", False) and after.full and after.precise:  # type: ignore[attr-defined]
            left = min(after.step / (before.step - after.step), 1.0)
        change, size, last, loss = after.w - before.w, norm(after.w), norm(before.r), norm(after.r)
        last, loss = last * last, loss * loss
        flat = still = False
        if self.ftol > 0.0 and left * left * abs(last - loss) <= 1e-12 * loss:  # an estimate first
            fall = left * left * float((before.r - after.r).dot(before.r + after.r))
            flat = abs(fall) <= NEAR * self.ftol**2 * loss
        if self.xtol > 0.0 and left * norm(change) <= 2.0 * NEAR * self.xtol * size:
            limit = NEAR * self.xtol * (np.abs(after.w) + self.xtol * size)
            still = bool((left * np.abs(change) <= limit).all())
        if not (flat or still):
            return RUNNING
        return SETTLED + (4 if flat and still else 2 if flat else 3)

    def status(self, ended: int, optimality: float) -> int:
        """scipy's status number for the end of a run; optimality: the size of the gradient."""
        if ended == Status.CALLBACK:
            return -2
        if ended in (Status.MAX_ITER, Status.MAX_TIME):
            return 0
        if optimality < self.gtol:
            return 1
        if ended == Status.STALLED:
            return STALLED
        if ended > SETTLED:
            return ended - SETTLED
        return 2 if self.ftol > 0.0 else 1 if self.gtol > 0.0 else 3

    def met(self, problem: Problem, s: State, T: Tangent) -> int:
        """scipy's status where no step reduces the loss, by the size of the linear model's next step."""
        _, model = model_at(problem, T, s.w, s.r, orthogonal=True)
        if model.predicted <= self.ftol * model.size * model.size:
            return 2
        p = problem.move(s.w, model.toward(1.0)) - s.w
        return 3 if norm(p) <= self.xtol * (self.xtol + norm(s.w)) else STALLED


def least_squares(
    fun: Callable[..., Any],
    x0: Any,
    jac: Any = "2-point",
    bounds: Any = (-np.inf, np.inf),
    method: str = "trf",
    ftol: float | None = 1e-8,
    xtol: float | None = 1e-8,
    gtol: float | None = 1e-8,
    x_scale: Any = None,
    loss: Any = "linear",
    f_scale: float = 1.0,
    diff_step: Any = None,
    tr_solver: str | None = None,
    tr_options: Mapping[str, Any] | None = None,
    jac_sparsity: Any = None,
    max_nfev: int | None = None,
    verbose: int = 0,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    callback: Callable[..., Any] | None = None,
    workers: Any = None,
) -> Result:
    r"""Minimise F(x) = 1/2 Sum rho(f_i(x)^2) within bounds: `scipy.optimize.least_squares`, for any shape of system.

    The parameters are scipy's, with the differences described below.

    Parameters
    ----------
    fun : callable
        ``fun(x, *args, **kwargs) -> (m,)``; every method accepts fewer residuals than unknowns.
    x0 : array_like (n,)
        Start.
    jac : callable or {'2-point', '3-point', 'cs'}
        '2-point' (default) means one-sided differences far from the solution and central ones near it, with steps
        relative to \\|x\\|. With ``diff_step`` or ``jac_sparsity``, the named scheme everywhere.
    bounds : (lower, upper) or scipy.optimize.Bounds
        fun is never called outside; solutions on a bound lie exactly on it.
    method : {'trf', 'dogbox', 'lm', 'gauss-newton', 'gd', 'sgd'}
        The first four all mean Gauss-Newton; 'lm' keeps scipy's restrictions except that on the shape.
    ftol, xtol, gtol : float or None
        Each is interpreted as a bound of an error of x: the run ends when a step reduces the loss by a relative amount
        below ftol^2, when it changes every unknown by a relative amount below xtol, or when the cosine of the angle
        between the residual and the range of J is at most gtol.
    x_scale : None, array_like or 'jac'
        None, or one number: 'jac' if there are at least as many residuals as unknowns and the norms of the Jacobian's
        columns differ a thousandfold, else 1.
    loss : {'linear', 'soft_l1', 'huber', 'cauchy', 'arctan'} or callable
        rho, as in scipy.
    f_scale : float
        The size of f_i above which residuals count as outliers.
    diff_step : float or array_like (n,), optional
        Relative steps of differences.
    tr_solver, tr_options : str and dict, optional
        They are checked but have no effect, since the type of J determines the linear solver.
    jac_sparsity : array_like or sparse (m, n), optional
        The positions of the nonzero entries of J, for which differences take fewer calls.
    max_nfev : int, optional
        Limit of the calls of fun, those for differences not counted; 100 n by default.
    verbose : {0, 1, 2}
        1: print how the run ended; 2: print every iteration, too.
    args, kwargs : tuple and dict, optional
        Passed on to fun and jac.
    callback : callable, optional
        ``callback(intermediate_result)`` or ``callback(x)``, called after every iteration; it may raise StopIteration
        to end the run. Not for 'lm'.
    workers : int or callable, optional
        The number of processes, or a map-like callable, by which differences are evaluated.

    Returns
    -------
    Result
        With scipy's fields (x, cost, fun, jac, grad, optimality, active_mask, nfev, njev, status, message, success)
        and ``nit``, ``history``, ``kernel`` and the others of `plsolve.Result`.

    Raises
    ------
    ValueError, TypeError
        As scipy does.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import least_squares
    >>> least_squares(lambda x: [10 * (x[1] - x[0] ** 2), 1 - x[0]], [2, 2]).x.round(9)
    array([1., 1.])
    """
    names = check.MODEL if isinstance(fun, check.Data) else check.FUN
    check.check_choices(method, jac, tr_solver, tr_options, loss, verbose)
    start = check.as_start(x0, names.w0)
    limit = check.as_limit(max_nfev, "max_nfev", sys.maxsize if method in ("gd", "sgd") else 100 * start.size)
    limits = check.check_bounds(bounds, start, method, names.w0)
    scale = check.check_x_scale(x_scale, start, names.w0)
    tolerances = Tolerances(*check.check_tolerances({"ftol": ftol, "xtol": xtol, "gtol": gtol}, method))
    if method == "lm" and callable(callback):
        warn("Callback function specified, but not supported with `lm` method.")
        callback = None
    structure = check.check_sparsity(method, jac, jac_sparsity, tr_solver)
    args, kwargs = check.as_arguments(args), check.as_mapping(kwargs, "kwargs")
    call = (check.Call if structure is None else check.Remembered)(fun, args, kwargs, names)
    step = check.as_steps(diff_step, start.size)
    robust = as_loss(loss, check.as_scale(f_scale))
    problem: Problem
    with check.processes(workers) as mapped:
        derivative: Any = None if jac == "2-point" and step is None else jac
        if callable(jac):
            first = partial(check.check_jacobian, lambda: (problem.n, problem.m), method, tr_solver, scale)
            derivative = check.JacobianCall(jac, args, kwargs, first).__call__
        elif structure is not None:
            derivative = SparseDifferences(
                problem=lambda: problem,
                call=call,
                kind=jac,
                step=step,
                limits=limits,
                structure=structure,
                mapped=mapped,
            ).__call__
        problem = Problem(
            call.__call__,  # a method has __code__, which saves an inspection of its signature
            derivative,
            start,
            call.target,
            bounds=limits,
            x_scale=scale,
            flat=tolerances.flat,
            flat_gradient=tolerances.gtol**2,
            diff_step=step,
            mapped=None if workers is None else mapped,
            loss=robust,
            max_nfev=limit,
            names=names,
        )
        ended, state, record = minimise(problem, method, tolerances, callback, verbose)
        with problem.at_work():
            result = package(problem, state, ended, tolerances, record)
    if method == "lm" and not callable(jac):
        result["njev"] = None
    if verbose >= 1:
        report(problem, result)
    return result


def report(problem: Problem, result: Result) -> None:
    """Print how a run ended, as scipy does."""
    initial = 0.5 * float(problem.r0.dot(problem.r0))
    print(result.message)  # noqa: T201
    print(  # noqa: T201
        f"Function evaluations {result.nfev}, initial cost {initial:.4e}, final cost {result.cost:.4e}, "
        f"first-order optimality {result.optimality:.2e}."
    )


def minimise(
    problem: Problem, method: str, tolerances: Tolerances, callback: Callable[..., Any] | None, verbose: int
) -> tuple[int, State, Record]:
    """Run the method; returns how it ended, the best state, and the record."""
    name = method if method in METHODS else "gauss-newton"

    def make() -> Method:
        if name == "gauss-newton":
            return Method(stages=newton.stages(problem, 0.0, False), limit=sys.maxsize)
        return METHODS[name](problem, {}, 0.0)

    chosen = prepared(problem, make)
    record = Record(callback, problem)
    observe = Settled(Progress(problem, record) if verbose == 2 else record, tolerances.settled)
    state, ended = loop.run_stages(problem, chosen.stages, observe, problem.target, chosen.limit)
    return ended, state, record


def package(problem: Problem, s: State, ended: int, tolerances: Tolerances, record: Record) -> Result:
    """The result, with scipy's fields and those of this library."""
    plain = problem.plain_residual(s.w, s.r)
    T = tangent_at(problem, s, ended != Status.MAX_ITER)
    J, g = T.J, T.adjoint(s.r)
    if problem.robust is not None:
        loss = problem.robust.loss
        J = scaled_rows(problem.robust.J, loss.triggs(plain))
        g = tangent(problem.robust.J, np.empty(0)).adjoint(loss.slope(plain) * plain)
    if issparse(J):
        J = csr_array(J)  # type: ignore[call-overload]
    optimality = np.abs(s.w - problem.project(s.w - g) if problem.bounded else g).max()
    status, message = concluded(problem, s, ended, tolerances, optimality)
    return Result(
        {
            "x": s.w.copy(),
            "cost": 0.5 * s.r.dot(s.r),
            "fun": plain,
            "jac": J,
            "grad": g,
            "optimality": optimality,
            "active_mask": active(problem, s.w),
            **problem.system.counts,
            "status": status,
            "message": message,
            "success": status > 0,
            "nit": record.last,
            "history": record.history(),
        },
        problem,
        record,
    )


def concluded(problem: Problem, s: State, ended: int, tolerances: Tolerances, optimality: float) -> tuple[int, str]:
    """scipy's status and message; optimality: the size of the gradient."""
    status = tolerances.status(ended, optimality)
    if status != STALLED or problem.run.note:
        return status, MESSAGES[status] + problem.run.note
    status = tolerances.met(problem, s, tangent_at(problem, s, True))
    return status, MESSAGES[status]


def tangent_at(problem: Problem, s: State, precise: bool) -> Tangent:
    """The tangent where a run ended, with NaN if jac is not finite there."""
    try:
        return problem.linearise(s.w, s.r, precise)
    except Ended:
        return tangent(np.full((problem.n, problem.m), np.nan), np.empty(0))


def nearest_to_start(problem: Problem, s: State) -> State:
    """Move from a solution of a system with more unknowns than equations to the one nearest to the start."""
    try:
        level = problem.rounding_level(s.w, s.r, problem.linearise(problem.remembered(s.w), s.r, True))
    except Ended:
        return s
    if norm(s.r) > 1e4 * level:
        return s
    problem.goal.aim(level)
    start = partial(nearest.init, w=s.w, r=s.r, nit=s.nit)
    return loop.run(problem, start, nearest.step, lambda s: RUNNING, loop.latest, -1.0, s.nit + 1000)[0]


def active(problem: Problem, w: Array) -> Any:
    """-1 on a lower bound, 1 on an upper, else 0."""
    if not problem.bounded:
        return np.zeros(w.size, dtype=int)
    return (w == problem.upper).astype(int) - (w == problem.lower)


def as_loss(loss: Any, f_scale: float) -> Loss | None:
    if not callable(loss):
        return None if loss == "linear" else Loss(LOSSES[loss], f_scale)

    def rho(z: Array) -> Any:
        value = as_real(loss(z), "loss(z)")
        if value.shape != (3, z.size):
            raise ValueError("The return value of `loss` callable has wrong shape.")
        return value

    return Loss(rho, f_scale)


class SparseDifferences:
    """A sparse Jacobian from differences along groups of unknowns."""

    def __init__(
        self,
        problem: Callable[[], Problem],
        call: Any,
        kind: str,
        step: Array | None,
        limits: Any,
        structure: Any,
        mapped: Callable[..., Any],
    ) -> None:
        self.problem, self.call, self.kind, self.mapped = problem, call, kind, mapped
        self.sparsity = differences.Sparsity(structure)
        self.relative = differences.RELATIVE[kind] if step is None else step
        self.limits = (-np.inf, np.inf) if limits is None else limits

    def __call__(self, w: Array) -> Any:
        f = self.call.again(w)
        f = next(iter(self.values([w], 1))) if f is None else f
        if self.sparsity.shape != (f.size, w.size):
            raise ValueError(f"`jac_sparsity` has wrong shape: {self.sparsity.shape} for a Jacobian {f.size, w.size}.")
        return differences.sparse_jacobian(self.values, w, f, self.kind, self.relative, self.sparsity, self.limits)

    def values(self, points: Iterable[Any], count: int) -> Iterable[Any]:
        """The values of fun at so many points, which are counted."""
        found = as_values(self.mapped(partial(called, self.call, self.kind), self.counted(points)), count)
        return found if self.kind == "cs" else [as_float(f, "fun(x)") for f in found]

    def counted(self, points: Iterable[Any]) -> Iterator[Any]:
        system = self.problem().system
        for point in points:
            system.count(nfev_jac=1)
            yield point


def called(call: check.Call, kind: str, w: Any) -> Any:
    """The value of fun as a new array."""
    f = np.array(call(w.copy()), ndmin=1)  # fun may overwrite w
    if kind == "cs" and np.iscomplexobj(w) and not np.iscomplexobj(f):
        raise ValueError(f"`jac='cs'` needs `fun` to return complex numbers at a complex x, got dtype {f.dtype}.")
    return f


class Settled:
    """An observer that ends the run if two consecutive states pass a test and no better state was seen before."""

    def __init__(self, observe: Callable[[State], int], test: Callable[[State, State], int]) -> None:
        self._observe, self._test = observe, test
        self._last: State | None = None
        self._least = math.inf

    def __call__(self, s: State) -> int:
        """A status that ends the run, or RUNNING."""
        status, last, self._last, size = self._observe(s), self._last, s, norm(s.r)
        best, self._least = size <= self._least, min(size, self._least)
        return self._test(last, s) if status == RUNNING and last is not None and best else status


class Progress:
    """Prints a line for every iteration, as scipy does."""

    def __init__(self, problem: Problem, record: Record) -> None:
        self.problem, self.record = problem, record
        self.last: State | None = None

    def __call__(self, s: State) -> int:
        last, self.last = self.last, s
        if last is not None and s.nit == last.nit:
            return self.record(s)
        if last is None:
            names = ("Iteration", "Total nfev", "Cost", "Cost reduction", "Step norm", "Optimality")
            print("".join(f"{name:^15}" for name in names))  # noqa: T201
        cost = 0.5 * float(s.r.dot(s.r))
        change = f"{'':15}{'':15}"
        if last is not None:
            change = f"{0.5 * float(last.r.dot(last.r)) - cost:^15.2e}{norm(s.w - last.w):^15.2e}"
        g = tangent_at(self.problem, s, False).adjoint(s.r)
        print(f"{s.nit:^15}{self.problem.system.nfev:^15}{cost:^15.4e}{change}{float(np.abs(g).max()):^15.2e}")  # noqa: T201
        return self.record(s)
