"""Gauss-Newton of small dense systems in compiled code: for `plsolve.solve` and `plsolve.solve_batch`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numba import types

from plsolve import _loop as loop
from plsolve._compiled import evaluation, kernel, model, steps
from plsolve._compiled import memory as k
from plsolve._compiled.cache import address as compiled_unit
from plsolve._compiled.cache import entry
from plsolve._compiled.functions import NotCompilableError, arguments, arguments_of_each, as_matrix, functions
from plsolve._compiled.kernel import advance, whole
from plsolve._compiled.memory import System, blank, system
from plsolve._compiled.words import address, data, take
from plsolve._linalg import Array, norm
from plsolve._loop import Native, Place
from plsolve._problem import Problem
from plsolve._record import Record
from plsolve._state import Start
from plsolve._stopping import JACOBIAN_NOT_FINITE, RUNNING, Ended, Status
from plsolve.methods import tall, watch, watchdog

CHUNK = 128  # steps made between two checks of the record
PAUSE = 0.1  # seconds at most between two checks of the callback, Ctrl-C and the clock
ROWS, ENTRIES = 80, 1 << 14  # min(n, m) and n m at most: beyond, BLAS is faster (measured: 60 x 120 and 100 x 200)
UNCURVED = 50  # iterations for n > m before the method with the curvature of the residual takes over
NO_ROWS = np.zeros(0, np.int64)
OWN = (
    *("n", "m", "width", "height", "F", "jac", "args", "rows", "count", "now", "cut", "within_bounds", "differences"),
    *("rescale", "deadline", "nfev", "njev", "nfev_jac"),
)  # numbers of a system that are not those of an earlier process


GOES_ON = loop.CHUNK, int(Status.MAX_ITER), int(Status.MAX_TIME)  # the kernel has ended between two steps
LAYOUT = crc32(f"{k.WHOLES} {k.REALS} {k.ROWS_OF_V}".encode())


class Kept(NamedTuple):
    """A point of a run, as `Start`, and the memory of the kernel, with which the run can go on from there."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float
    checked: bool
    pl: float
    beta_seen: float
    layout: int  # of the memory
    memory: Array


