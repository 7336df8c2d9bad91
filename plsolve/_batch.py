"""`solve_batch`: many systems of one shape, on all cores."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from plsolve._checks import (
    Names,
    as_count,
    as_flag,
    as_float,
    as_real,
    as_tolerance,
    generator,
    refuse_masked,
)
from plsolve._linalg import Array
from plsolve._pictures.progress import new_bar
from plsolve._problem import Problem
from plsolve._solver import compiler, engine, solve
from plsolve._stopping import FAILED
from plsolve.methods import tall, watchdog
from plsolve.methods.tuning import TUNING

Indices = npt.NDArray[np.int64]
THREADS = 1024  # at most: a larger number is taken for a mistake


class BatchResult(NamedTuple):
    """The result of `solve_batch`: arrays with one row for each system.

    Attributes
    ----------
    x : ndarray (k, m)
        The best points seen.
    fun : ndarray (k, n)
        F(x) - y.
    status : ndarray (k,)
        A `Status` for each system, or FAILED (-5) where F or jac raised an exception or were not finite at the start.
    nit : ndarray (k,)
        Iterations; with ``restarts``, those from the start whose result was kept.
    success : ndarray (k,)
        Whether the status is positive.
    """

    x: Array
    fun: Array
    status: Indices
    nit: Indices
    success: npt.NDArray[np.bool_]


def solve_batch(
    F: Callable[..., Any],
    jac: Any,
    W0: Any,
    Y: Any = None,
    *,
    args: Any = (),
    each: tuple[Any, ...] = (),
    bounds: Any = None,
    x_scale: Any = 1.0,
    tol: float = 1e-10,
    eps: float = 0.0,
    max_iter: int | None = None,
    restarts: int = 0,
    rng: Any = None,
    threads: int | None = None,
    progress: bool = False,
    compiled: bool | None = None,
) -> BatchResult:
    """Solve ``F(w, *args, *each[i]) = Y[i]`` for many i by Gauss-Newton, each from its own start W0[i].

    With numba functions the systems run compiled on all cores; others are solved one after the other. The results do
    not depend on the number of threads.

    Parameters
    ----------
    F, jac : callable
        As for `solve`. jac may be None.
    W0 : array_like (k, m) or (m,)
        The starts, or one start for all systems.
    Y : array_like (k, n) or (n,), optional
        The targets, or one target for all systems; zeros by default.
    args : tuple
        Arguments of F and jac that all systems share.
    each : tuple of array_like (k, ...)
        Further arguments of F and jac, after args: from each array ``a``, system i gets ``a[i]``.
    bounds : (lower, upper) or scipy.optimize.Bounds, optional
        As for `solve`. bounds, x_scale, tol, eps and max_iter are the same for all systems.
    x_scale : array_like (m,) or 'jac'
        Typical size of the unknowns.
    tol, eps : float
        Relative residual, and loss, at which a system counts as solved.
    max_iter : int, optional
        Limit of the iterations for each system.
    restarts : int
        How often a system that is not solved is tried again, from a random start: uniform between finite bounds,
        else normal around its W0. The best of its results is kept.
    rng : int, numpy.random.Generator, ..., optional
        Seeds the restarts.
    threads : int, optional
        Number of threads; by default one for each core that this process may use.
    progress : bool
        Show a bar (needs the extra 'progress').
    compiled : bool, optional
        As for `solve`.

    Returns
    -------
    BatchResult
        ``x``, ``fun``, ``status``, ``nit``, ``success``, with one row for each system. A system that fails does not
        stop the others. Ctrl-C does; the exception has the best points of all systems (k, m) as ``exc.best``.

    Raises
    ------
    TypeError, ValueError
        For bad input: the message names the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import solve_batch
    >>> roots = solve_batch(lambda w: w**2, None, [1.0], [[1.0], [4.0], [9.0]])
    >>> roots.x.ravel().round(6).tolist(), roots.success.all()
    ([1.0, 2.0, 3.0], np.True_)
    """
    if not callable(F):
        raise TypeError(f"`F` must be callable, got {type(F).__name__}.")
    W0, Y, each, k = shapes(W0, Y, each)
    tol, eps = as_tolerance(tol, "tol"), as_tolerance(eps, "eps")
    max_iter = None if max_iter is None else as_count(max_iter, "max_iter", 0)
    restarts = as_count(restarts, "restarts", 0)
    workers = cores() if threads is None else as_count(threads, "threads", 1, THREADS)
    progress, compiled = as_flag(progress, "progress"), None if compiled is None else as_flag(compiled, "compiled")
    args = args if isinstance(args, tuple) else (args,)
    random = generator(rng) or (np.random.default_rng() if restarts else None)
    if k == 0:
        n = 0 if Y is None else Y.shape[1]
        none = np.zeros(0, np.int64)
        return BatchResult(x=np.zeros((0, W0.shape[1])), fun=np.zeros((0, n)), status=none, nit=none, success=none > 0)
    common = {"bounds": bounds, "x_scale": x_scale, "tol": tol, "eps": eps, "max_iter": max_iter}
    with carrying(W0):
        run = runner(F, jac, W0, Y, args, each, common, compiled, workers)
    with bar(progress, k) as tick:
        result = run(W0, np.arange(k), tick)
    for _ in range(restarts):
        left = np.flatnonzero(~result.success)
        starts = random_starts(W0, bounds, random)
        if left.size == 0:
            break
        with carrying(result.x), bar(progress, left.size) as tick:
            result = better(result, run(starts, left, tick), left)
    return result


def shapes(W0: Any, Y: Any, each: Any) -> tuple[Array, Array | None, tuple[Any, ...], int]:
    """Starts (k, m), targets (k, n), arguments, and k."""
    W0, Y = as_float(W0, "W0"), None if Y is None else as_float(Y, "Y")
    each = tuple(as_entries(a, f"each[{i}]") for i, a in enumerate(each if isinstance(each, tuple) else (each,)))
    if W0.ndim not in (1, 2) or (W0.size == 0 and W0.shape[-1:] == (0,)):
        raise ValueError(f"`W0` must have shape (k, m) or (m,), got {W0.shape}.")
    if Y is not None and Y.ndim not in (1, 2):
        raise ValueError(f"`Y` must have shape (k, n) or (n,), got {Y.shape}.")
    many = {"W0": W0} if W0.ndim == 2 else {}
    many |= {"Y": Y} if Y is not None and Y.ndim == 2 else {}
    many |= {f"each[{i}]": a for i, a in enumerate(each)}
    sizes = {name: len(a) for name, a in many.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"`W0`, `Y` and `each` must have the same number of rows, one for each system, got {sizes}.")
    k = next(iter(sizes.values()), 1)
    W0 = np.array(np.broadcast_to(W0, (k, W0.shape[-1])), order="C")
    return W0, None if Y is None else np.array(np.broadcast_to(Y, (k, Y.shape[-1])), order="C"), each, k


def as_entries(a: Any, name: str) -> npt.NDArray[Any]:
    """An array of real or complex numbers, with one entry for each system."""
    refuse_masked(a, name)
    array = np.asarray(a) if np.iscomplexobj(a) else as_real(a, name)
    if array.ndim == 0:
        raise ValueError(f"`{name}` must be an array of numbers with one entry for each system, got one number.")
    return array


Run = Callable[[Array, Indices, Callable[[int], None]], BatchResult]


def runner(
    F: Any, jac: Any, W0: Array, Y: Array | None, args: Any, each: Any, common: Any, compiled: Any, workers: int
) -> Run:
    """A function that solves the systems with given indices, from starts (k, m)."""

    def own(i: int) -> tuple[Any, ...]:
        return (*args, *(a[i] for a in each))

    def target(i: int) -> Array | None:
        return None if Y is None else Y[i]

    problem = first_problem(F, jac, W0, target, own, common)
    if problem.n >= problem.m <= TUNING.curved_unknowns:
        problem.metric.scale_unasked()
    native = engine(problem, compiled, watchdog.step if problem.n <= problem.m else tall.step)

    def work(starts: Array, which: Indices, turn: Any, x: Array, fun: Array, status: Any, nit: Any) -> None:
        for i in which.tolist():
            options = {"args": own(i), "method": "gauss-newton", "compiled": False, **common}
            try:
                sol = solve(F, jac, starts[i], target(i), **options)
                x[i], fun[i], status[i], nit[i] = sol.x, sol.fun, sol.status, sol.nit
            except BaseException as error:
                x[i] = getattr(error, "best", starts[i])
                if not isinstance(error, Exception):  # an exception of the user's functions ends this system only
                    raise

    shape = len(W0), problem.n
    interpreted = in_turns(work, shape, 1, nullcontext)
    if native is None:
        return interpreted
    limits = common["tol"], common["eps"], 200 if common["max_iter"] is None else common["max_iter"]
    targets = np.zeros(shape) if Y is None else Y
    quick = in_turns(native.batch(targets, args, each, limits), shape, workers, compiler().one_thread)

    return finished(quick, native.unfinished, interpreted)


def finished(quick: Run, unfinished: Callable[[Indices], Any], other: Run) -> Run:
    """A run by ``quick``, followed by ``other`` for the systems that ``quick`` does not finish."""

    def run(starts: Array, which: Indices, tick: Callable[[int], None]) -> BatchResult:
        result = quick(starts, which, tick)
        left = np.flatnonzero(unfinished(result.status))
        if left.size:
            with carrying(result.x):
                again = other(starts, which[left], lambda done: None)
            for before, after in zip(result, again, strict=True):
                before[left] = after
        return result

    return run


def in_turns(work: Callable[..., None], shape: tuple[int, int], workers: int, around: Callable[[], Any]) -> Run:
    """A run in which every thread takes the next system as soon as it is free."""

    def run(starts: Array, which: Indices, tick: Callable[[int], None]) -> BatchResult:
        k, n = shape
        x, fun = starts.copy(), np.full((k, n), np.nan)
        status, nit = np.full(k, FAILED), np.zeros(k, np.int64)

        def do(some: Indices, turn: Indices) -> None:
            work(starts, some, turn, x, fun, status, nit)

        with carrying(x), around():
            do(which[:0], np.zeros(1, np.int64))  # compiles the work, or loads it from the cache
            if workers > 1:
                in_threads(do, which, workers, tick)
            else:
                size = max(1, min(1024, which.size // 8))
                for start in range(0, which.size, size):
                    piece = which[start : start + size]
                    do(piece, np.zeros(1, np.int64))
                    tick(piece.size)
        return BatchResult(x=x[which], fun=fun[which], status=status[which], nit=nit[which], success=status[which] > 0)

    return run


@contextmanager
def carrying(x: Array) -> Iterator[None]:
    """Attach the best points of all systems to any exception raised inside, KeyboardInterrupt included."""
    try:
        yield
    except BaseException as error:
        with suppress(Exception):  # its class may not allow attributes
            error.best = x.copy()  # type: ignore[attr-defined]
        raise


def in_threads(
    do: Callable[[Indices, Indices], None], which: Indices, workers: int, tick: Callable[[int], None]
) -> None:
    turn, seen = np.zeros(1, np.int64), 0
    workers = min(workers, which.size)
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(do, which, turn) for _ in range(workers)]
        try:
            while wait(running, timeout=0.1).not_done:
                seen, before = min(turn.item(0), which.size), seen
                tick(seen - before)
            for done in running:
                done.result()
            tick(which.size - seen)
        finally:
            turn[0] = which.size  # no thread takes another system


def first_problem(F: Any, jac: Any, W0: Array, target: Any, own: Any, common: Any) -> Problem:
    """The first system whose start can be evaluated; if there is none, the exception of the first system is raised."""
    failure: Exception | None = None
    for i in range(len(W0)):
        try:
            given = {name: common[name] for name in ("bounds", "x_scale", "tol")}
            return Problem(F, jac, W0[i], target(i), args=own(i), names=Names(w0="W0", y="Y"), **given)
        except Exception as error:  # noqa: BLE001  # another system may be fine
            failure = failure or error
    assert failure is not None
    raise failure


def random_starts(W0: Array, bounds: Any, rng: Any) -> Array:
    """A new start for each system, which does not depend on how many of them are still unsolved."""
    uniform, normal = rng.random(W0.shape), rng.standard_normal(W0.shape)
    around = W0 + normal * np.maximum(1.0, np.abs(W0))
    if bounds is None:
        return around  # type: ignore[no-any-return]
    lower, upper = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    lower, upper = np.broadcast_to(lower, W0.shape), np.broadcast_to(upper, W0.shape)
    boxed = np.isfinite(lower) & np.isfinite(upper)
    low, high = np.where(boxed, lower, 0.0), np.where(boxed, upper, 0.0)
    return np.clip(np.where(boxed, low + uniform * (high - low), around), lower, upper)  # type: ignore[no-any-return]


def better(result: BatchResult, new: BatchResult, which: Indices) -> BatchResult:
    """The result, updated where a new run solved its system or came closer to a solution."""
    old = np.linalg.norm(result.fun[which], axis=1)
    closer = new.success | (np.linalg.norm(new.fun, axis=1) < np.where(np.isfinite(old), old, math.inf))
    for before, after in zip(result, new, strict=True):
        before[which[closer]] = after[closer]
    return result


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class bar:  # noqa: N801  # a context, like open
    """A progress bar over ``total`` systems, or nothing."""

    def __init__(self, shown: bool, total: int) -> None:
        self._bar = new_bar(total=total, unit="system") if shown else None

    def __enter__(self) -> Callable[[int], None]:
        return lambda done: None if self._bar is None else self._bar.update(done)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.close()
