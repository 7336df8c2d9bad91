"""`solve`: check the arguments, choose the method, run the loop, package the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Protocol

from plsolve import _loop as loop
from plsolve._checkpoint import EVERY, NEAREST, OVER, Checkpoint, check_number
from plsolve._checks import as_beta, as_count, as_deadline, as_flag, as_tolerance, check_options, generator
from plsolve._choice import choose, no_step, prepared
from plsolve._inference.metric import Whitened, is_covariance, solved_in_metric
from plsolve._linalg import Array, norm
from plsolve._pictures.progress import LOG, watching
from plsolve._problem import CALLED, Problem
from plsolve._proofs.certify import Nearness
from plsolve._record import Record
from plsolve._result import Result, add_absence
from plsolve._stopping import AT_ROUNDING_LEVEL, MESSAGES, RUNNING, STATUSES, Ended, Status
from plsolve._system import check_functions
from plsolve.methods import METHODS, OPTIONS, nearest
from plsolve.methods.method import Forecast, Method, Stage

FORECAST = 0.1  # time for a forecast: this share of the run's time or, if more, of a second that is left
NARROW = ", which does not return double precision."
COMPARES = " `report()` compares `jac` with differences of F."
NEAREST_MISSED = " The solution nearest to w0 was not reached ({}): x is the nearest solution found."


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
    xtol: float = 0.0,
    eps: float = 0.0,
    max_iter: int | None = None,
    max_time: float | None = None,
    beta: Any = None,
    certify: bool = True,
    callback: Callable[..., Any] | None = None,
    progress: bool = False,
    rng: Any = None,
    compiled: bool | None = None,
    checkpoint: Any = None,
    resume: bool = False,
    checkpoint_every: float = EVERY,
    options: Mapping[str, Any] | None = None,
) -> Result:
    r"""Solve F(w) = y, usually with more unknowns than equations.

    Parameters
    ----------
    F : callable
        ``F(w, *args) -> (n,)``. For SGD it may take ``rows``, an int64 array of equation numbers, and return only
        these entries.
    jac : callable, True, None or {'2-point', '3-point', 'cs'}
        ``jac(w, *args) -> (n, m)``: array, scipy.sparse or `scipy.sparse.linalg.LinearOperator` (whose method
        ``gram()``, if it has one, gives J J^T, and ``gram(d2)``, if it takes weights, J diag(d2) J^T for bounds and
        x_scale). True: F returns the pair (F(w), J(w)). Otherwise J comes from differences with steps relative to
        \|w\|; None: one-sided at first, central near the end.
    w0 : array_like (m,)
        The start. No argument is ever modified.
    y : array_like (n,), optional
        Target, zeros by default. For SGD with ``rows`` and a large J its size is taken for the number of equations.
    method : {'auto', 'gauss-newton', 'gd', 'sgd'}
        See Notes.
    args : tuple
        Passed on to F and jac.
    bounds : (lower, upper) or scipy.optimize.Bounds, optional
        F is never called outside. w0 must lie inside.
    x_scale : array_like (m,) or (m, m), sparse, LinearOperator or 'jac'
        Typical size of the unknowns: steps are measured by ||p / x_scale||. By default, unknowns are scaled by the
        columns of J if n >= m and the norms of these differ a thousandfold (for n = m, the unknowns at w0, too). Sizes
        below 1e-7 of the largest are raised to that. Or a covariance C, as the ``prior`` of `plsolve.infer`: steps and,
        with ``nearest``, distances are measured by the root of p . C^{-1} p; this cannot be combined with bounds.
    tol : float
        The system is solved when ||F(w) - y|| <= tol max(||y||, ||F(w0)||). This bound must also be small beside the
        terms of F at the end of the run, since a huge F(w0) proves nothing: at most 1e-6 (or tol, if larger) times
        ``max(||y||, || |J| (|w| + |w - w0|) ||)``, J of the point before; else tol is relative to these terms with J at
        w. It is also solved at the rounding level of F, ``4 u (||F|| + ||y|| + || |J| |w| ||)``, u = 1.1e-16 (6e-8
        where F returns float32). 0 asks for the rounding level.
    xtol : float
        The system is solved when a solution is proved (theory 3.1, h <= 1/2) to lie within xtol max(1, ||w||) of w. The
        proof uses ``beta`` or, if that is not given, 10 times the largest curvature of F along the steps so far. Only
        for m >= n and n <= 8192.
    eps : float
        Loss 1/2 ||F(w) - y||^2 at which to stop: for noisy or almost over-parameterized systems (PL*_eps, theory 1.6).
    max_iter : int, optional
        Limit of ``nit``: Gauss-Newton steps (200), gradient steps (100 000) or mini-batch steps (1000 epochs).
    max_time : float, optional
        Limit of the time of the whole call, in seconds.
    beta : float or array_like (n,), optional
        Lipschitz constant of jac on R^m (on the box, with bounds), or one for each equation. It makes certificates
        rigorous and, together with ``lipschitz``, the step sizes of gd and sgd exact.
    certify : bool
        Whether the result has a certificate, which is computed on first access: see `plsolve.certify`.
    callback : callable, optional
        ``callback(intermediate_result)`` (the parameter must have this name; it has x, fun, cost, nit and forecast, the
        number of iterations left at the present pace) or ``callback(w)``. It is called after every iteration (SGD:
        every epoch; of shuffled rows fun and cost are what its batches met) and may raise StopIteration to end the run.
    progress : bool
        Show a bar with the loss, the PL ratio and the time left (theory 4.3); needs the extra 'progress'.
    rng : int, numpy.random.Generator, ..., optional
        Seeds SGD's batches.
    compiled : bool, optional
        Whether the whole run is compiled code, for numba functions F and jac (jac may be None). None: if that is
        possible. True: if it is not possible, a TypeError says why. Needs the extra 'compiled'.
    checkpoint : str or path, optional
        File in which the state of the run is kept: written every few seconds, at the end, and when an exception ends
        the run, Ctrl-C included. A file of this name is replaced. Where it cannot be written, a warning says so, and
        the run goes on.
    resume : bool
        Go on where the run in ``checkpoint`` has stopped, with the same iterates as if it had not; begin anew if there
        is no file. The arguments must be those of that run, except max_iter (counted from its beginning), max_time
        (counted from now), callback, progress, certify and rng (whose state is in the file). F(w0), constants that are
        estimated there, and J are evaluated again, and counted.
    checkpoint_every : float
        Least time between two writes, in seconds. They are rarer where writing takes more than 1 % of the time.
    options : dict, optional
        Of the method:

        - gauss-newton: ``nearest`` (bool: the solution nearest to w0), ``linear_solver`` ('auto', 'cholesky', 'qr' or
          'cg': how J^+ is applied).
        - gd: ``step_size`` ('theorem', 'polyak', 'cauchy' or a number), ``momentum`` ('heavy-ball', 'nesterov',
          'chebyshev').
        - sgd: ``step_size`` ('theorem', 'polyak', 'kaczmarz' or a number), ``momentum`` ('mass'), ``batch_size`` (int
          or 'auto': the critical batch, for 'kaczmarz' the cheapest), ``rows`` ('uniform', 'residual', 'cyclic', 'max',
          'shuffled'), ``damping`` (of 'kaczmarz', relative to the mean of K_ii: 1e-3).
        - gd and sgd: constants, if known, ``lipschitz`` (>= ||J||) and ``mu`` (<= lambda_min(K)), for sgd also
          ``row_smoothness`` (>= max_i K_ii). Those that are not given are estimated at w0.

    Returns
    -------
    Result
        ``x`` (the best point at which F was evaluated, points of differences excepted), ``success``, ``status``,
        ``message`` and other attributes.

    Raises
    ------
    TypeError, ValueError
        For bad input, before the first step: the message names the argument. Also if the file of ``resume`` is damaged
        or belongs to another run; it is left as it is.
    Exception
        Exceptions of F, jac and callback, KeyboardInterrupt included, are passed on with the best point as
        ``exc.best``.

    Notes
    -----
    *gauss-newton* takes minimum-norm steps -J^T K^{-1} r from the n x n tangent kernel K = J J^T (theory 7.1) in a
    trust region; every step reduces the loss L. Where the steps stagnate short of a solution, a watchdog allows a phase
    of undamped steps, or a restart near the best point. The loss may rise meanwhile, but never above that of w0, and x
    is the best point of all. This costs at most two Jacobians for each one spent before (eight where the gradient is
    steep, and so no minimum near). Square systems of at most 1024 unknowns continue with the method for n > m, which
    models the curvature of the residual. `root` and `least_squares` use the same methods.

    *gd* steps by -eta J^T r, eta = 1/(lipschitz^2 + beta ||r||). With both constants given, L+ <= (1 - eta mu) L in
    every step, mu the PL* constant (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022, theorem 6; theory 1.1).
    Otherwise L falls by at least ||g||^2/(2 M) in every step, M a bound on its curvature that is corrected as the run
    goes on. Momentum needs about sqrt(kappa) steps instead of kappa (theory 6.2) and keeps L_t <= (1 - eta mu)^t L_0
    (6.3).

    *sgd* contracts the expected distance to the solutions of a linear system by 1 - lambda_min(K)/Ls in every step
    (Ma, Bassily, Belkin, ICML 2018; theory 5.1); with ``step_size='theorem'`` the expected loss of any PL* system by
    1 - mu s eta/n (theory 1.3). ``step_size='kaczmarz'`` makes Gauss-Newton steps on batches instead, each epoch in a
    new order of the rows. Without options sgd uses, for more than 1000 rows, the kind of steps and the batch size that
    are cheapest by an estimate from a sample (theory 5.7). Where F and jac have ``rows``, J is never formed as a whole.

    *auto* takes the method for which the fewest operations are forecast: nearly always Gauss-Newton; gd for large
    systems whose kernel is very well conditioned; sgd where the kernel does not fit into memory and F and jac have
    ``rows``.

    The theory numbers refer to plsolve/theory/README.md.

    The logger 'plsolve' reports the beginning and the end of a run (INFO) and its iterations (DEBUG); it is silent by
    default.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import solve
    >>> sol = solve(lambda w: [w @ w], lambda w: 2 * w[None], [3.0, 4.0], [1.0])
    >>> sol.x.round(12)
    array([0.6, 0.8])
    """
    if is_covariance(x_scale):
        settings = {"method": method, "tol": tol, "xtol": xtol, "eps": eps, "max_iter": max_iter, "max_time": max_time}
        settings |= {"certify": certify, "progress": progress, "rng": rng, "compiled": compiled, "options": options}
        kept = {"path": checkpoint, "resume": resume, "every": checkpoint_every}
        return in_metric(F, jac, w0, y, args, bounds, x_scale, beta, callback, settings, kept)
    keeper = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint, resume, checkpoint_every)
    options = check_options(method, {} if options is None else options, OPTIONS)
    tol, xtol, eps = as_tolerance(tol, "tol"), as_tolerance(xtol, "xtol"), as_tolerance(eps, "eps")
    max_iter = None if max_iter is None else as_count(max_iter, "max_iter", 0)
    certify, progress = as_flag(certify, "certify"), as_flag(progress, "progress")
    compiled = None if compiled is None else as_flag(compiled, "compiled")
    problem = Problem(
        F,
        jac,
        w0,
        y,
        args=args,
        bounds=bounds,
        x_scale=x_scale,
        tol=tol,
        eps=eps,
        deadline=as_deadline(max_time),
        rng=generator(rng),
        linear_solver=options.get("linear_solver", "auto"),
        by_rows=method == "sgd",
    )
    if options.get("nearest") and problem.bounded:
        raise ValueError("`options`: 'nearest' cannot be combined with `bounds`.")
    betas = as_beta(beta, problem.n)
    record = Record(callback, problem, Nearness(problem, betas, xtol) if xtol > 0.0 else None, problem.goal.enough)
    asked = {"call": "solve", "method": method, "options": options, "beta": betas, "tol": tol, "xtol": xtol, "eps": eps}
    method, reason, chosen = method_for(problem, keeper.open(problem, record, asked), options, betas)
    keeper.reason = reason = keeper.reason or reason
    limit = chosen.limit if max_iter is None else max_iter
    native = engine(problem, compiled, chosen.stages[0].step)
    with keeper, watching(problem, chosen.forecast, reason, limit, progress) as record.watchers:
        nearby = bool(options.get("nearest"))
        s, status, message = run(problem, chosen.stages, record, limit, native, nearby, keeper)
    record.guarantee = None if chosen.guarantee is None else partial(chosen.guarantee, s)
    size = norm(s.r)
    left, outlook = forecast(problem, chosen.forecast, s, status, record)
    problem.run.finish()
    fields = {
        "x": s.w.copy(),
        "success": status > 0,
        "status": status,
        "message": message + problem.run.note + outlook,
        "fun": s.r,
        "cost": 0.5 * size * size,
        "nit": record.last,
        **problem.system.counts,
        "method": method,
        "method_reason": reason,
        "compiled": native is not None,
        "forecast": left,
    }
    result = packaged(fields, problem, record, betas, certify)
    counts = record.last, problem.system.nfev, problem.system.njev
    LOG.info("%s %d iterations, %d F, %d J, loss %.3g", result["message"], *counts, result["cost"])
    return result


def in_metric(
    F: Any,
    jac: Any,
    w0: Any,
    y: Any,
    args: Any,
    bounds: Any,
    covariance: Any,
    beta: Any,
    callback: Any,
    settings: Mapping[str, Any],
    kept: Mapping[str, Any],
) -> Result:
    """The result of `solve` with a covariance as the metric of the step; kept: the arguments of Checkpoint."""
    if bounds is not None:
        raise ValueError("`bounds` cannot be combined with a covariance as `x_scale`.")
    check_functions(F, jac, CALLED)
    at = Whitened(F, jac, w0, covariance)
    also = {} if kept["path"] is None else {"w0": at.w0, "x_scale": check_number(at.prior.times, at.w0.size)}
    keeper = Checkpoint(**kept, also=also)
    sol = solved_in_metric(partial(solve, y=y, args=args, checkpoint=keeper, **settings), at, callback)
    problem = Problem(F, jac, at.w(sol.x), y, args=args)
    record = sol._record
    record.path[:] = [(problem.w0, problem.r0)]
    fields = {**dict(sol), "x": problem.w0.copy(), "nfev": sol.nfev + problem.system.nfev}
    return Result(fields, problem, record, as_beta(beta, problem.n))


def method_for(
    problem: Problem, wanted: str, options: Mapping[str, Any], betas: Array | None
) -> tuple[str, str, Method]:
    """The method's name, why it is this one, and what it makes of its options."""
    name, reason = choose(problem, wanted)
    beta = 0.0 if betas is None else max(norm(betas), 1e-300)
    made = prepared(problem, lambda: METHODS[name](problem, options, beta))
    return name, f"{reason} {made.reason}" if made.reason else reason, made