class Engine:
    """A problem in compiled code.

    Raises NotCompilableError if the problem, F, jac or args cannot be used in compiled code.

    Attributes
    ----------
    kept : type
        The class of the states from which a compiled run can go on.
    """

    kept = Kept

    def __init__(self, problem: Problem, step: Any) -> None:
        F, jac, args, _, full = problem.system.functions()
        n, m = problem.n, problem.m
        if step not in (watchdog.step, tall.step):
            raise NotCompilableError("this method is for interpreted runs")
        if (kind := problem.linear_solver.kind) in ("qr", "cg"):
            raise NotCompilableError(f"the linear solver {kind!r} is for interpreted runs")
        if jac is True or jac == "cs":
            raise NotCompilableError(f"`jac={jac!r}` is for interpreted functions")
        if min(n, m) > ROWS or n * m > ENTRIES:
            raise NotCompilableError(f"{n} equations in {m} unknowns are solved faster by the interpreted run")
        self._problem, self._args = problem, arguments(args)
        self._functions = functions(F, jac if callable(jac) else None, self._args.kinds, full, as_matrix)
        self._rows = np.arange(n) if full[0] or full[1] else NO_ROWS
        differences = None if callable(jac) else str(jac or "refined")
        memory = template(self._functions.addresses, n, m, problem.bounded, differences)
        self._system = System(memory.copy(), n, m)
        self._known = 0, 0, 0  # calls of F, Jacobians and calls for differences that were counted before
        self._fill()

    def _fill(self) -> None:
        """Copy the data of the problem into the kernel's memory."""
        p, s, V = self._problem, self._system.state, self._system.V
        s.args = self._args.address
        if self._rows.size:
            s.rows, s.count = address(self._rows), self._rows.size
        s.tol, s.coarse = p.goal.tol, p.goal.coarse
        s.size_y, s.size0, s.top = p.size_y, p.size0, norm(p.r0)
        s.precision, s.sure = p.system.precision, p.goal.sure
        V[k.Y, : p.n], V[k.W0, : p.m] = p.system.y, p.w0
        if p.bounded:
            V[k.LOWER, : p.m], V[k.UPPER, : p.m] = p.lower, p.upper
        self._scale()

    def _scale(self) -> None:
        """Copy the scale of the problem, which an interpreted stage may have changed."""
        s, V = self._system.state, self._system.V
        metric, m = self._problem.metric, self._problem.m
        largest = metric.column_norms(self._problem.n)
        if metric.scale.size or largest.size:
            V[k.SCALE, :m] = metric.scale if metric.scale.size else 1.0
            V[k.WEIGHT, :m] = 1.0 / V[k.SCALE, :m] ** 2
        if largest.size:
            V[k.LARGEST, :m] = largest
            s.scaling, s.rescale = 2 if metric.unasked else 1, unit(evaluation.rescale)

    def run(self, step: Any, record: Record) -> Native | None:
        """The compiled run of a method, which makes many steps at a time, for at most PAUSE seconds.

        None: the method runs interpreted.
        """
        if step is watchdog.step:
            return partial(self._run, record)
        return partial(self._tall, record) if step is tall.step and self._problem.n > self._problem.m else None

    def _run(self, record: Record, at: Place, enough: float, max_iter: int) -> tuple[Any, int]:
        stop = at.stop
        self._begin(at.s)
        self._keep(last=True)
        state, memory = self._system.state, self._system.address
        log, run, status = np.empty((1 if record.every else CHUNK, loop.ROW)), runner(), loop.CHUNK
        place, end = address(log), None
        try:
            while status == loop.CHUNK:
                if stop != RUNNING:
                    solved = run(memory, place, len(log), enough, 0, math.inf) == RUNNING
                    status = RUNNING if solved else stop
                    break
                status = run(memory, place, len(log), enough, max_iter, time.monotonic() + PAUSE)
                self._counted()
                end = self._state(k.W, k.R) if state.logged > 0 else None
                if end is not None:
                    stop = int(record.extend(end, log[: state.logged]))
                if status in GOES_ON:
                    self._keep(last=status != loop.CHUNK or stop != RUNNING)
        finally:
            if end is None or (state.size > state.least and status != Status.DISTANCE):
                end = self._state(k.W_BEST, k.R_BEST)
            self._leave(end)
        return end, self._failed(state.error) if status == loop.FAILURE else status

    def _tall(self, record: Record, at: Place, enough: float, max_iter: int) -> tuple[Any, int]:
        """n > m: first without the curvature of the residual, then with it, from the point reached."""
        p = self._problem
        if not isinstance(at.s, tall.State) or at.s.nit == 0:
            end, status = self._run(record, at, enough, min(max_iter, UNCURVED))
            if not (status == Status.STALLED or (status == Status.MAX_ITER and end.nit < max_iter)):
                return end, status
            s = tall.init(p, float(self._system.state.beta), end)._replace(nit=end.nit)
            at = Place(s=s, best=s, least=norm(s.r))
        return loop.advance(p, tall.step, record, loop.residual_norm, at, enough, max_iter)

    def _keep(self, last: bool) -> None:
        """Show the present point to the keeper of the run; last: the run ends here."""
        keeper = self._problem.run.keeper
        if keeper is not None:
            s = Kept(**self._state(k.W, k.R)._asdict(), layout=LAYOUT, memory=self._system.memory.copy())
            keeper.keep(s, s, norm(s.r), last)

    def _begin(self, s: Any) -> None:
        """Copy the state from which a run starts into the kernel's memory."""
        if isinstance(s, Kept):
            self._go_on(s)
            return
        p, state, V = self._problem, self._system.state, self._system.V
        known = getattr(s, "watch", None)
        state.plan, state.root = (known.plan, known.root) if known is not None else (watch.ALONE, True)
        state.nit, state.size, state.deadline, state.target = s.nit, norm(s.r), p.run.deadline, p.target
        state.beta = getattr(getattr(s, "at", s), "beta", 0.0)
        V[k.W, : p.m], V[k.R, : p.n] = s.w, s.r
        state.nfev, state.njev, state.nfev_jac = self._known = p.system.nfev, p.system.njev, p.system.nfev_jac
        J = p.known(s.w)
        V[k.W_J, 0] = math.nan
        if J is not None:
            self._system.J[:], V[k.W_J, : p.m] = J, s.w
        if s.nit > 0:
            self._scale()
        state.phase = kernel.FRESH

    def _go_on(self, s: Kept) -> None:
        """Take over the memory of an earlier process, except for what belongs to this one."""
        p, own = self._problem, self._system
        if s.layout != LAYOUT or s.memory.size != own.memory.size:
            raise ValueError("`checkpoint` was written by another version of plsolve.")
        own.state.deadline = p.run.deadline
        self._known = p.system.nfev, p.system.njev, p.system.nfev_jac
        own.state.nfev, own.state.njev, own.state.nfev_jac = self._known
        earlier = System(s.memory.copy(), p.n, p.m)
        for name in OWN:
            setattr(earlier.state, name, getattr(own.state, name))
        own.memory[:] = earlier.memory

    def _state(self, w: int, r: int) -> Start:
        s, vector = self._system.state, self._system.vector
        return Start(vector(w), vector(r), nit=s.nit, step=s.step, pl=s.pl, beta_seen=s.beta_seen)

    def _counted(self) -> None:
        """Add the calls that the kernel has made since it was last asked; the record makes calls of its own between."""
        s = self._system.state
        now = s.nfev, s.njev, s.nfev_jac
        self._problem.system.count(*(after - before for after, before in zip(now, self._known, strict=True)))
        self._known = now

    def _leave(self, end: Start) -> None:
        """Pass the results of the run on to the problem."""
        p, s, V = self._problem, self._system.state, self._system.V
        p.run.offer(end.w, end.r, s.least)
        if s.scaling:
            p.metric.take_norms(V[k.LARGEST, : p.m].copy(), bool((V[k.SCALE, : p.m] != 1.0).any()))

    def _failed(self, what: int) -> int:
        """The status of a run that ends with a failure; the function that failed is called again for its exception."""
        p, w = self._problem, self._system.vector(k.W_FAILED)
        if what == evaluation.LATE:
            return int(Status.MAX_TIME)
        try:
            if what in (evaluation.FAILED_F, evaluation.FAILED_DIFFERENCES):
                p.residual(w)
            else:
                p.system.count(njev=-int(p.system.njev == 1))  # the first one, which is refused by name
                p.linearise(w, p.r0, False)
        except Ended as end:
            return p.run.end(end)
        if what == evaluation.NOT_FINITE:
            return p.run.end(Ended(Status.STALLED, JACOBIAN_NOT_FINITE))
        raise RuntimeError("F or jac failed in compiled code, but not when it was called again at the same point.")

    def unfinished(self, status: Any) -> Any:
        """Marks the systems of a batch that need the interpreted method with the curvature of the residual."""
        stopped = (status == Status.STALLED) | (status == Status.MAX_ITER)
        return stopped & (self._problem.n > self._problem.m)

    def batch(
        self, Y: Array, args: tuple[Any, ...], each: tuple[Any, ...], limits: tuple[Any, ...]
    ) -> Callable[..., None]:
        """A function that solves some of k systems with different starts, targets and arguments `each`.

        Its arguments are the starts (k, m), the numbers of the systems, a counter for the next system that all threads
        share, and the arrays x, fun, status and nit of all k systems, which it fills in.
        """
        n, m = self._problem.n, self._problem.m
        tol, eps, max_iter = limits
        limits = tol, eps, max_iter if n <= m else min(max_iter, UNCURVED)
        tables, kept = arguments_of_each(args, each, len(Y))
        numbers, many = np.array(limits, np.float64), batcher()
        alive = self, kept  # the system and the tables point to them

        def work(starts: Array, which: Any, turn: Any, *results: Any) -> None:
            assert alive
            own = System(self._system.memory.copy(), n, m)
            many(own.address, starts, Y, tables, numbers, which, turn, *results)

        return work


