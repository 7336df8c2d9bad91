"""`infer`: the most probable parameters, given noisy data and a prior."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from plsolve import _loop as loop
from plsolve._checkpoint import EVERY, OVER, Checkpoint, check_number
from plsolve._checks import LINEAR_SOLVERS, as_choice, as_count, as_deadline, as_flag, as_tolerance
from plsolve._inference.noise import as_noise
from plsolve._inference.prior import as_prior
from plsolve._pictures.progress import LOG, watching
from plsolve._problem import Problem
from plsolve._record import Record
from plsolve._result import Result
from plsolve._stopping import MESSAGES, STATUSES
from plsolve.methods import most_probable
from plsolve.methods.method import Stage

LIMIT = 200  # of iterations, where ``max_iter`` is not given
ASKED = {"call": "infer", "method": "gauss-newton"}
REASON = "gauss-newton: in the metric of the prior, with the noise in its kernel."


def infer(
    F: Callable[..., Any],
    jac: Any,
    w0: Any,
    y: Any = None,
    *,
    noise: Any,
    prior: Any = None,
    args: tuple[Any, ...] = (),
    bounds: Any = None,
    tol: float = 1e-5,
    max_iter: int | None = None,
    max_time: float | None = None,
    linear_solver: str = "auto",
    callback: Callable[..., Any] | None = None,
    progress: bool = False,
    checkpoint: Any = None,
    resume: bool = False,
    checkpoint_every: float = EVERY,
) -> Result:
    """The most probable parameters w, given data y = F(w) + noise and the prior w ~ N(w0, C).

    They minimise ||R^{-1/2} (F(w) - y)||^2 + ||C^{-1/2} (w - w0)||^2, where R is the covariance of the noise.

    Parameters
    ----------
    F : callable
        F, jac, y, args and bounds are as for `plsolve.solve`.
    jac : callable, True, None or {'2-point', '3-point', 'cs'}
        The Jacobian.
    w0 : array_like (m,)
        The mean of the prior, and the start.
    y : array_like (n,), optional
        The data, zeros by default.
    noise : float, array_like (n,) or (n, n)
        Standard deviation of the data, one for each, or their covariance R.
    prior : float, array_like (m,) or (m, m), sparse or LinearOperator, optional
        Standard deviation of the parameters about w0 (1 by default), one for each, or their covariance C: as an array,
        as a LinearOperator v -> C v (whose method ``diagonal()``, if it has one, gives the variances), or by its
        inverse, the precision matrix, as a scipy.sparse matrix. No m x m matrix is formed unless it is given.
    args : tuple
        Passed on to F and jac.
    bounds : (lower, upper) or scipy.optimize.Bounds, optional
        F is never called outside. w0 must lie inside.
    tol : float
        The run has converged when the remaining distance is at most this many standard deviations of the posterior, and
        at most this multiple of the square root of the minimised sum; or when it is at the rounding level of F.
    max_iter : int, optional
        Limit of ``nit``, 200 by default.
    max_time : float, optional
        Limit of the time of the whole call, in seconds.
    linear_solver : {'auto', 'cholesky', 'qr', 'cg'}
        'cholesky': of the n x n kernel J C J^T + R. 'qr': singular values of R^{-1/2} J C^{1/2}, for few parameters
        or an ill-conditioned kernel. 'cg': conjugate gradients, which need only products with J and C.
    callback : callable, optional
        As for `plsolve.solve`; ``cost`` is that of the Result.
    progress : bool
        Show a bar.
    checkpoint : str or path, optional
        File in which the state of the run is kept: checkpoint, resume and checkpoint_every are as for `plsolve.solve`.
    resume : bool
        Go on where the run in ``checkpoint`` has stopped.
    checkpoint_every : float
        Least time between two writes, in seconds.

    Returns
    -------
    Result
        ``success`` is True where ``status`` is CONVERGED. ``cost`` is half the minimised sum of squares. ``fun`` is
        F(x) - y. ``uncertainty()`` gives standard deviations and covariances of x, ``report()`` a summary in text.

    Raises
    ------
    TypeError, ValueError
        For bad input, before the first step: the message names the argument.
    Exception
        Whatever F, jac or callback raise passes through, with the best point as ``exc.best``.

    Notes
    -----
    With C^{1/2} z = w - w0, and the noise as slack variables e, the most probable parameters are the solution nearest
    to 0 of the over-parameterized system F(w0 + C^{1/2} z) + R^{1/2} e = y, whose tangent kernel J C J^T + R is never
    singular (theory 7.10). In the limit of small noise they are the solution nearest to w0; with a vague prior and
    n >= m, the least-squares fit. A linear F is solved exactly in one step.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import infer
    >>> fit = infer(lambda w: [w[0] + w[1]], lambda w: [[1.0, 1.0]], [0.0, 0.0], [2.0], noise=0.1, prior=[1.0, 0.1])
    >>> fit.x.round(3), fit.uncertainty().std().round(3)
    (array([1.961, 0.02 ]), array([0.14, 0.1 ]))
    """
    tol, max_iter = as_tolerance(tol, "tol"), LIMIT if max_iter is None else as_count(max_iter, "max_iter", 0)
    progress, keeper = as_flag(progress, "progress"), Checkpoint(checkpoint, resume, checkpoint_every)
    linear_solver = as_choice(linear_solver, "linear_solver", LINEAR_SOLVERS)
    problem = Problem(
        F, jac, w0, y, args=args, bounds=bounds, deadline=as_deadline(max_time), linear_solver=linear_solver
    )
    with problem.at_work():
        aim = most_probable.Aim(noise=as_noise(noise, problem.n), prior=as_prior(prior, problem.m), tol=tol)
    record = Record(callback, problem, loss=most_probable.loss)
    keeper.open(problem, record, ASKED if checkpoint is None else asked(problem, aim, linear_solver))
    keeper.reason = REASON
    stage = Stage(lambda limit, problem, before: most_probable.init(problem, aim), partial(most_probable.step, aim=aim))
    with keeper, watching(problem, None, REASON, max_iter, progress) as record.watchers:
        stopped = keeper.resumed([stage], None, max_iter)
        place = None if stopped is None else stopped.place
        if place is not None and keeper.stage == OVER:
            s, ended = place.s, keeper.status
        else:
            init = partial(most_probable.init, aim=aim)
            s, ended = loop.run(problem, init, stage.step, record, loop.latest, -1.0, max_iter, at=place)
            s = most_probable.best(problem, s)
            keeper.end(s, ended, ended, "")
    status = STATUSES[int(ended)]
    problem.run.finish()
    fields = {
        "x": s.w.copy(),
        "success": status > 0,
        "status": status,
        "message": MESSAGES[status] + problem.run.note,
        "fun": s.r,
        "cost": most_probable.loss(s),
        "nit": record.last,
        **problem.system.counts,
        "method": "gauss-newton",
        "method_reason": REASON,
        "compiled": False,
        "forecast": 0.0 if status > 0 else math.nan,
    }
    counts = record.last, problem.system.nfev, problem.system.njev
    LOG.info("%s %d iterations, %d F, %d J, loss %.3g", fields["message"], *counts, fields["cost"])
    return Result(fields, problem, record, None, (noise, prior))


def asked(problem: Problem, aim: most_probable.Aim, linear_solver: str) -> dict[str, Any]:
    """What tells this fit from others."""
    noise, prior = check_number(aim.noise.colour, problem.n), check_number(aim.prior.times, problem.m)
    return ASKED | {"linear_solver": linear_solver, "tol": aim.tol, "noise": noise, "prior": prior}