def run(
    problem: Problem,
    stages: Sequence[Stage],
    record: Record,
    limit: int,
    native: Engine | None,
    nearby: bool,
    keeper: Checkpoint,
) -> tuple[Any, Status, str]:
    """Run the stages, then move to the nearest solution if ``nearby``; returns the last state, status and message.

    The run goes on where an earlier one has stopped, if the keeper knows of one.
    """

    def compiled(step: Any) -> Any:
        return None if native is None else native.run(step, record)

    stopped = keeper.resumed(stages, native, limit)
    if stopped is not None and stopped.stage in (NEAREST, OVER):
        s, place = stopped.place.s, stopped.place
        status, message = STATUSES[keeper.status], keeper.message
        if stopped.stage == OVER:
            return s, status, message
    else:
        s, ended = loop.run_stages(problem, stages, record, problem.goal.enough, limit, compiled, stopped)
        place, (status, message) = None, outcome(problem, s, ended)
    if status > 0 and nearby:
        keeper.begin(NEAREST, None, status, message)
        init = partial(nearest.init, w=s.w, r=s.r, nit=s.nit)
        way = compiled(nearest.step)
        s, ended = loop.run(problem, init, nearest.step, record, loop.latest, -1.0, limit, way, place)
        message += "" if ended == Status.RESIDUAL else NEAREST_MISSED.format(Status(ended).name)
    keeper.end(s, ended, status, message)
    return s, status, message