@lru_cache(maxsize=64)
def template(addresses: tuple[int, int], n: int, m: int, bounded: bool, differences: str | None) -> Array:
    """The memory of systems with these functions, of this size and kind."""
    system = System(blank(n, m), n, m)
    s = system.state
    s.F, s.jac = addresses
    s.bounded = bounded
    s.differenced, s.central, s.refined = (
        differences is not None,
        differences == "3-point",
        differences == "refined",
    )
    if bounded:
        s.cut, s.within_bounds = unit(model.cut), unit(steps.within_bounds)
    if differences:
        s.differences = unit(evaluation.differences)
    return system.memory


def unit(function: Any) -> int:
    """The address of a unit that only some runs need."""
    return compiled_unit(function.symbol)  # type: ignore[no-any-return]


@cache
def runner() -> Any:
    def run(S: int, log: int, size: int, enough: float, max_iter: int, until: float) -> int:
        return advance(S, log, size, enough, max_iter, until)

    return entry(run, (types.int64, types.int64, types.int64, types.float64, types.int64, types.float64))


@cache
def batcher() -> Any:
    numbers, words = types.float64[:, ::1], types.int64[::1]
    tables = types.Array(types.int64, 2, "C")
    return entry(
        many,
        (types.int64, numbers, numbers, tables, types.float64[::1], words, words, numbers, numbers, words, words),
    )


def many(
    S: int, starts: Any, Y: Any, tables: Any, limits: Any, which: Any, turn: Any, x: Any, fun: Any, status: Any,
    nit: Any,
) -> None:  # fmt: skip
    """Solve systems, always the next in the shared counter; limits: tol, eps and max_iter."""
    s, V, J = system(S)
    t = take(turn)
    while t < which.size:
        i = which[t]
        V[k.LARGEST, 0] = 0.0
        for j in range(J.shape[1]):
            V[k.W, j] = starts[i, j]
        for j in range(J.shape[0]):
            V[k.Y, j] = Y[i, j]
        s.args = data(tables) + 8 * i * tables.shape[1]
        status[i] = whole(S, limits[0], limits[1], int(limits[2]))
        nit[i] = s.nit
        for j in range(J.shape[1]):
            x[i, j] = V[k.W_BEST, j]
        for j in range(J.shape[0]):
            fun[i, j] = V[k.R_BEST, j]
        t = take(turn)
