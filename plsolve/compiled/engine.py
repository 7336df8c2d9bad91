"""Runs of `plsolve.loop.advance` in compiled code, on the problem that `solve` has checked."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numba import types

from plsolve import loop
from plsolve.compiled.bridges import callbacks
from plsolve.compiled.callbacks import NotCompilableError, arguments, arguments_of_each, interface
from plsolve.compiled.states import States, joined, members, put, read
from plsolve.compiled.system import (
    FAILED_DIFFERENCES,
    FAILED_F,
    FAILED_F_ROWS,
    FAILED_JAC,
    FLAGS,
    LATE,
    NOT_FINITE,
    PLACES,
    REALS,
    VECTORS,
    WORDS,
    problem_at,
    watched_step,
)
from plsolve.compiled.units import compiled
from plsolve.compiled.vectors import address_of, end_memory, peek, poke, start_memory
from plsolve.linalg import Array
from plsolve.loop import Native
from plsolve.methods import gradient_descent, momentum, nearest, sgd, tall, watchdog
from plsolve.problem import Problem
from plsolve.record import Record
from plsolve.stopping import Ended, Status

COMPILED = (watchdog.step, gradient_descent.step, momentum.step, sgd.step, nearest.step)
CHUNK = 1024  # states that are looked at together
NFEV = PLACES["nfev"]  # nfev, njev, nfev_jac and what failed are neighbours
KNOWN, ORIGIN, N, M, REAL, GENERATOR = (
    PLACES[name] for name in ("known_w", "numbers", "n", "m", REALS[0], "state_address")
)
_NO_ROWS = np.zeros(0, np.int64)
_SIGNATURE = (
    types.int64[::1], types.float64[::1], types.float64[:, ::1],  # frame, states, log
    types.int64, types.float64, types.int64, types.float64, types.boolean,
)  # fmt: skip
_REALS, _COUNTS = struct.Struct(f"{len(REALS)}d"), struct.Struct("4q")  # several times quicker than slices


def state_of(step: Any) -> Any:
    """The State of the method that makes such steps."""
    return sys.modules[step.__module__].State  # type: ignore[attr-defined]


@cache
def entry(step: Any) -> Any:
    """The compiled loop of a method: `loop.advance` on a frame and two states, which it replaces by the last ones.

    It gives the status, the number of states in the log, and whether the best state is the last one.
    """
    State, measure = state_of(step), loop.latest if step is nearest.step else loop.residual_norm
    attempt = watched_step if step is watchdog.step else step
    advance, size, known, origin = loop.advance, 8 * len(members(State)), 8 * KNOWN, 8 * ORIGIN

    def run(
        frame: Any, states: Any, log: Any, stop: int, enough: float, max_iter: int, until: float, same: bool
    ) -> Any:
        where, words, half = address_of(frame), address_of(states), 4 * states.size
        start_memory(where, max(peek(where + 8 * N), peek(where + 8 * M)))
        poke(where + origin, where + 8 * WORDS)
        problem = problem_at(where)
        s = read(State, where, words, words + size)
        best = s if same else read(State, where, words + half, words + half + size)
        poke(where + known, s.w.data if problem.known_J != 0 else 0)
        s, best, status, rows = advance(problem, attempt, measure, s, best, stop, enough, max_iter, until, log)
        put(s, words, words + size)
        put(best, words + half, words + half + size)
        same = s.w.data == best.w.data
        end_memory(where)
        return status, rows, same

    steps = compiled(run, step.__module__.rpartition(".")[2])
    steps.compile(_SIGNATURE)  # now, so that the first chunk has its time for itself
    return steps


@lru_cache(maxsize=256)
def template(
    addresses: tuple[int, ...], n: int, m: int, flags: tuple[bool, ...], others: tuple[int, int, int, int]
) -> bytes:
    """The frame of a problem with these callbacks, sizes and flags, but for its numbers.

    others: the sizes of the bounds, the scale, the norms of columns and the table of arguments, in words.
    """
    bound, scale, largest, table = others
    sizes = (m, n, n, bound, bound, scale, largest, m, m, table)
    frame = np.zeros(WORDS, np.int64)
    frame[PLACES["F"] : PLACES["F"] + len(addresses)] = addresses
    frame[N], frame[M] = n, m
    frame[PLACES[FLAGS[0]] : PLACES[FLAGS[0]] + len(flags)] = flags
    start = PLACES[VECTORS[0]]
    frame[start : start + 2 * len(sizes) : 2] = 8 * np.cumsum((0, *sizes[:-1]))  # from where the numbers begin
    frame[start + 1 : start + 1 + 2 * len(sizes) : 2] = sizes
    return frame.tobytes()


class Engine:
    """A problem in compiled code.

    Raises NotCompilableError where F, jac or args are not fit for it.
    """

    _left = False  # an interpreted run has been made since the frame was

    def __init__(self, problem: Problem, step: Any) -> None:
        F, jac, args, takes, full = problem.functions()
        if step is tall.step:
            raise NotCompilableError("the method for more equations than unknowns is not among what can be compiled")
        if step not in COMPILED:
            raise NotCompilableError("the method is not among what can be compiled")
        if (kind := problem.linear_solver.kind) in ("qr", "cg"):
            raise NotCompilableError(f"the linear solver {kind!r} is for interpreted runs")
        if jac is True or jac == "cs":
            raise NotCompilableError(f"`jac={jac!r}` is for interpreted functions")
        self._problem = problem
        self._args = arguments(args)  # keeps them alive
        self._batches = step is sgd.step
        batches, all_rows = takes if self._batches else (False, False), full[0] or full[1]
        self._callbacks = callbacks(F, jac if callable(jac) else None, self._args.kinds, full, batches)
        self._everything = np.arange(problem.n) if all_rows else _NO_ROWS
        self._failed_rows = np.zeros(problem.n, np.int64) if self._batches or all_rows else _NO_ROWS
        self._differences = not callable(jac), jac == "3-point", jac is None
        self._frame = self._build()

    def _build(self) -> Any:
        """The frame, with the numbers of its vectors behind it: what compiled code sees of the problem."""
        p = self._problem
        scale, largest = p.column_norms()
        vectors = (p.w0, p.y, p.r0, p.lower, p.upper, scale, largest, p.w0, p.best, self._args.table)
        flags = (p.bounded, *self._differences, p.single, p.unasked)
        sizes = p.lower.size, scale.size, largest.size, len(self._args.table) // 8
        frame = joined((template(self._callbacks.addresses, p.n, p.m, flags, sizes), *vectors)).view(np.int64)
        _REALS.pack_into(frame, 8 * REAL, p.size_y, p.target, p.least, p.deadline)  # type: ignore[arg-type]
        if self._batches:
            frame[GENERATOR : GENERATOR + 6] = interface(p.rng)
        frame[PLACES["scale"] + 1] = p.scale.size
        for name, indices in (("failed_rows", self._failed_rows), ("everything", self._everything)):
            if indices.size:
                frame[PLACES[name] : PLACES[name] + 2] = indices.ctypes.data, indices.size
        return frame

    def _vector(self, name: str) -> Array:
        """The vector of the frame, a copy."""
        place, size = self._frame[PLACES[name] : PLACES[name] + 2].tolist()
        start = WORDS + place // 8
        return self._frame[start : start + size].view(np.float64).copy()

    def _leave(self) -> None:
        """Let the problem know what compiled runs have found, before an interpreted one."""
        p, frame = self._problem, self._frame
        p.best, p.least = self._vector("best"), float(frame[PLACES["least"] : PLACES["least"] + 1].view(np.float64)[0])
        p.take_norms(self._vector("largest"), bool(frame[PLACES["scale"] + 1]))
        self._left = True

    def run(self, step: Any, record: Record) -> Native | None:
        """The compiled run of a method: it makes many steps at a time, but no longer than for 0.1 s.

        So Ctrl-C and the limit of time are heeded. None: the method is to be interpreted.
        """
        if step not in COMPILED:
            self._leave()
            return None
        if self._left:
            self._frame, self._left = self._build(), False
        steps, problem, frame = entry(step), self._problem, self._frame

        def run(s: Any, best: Any, stop: int, enough: float, max_iter: int) -> tuple[Any, int]:
            J = problem.known(s.w)  # kept alive
            known = 0 if J is None else J.__array_interface__["data"][0]
            _COUNTS.pack_into(frame, 8 * NFEV, problem.nfev, problem.njev, problem.nfev_jac, 0)
            states, same = States(s, best), s is best
            log = np.empty((1 if record.every else min(CHUNK, max_iter + 1), loop.ROW))
            status, stop = loop.CHUNK, int(stop)
            try:
                while status == loop.CHUNK:
                    limits = (stop, enough, max_iter, loop.clock() + 0.1)
                    frame[KNOWN + 1] = known
                    status, rows, same = steps(frame, states.numbers, log, *limits, same)
                    known = 0
                    problem.nfev, problem.njev, problem.nfev_jac, failure = _COUNTS.unpack_from(frame, 8 * NFEV)
                    if rows:
                        s = states.state(0)
                        stop = int(record.extend(s, log[:rows]))
            except BaseException:  # of the callback, or Ctrl-C
                problem.best = self._vector("best")
                raise
            best = s if same else states.state(1)
            if failure:
                problem.best = self._vector("best")
                problem.repeat = partial(self._repeat, failure)  # type: ignore[method-assign]
            return best, status

        return run

    def batch(
        self, Y: Array, args: tuple[Any, ...], each: tuple[Any, ...], limits: tuple[Any, ...]
    ) -> Callable[..., None]:
        """What solves some of many systems that differ from this one in start, target and the arguments `each`.

        It is called with the starts (k, m), the numbers of the systems, a counter that tells all threads whose turn
        it is, and x, fun, status and nit of all k systems, which it fills in.
        """
        from plsolve.compiled.whole import batch  # compiled when it is needed

        p = self._problem
        tables, kept = arguments_of_each(args, each, len(Y))
        frame, start = self._frame[:WORDS].copy(), PLACES[VECTORS[0]]
        frame[start : start + 2 * len(VECTORS) : 2] += self._frame[WORDS:].ctypes.data
        scale, norms = p.column_norms()
        alive = self, kept  # the frame and the tables point to them

        def work(starts: Array, which: Any, turn: Any, *results: Any) -> None:
            assert alive
            batch(frame.copy(), starts, Y, tables, scale, norms.size > 0, *limits, which, turn, *results)

        return work

    def _repeat(self, failed: int) -> None:
        """Call the function that failed from Python, for its exception."""
        p, w, rows = self._problem, self._vector("failed_w"), self._failed_rows
        if failed == LATE:
            raise Ended(Status.MAX_TIME)
        if failed in (FAILED_F, FAILED_DIFFERENCES):
            p.residual(w)
        elif failed == FAILED_F_ROWS:
            p.residual_rows(w, rows)
        elif failed in (FAILED_JAC, NOT_FINITE):
            p.njev -= 1
            p.linearise(w, p.r0, False)
        else:
            p.linearise_rows(w, rows)
        raise RuntimeError("F or jac failed in compiled code, but not when it was called again at the same point.")
