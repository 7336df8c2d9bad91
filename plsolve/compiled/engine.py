"""Runs of `plsolve.loop.advance` in compiled code, on the problem that `solve` has checked."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np

from plsolve import loop
from plsolve.compiled.callbacks import (
    NotCompilableError,
    address,
    arguments,
    arguments_of_each,
    as_number,
    callback,
    interface,
)
from plsolve.compiled.system import (
    FAILED_DIFFERENCES,
    FAILED_F,
    FAILED_F_ROWS,
    FAILED_JAC,
    LATE,
    LEAST,
    NFEV,
    build_frame,
    fields,
    problem_at,
)
from plsolve.compiled.units import compiled
from plsolve.linalg import Array
from plsolve.loop import Native
from plsolve.methods import nearest, sgd, tall
from plsolve.problem import Problem
from plsolve.record import Record
from plsolve.stopping import Ended, Status

CHUNK = 1024  # states that are looked at together
COUNTERS = 4  # nfev, njev, nfev_jac, and what failed: neighbours in the frame
_NONE = np.zeros(0)
_NO_ROWS = np.zeros(0, np.int64)
_NO_GENERATOR = [0] * 6


def state_of(step: Any) -> Any:
    """The State of the method that makes such steps."""
    return sys.modules[step.__module__].State  # type: ignore[attr-defined]


@cache
def entry(step: Any) -> Any:
    """The compiled loop of a method: `loop.advance` on the fields of a problem and of two states."""
    State, measure = state_of(step), loop.distance if step is nearest.step else loop.residual_norm
    advance = loop.advance

    def run(
        numbers: Any, reals: Any, vectors: Any, indices: Any, s: Any, best: Any,
        stop: int, enough: float, max_iter: int, until: float, log: Any, counts: Any,
    ) -> Any:  # fmt: skip
        frame = build_frame(numbers, reals, vectors, indices)
        for i in range(COUNTERS):
            frame[NFEV + i] = counts[i]
        problem = problem_at(frame.ctypes.data)
        s, best = State(*s), State(*best)
        s, best, status, rows = advance(problem, step, measure, s, best, stop, enough, max_iter, until, log)
        for i in range(COUNTERS):
            counts[i] = frame[NFEV + i]
        reals[2] = as_number(frame[LEAST])
        return fields(s), fields(best), status, rows

    return compiled(run, step.__module__.rpartition(".")[2])


class Engine:
    """A problem in compiled code.

    Raises NotCompilableError where F, jac or args are not fit for it.
    """

    def __init__(self, problem: Problem, step: Any) -> None:
        F, jac, args, rows_F, rows_jac, all_rows = problem.functions()
        if step is tall.step:
            raise NotCompilableError("the method for more equations than unknowns is not among what can be compiled")
        if (kind := problem.linear_solver.kind) in ("qr", "cg"):
            raise NotCompilableError(f"the linear solver {kind!r} is for interpreted runs")
        if jac is True or jac == "cs":
            raise NotCompilableError(f"`jac={jac!r}` is for interpreted functions")
        self._problem = problem
        self._args = arguments(args)  # keeps them alive
        kinds = self._args.kinds
        self._batches = step is sgd.step
        exact, full_F, full_jac = callable(jac), "F" in all_rows, "jac" in all_rows
        self._callbacks = (  # kept, since they own the code at their addresses
            callback(F, kinds, matrix=False, rows=full_F),
            callback(jac, kinds, matrix=True, rows=full_jac) if exact else None,
            callback(F, kinds, matrix=False, rows=True) if rows_F and self._batches else None,
            callback(jac, kinds, matrix=True, rows=True) if rows_jac and self._batches else None,
        )
        self._differences = (not exact, jac == "3-point", jac is None)
        self._counts = np.zeros(COUNTERS, np.int64)
        self._failed_w = np.zeros(problem.m)
        self._best = np.array(problem.best)
        self._failed_rows = np.zeros(problem.n, np.int64) if self._batches or all_rows else _NO_ROWS
        self._everything = np.arange(problem.n) if all_rows else _NO_ROWS

    def run(self, step: Any, record: Record) -> Native:
        """The compiled run of a method: it makes many steps at a time, but no longer than for 0.1 s.

        So Ctrl-C and the limit of time are heeded.
        """
        steps, problem, counts, State = entry(step), self._problem, self._counts, state_of(step)

        def run(s: Any, best: Any, stop: int, enough: float, max_iter: int) -> tuple[Any, int]:
            known = problem.known(s.w)
            system = self._system(s.w, known)
            log = np.empty((1 if record.every else min(CHUNK, max_iter + 1), loop.ROW))
            status, rows = loop.CHUNK, 1
            while status == loop.CHUNK and (rows or not problem.late()):
                until = min(problem.deadline, loop.clock() + 0.1)
                counts[:] = problem.nfev, problem.njev, problem.nfev_jac, 0
                limits = (int(stop), enough, max_iter, until)
                s, best, status, rows = steps(*system, tuple(s), tuple(best), *limits, log, counts)
                problem.nfev, problem.njev, problem.nfev_jac, failure = counts.tolist()
                problem.best = self._best
                s, best = State(*s), State(*best)
                stop = record.extend(s, log[:rows]) if rows else stop
            if failure:
                problem.repeat = partial(self._repeat, failure)  # type: ignore[method-assign]
            return best, status

        return run

    def batch(
        self, Y: Array, args: tuple[Any, ...], each: tuple[Any, ...], limits: tuple[Any, ...]
    ) -> Callable[..., None]:
        """What solves some of many systems that differ from this one in start, target and the arguments `each`.

        It is called with the starts (k, m), the numbers of the systems, a flag that stops it, and x, fun, status and
        nit of all k systems, which it fills in.
        """
        from plsolve.compiled.whole import batch  # compiled when it is needed

        p = self._problem
        numbers, everything = self._system()[0], self._everything
        tables, kept = arguments_of_each(args, each, len(Y))
        scale, norms = p.column_norms()

        def work(starts: Array, which: Any, stop: Any, *results: Any) -> None:
            assert kept is not None  # the tables point to it
            shared = (p.lower, p.upper, scale, norms.size > 0, everything, *limits)
            batch(numbers, starts, Y, tables, *shared, which, stop, *results)

        return work

    def _system(self, w: Array = _NONE, J: Array | None = None) -> tuple[Any, ...]:
        """What `build_frame` takes, in the order of NUMBERS and FLAGS, REALS, VECTORS, INDICES; J is known at w."""
        p = self._problem
        scale, largest = p.column_norms()
        rng = interface(p.rng) if self._batches else _NO_GENERATOR
        known = (0, 0) if J is None else (w.ctypes.data, J.ctypes.data)
        numbers = (
            *map(address, self._callbacks),
            p.n,
            p.m,
            0,
            0,
            0,
            0,
            *rng,
            *known,
            p.bounded,
            *self._differences,
            p.single,
        )
        vectors = (p.w0, p.y, p.r0, p.lower, p.upper, scale, largest, self._failed_w, self._best)
        return (
            np.array(numbers, np.int64),
            np.array([p.size_y, p.target, p.least, p.deadline]),
            vectors,
            (self._args.table, self._failed_rows, self._everything),
        )

    def _repeat(self, failed: int) -> None:
        """Call the function that failed from Python, for its exception."""
        p, w, rows = self._problem, self._failed_w, self._failed_rows
        if failed == LATE:
            raise Ended(Status.MAX_TIME)
        if failed in (FAILED_F, FAILED_DIFFERENCES):
            p.residual(w)
        elif failed == FAILED_F_ROWS:
            p.residual_rows(w, rows)
        elif failed == FAILED_JAC:
            p.njev -= 1
            p.linearise(w, p.r0, False)
        else:
            p.linearise_rows(w, rows)
        raise RuntimeError("F or jac failed in compiled code, but not when it was called again at the same point.")