def outcome(problem: Problem, s: Any, ended: int) -> tuple[Status, str]:
    """The status of a run whose stages have ended so, and its message."""
    size = norm(s.r)
    if ended == RUNNING:
        ended = Status.RESIDUAL if size <= problem.target else Status.EPSILON
    status = STATUSES[int(ended)]
    if status == Status.RESIDUAL and size > min(problem.target, problem.goal.tol * problem.size0):
        return status, AT_ROUNDING_LEVEL + (NARROW if problem.system.narrow else ".")
    if status == Status.STALLED and not (problem.differenced or problem.system.by_rows):
        return status, MESSAGES[status] + COMPARES
    return status, MESSAGES[status]


def forecast(problem: Problem, of: Forecast | None, s: Any, status: Status, record: Record) -> tuple[float, str]:
    """The number of iterations left, NaN where there is no forecast, and a sentence for the message."""
    if status > 0:
        return 0.0, ""
    if of is None or s.nit == 0 or status not in (Status.MAX_ITER, Status.MAX_TIME):
        return math.nan, ""
    problem.run.allow(FORECAST)
    with problem.at_work():
        try:
            left, kappa = of(problem, s, record.history(), problem.goal.enough)
        except Ended as end:
            return math.nan, f" No forecast:{end}" if str(end) else ""
    pace = "At the present pace" if math.isnan(kappa) else f"At kappa = {kappa:.2g}"
    if math.isfinite(left):
        return left, f" {pace} about {left:.2g} more iterations are needed."
    return left, f" {pace} this method will not converge."


def packaged(fields: dict[str, Any], problem: Problem, record: Record, betas: Array | None, certify: bool) -> Result:
    """The result; its message says that no solution is near, where that is proved."""
    if not certify:
        record.path.clear()
        return Result({**fields, "certificate": None}, problem, record, betas)
    result = Result(fields, problem, record, betas)
    if fields["status"] == Status.STATIONARY and betas is not None:
        with problem.at_work():
            add_absence(result, problem)
    return result


@cache
def compiler() -> Any:
    """The subpackage for compiled code, imported at first use since it imports numba."""
    from plsolve import _compiled as compiled

    return compiled


class Engine(Protocol):
    """A problem in compiled code."""

    def run(self, step: Any, record: Record) -> loop.Native | None:
        """The compiled run of a method; None: the method runs interpreted."""


def engine(problem: Problem, wanted: bool | None, step: Any) -> Any:
    """The engine that runs this problem in compiled code; None: it runs interpreted."""
    if wanted is False or step is no_step or (wanted is None and not problem.system.of_numba):
        return None
    compiled = compiler()
    try:
        with problem.at_work():
            return compiled.Engine(problem, step)
    except compiled.NotCompilableError as error:
        if wanted:
            raise TypeError(f"`compiled=True` is not possible: {error}") from None
        return None
