"""Runs of `plsolve.loop.advance` in compiled code, on the problem that `solve` has checked."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, get_type_hints

import numpy as np

from plsolve import loop
from plsolve.compiled.callbacks import NotCompilableError, address, arguments, arguments_of_each, callback, interface
from plsolve.compiled.system import (
    FAILED_DIFFERENCES,
    FAILED_F,
    FAILED_F_ROWS,
    FAILED_JAC,
    LATE,
    NUMBERS,
    PLACES,
    REALS,
    VECTORS,
    WORDS,
    members,
    problem_at,
    put,
    read,
    words_of,
)
from plsolve.compiled.units import compiled
from plsolve.compiled.vectors import address_of, end_memory, poke, start_memory
from plsolve.linalg import Array
from plsolve.loop import Native
from plsolve.methods import nearest, sgd, tall
from plsolve.problem import Problem
from plsolve.record import Record
from plsolve.stopping import Ended, Status

CHUNK = 1024  # states that are looked at together
NFEV, KNOWN = PLACES["nfev"], PLACES["known_w"]  # nfev, njev, nfev_jac and what failed are neighbours
_NONE = np.zeros(0)
_NO_ROWS = np.zeros(0, np.int64)
_NO_GENERATOR = [0] * 6


def state_of(step: Any) -> Any:
    """The State of the method that makes such steps."""
    return sys.modules[step.__module__].State  # type: ignore[attr-defined]


@cache
def entry(step: Any) -> Any:
    """The compiled loop of a method: `loop.advance` on a frame and two states, which it replaces by the last ones."""
    State, measure = state_of(step), loop.distance if step is nearest.step else loop.residual_norm
    advance, second, known = loop.advance, 8 * words_of(State), 8 * KNOWN

    def run(
        frame: Any, states: Any, log: Any, stop: int, enough: float, max_iter: int, until: float, block: int
    ) -> Any:
        where, there = address_of(frame), address_of(states)
        start_memory(where, block)
        problem = problem_at(where)
        s, best = read(State, where, there), read(State, where, there + second)
        if problem.known_J != 0:
            poke(where + known, s.w.data)
        s, best, status, rows = advance(problem, step, measure, s, best, stop, enough, max_iter, until, log)
        put(s, there)
        put(best, there + second)
        end_memory(where)
        return status, rows

    return compiled(run, step.__module__.rpartition(".")[2])


class Layout:
    """How the states of a method are written as words."""

    def __init__(self, State: Any) -> None:
        self.kinds = [kind for _, kind in members(State)]
        letters = {np.ndarray: "qq", float: "d", int: "q", bool: "q"}
        self.format = struct.Struct("".join(letters[kind] for kind in self.kinds))
        self._flat = eval(f"lambda s: ({', '.join(name for name, _ in members(State))},)")
        self._scope: dict[str, Any] = {}
        self._made = eval(f"lambda t: {self._source(State, iter(range(len(self.kinds))))}", self._scope)

    def _source(self, State: Any, places: Any) -> str:
        name = f"State{len(self._scope)}"
        self._scope[name] = State
        parts = []
        for kind in get_type_hints(State).values():
            if hasattr(kind, "_fields"):
                parts.append(self._source(kind, places))
            else:
                parts.append(f"bool(t[{next(places)}])" if kind is bool else f"t[{next(places)}]")
        return f"{name}({', '.join(parts)})"

    def memory(self, *states: Any) -> Any:
        """The words of these states, one after the other, followed by the numbers of their vectors."""
        numbers = [x.size for s in states for x in self._flat(s) if isinstance(x, np.ndarray)]
        area: Any = np.empty(len(states) * (self.format.size // 8) + sum(numbers), np.int64)
        base, place, floats = area.__array_interface__["data"][0], area.size - sum(numbers), area.view(np.float64)
        for k, s in enumerate(states):
            words: list[Any] = []
            for value, kind in zip(self._flat(s), self.kinds, strict=True):
                if kind is np.ndarray:
                    words += (base + 8 * place, value.size)
                    floats[place : place + value.size] = value
                    place += value.size
                else:
                    words.append(int(value) if kind is bool else value)
            self.format.pack_into(area, k * self.format.size, *words)
        return area

    def state(self, area: Any, k: int) -> Any:
        """The k-th state in such memory, a copy."""
        base, floats = area.__array_interface__["data"][0], area.view(np.float64)
        words = iter(self.format.unpack_from(area, k * self.format.size))
        values = []
        for word, kind in zip(words, self.kinds, strict=False):
            if kind is np.ndarray:
                place = (word - base) // 8
                values.append(floats[place : place + next(words)].copy())
            else:
                values.append(word)
        return self._made(values)


layout_of = cache(Layout)


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
        self._everything = np.arange(problem.n) if all_rows else _NO_ROWS
        self._failed_rows = np.zeros(problem.n, np.int64) if self._batches or all_rows else _NO_ROWS
        differences = (not exact, jac == "3-point", jac is None)
        self._frame = self._build(differences)

    def _build(self, differences: tuple[bool, bool, bool]) -> Any:
        """The frame with its vectors behind it: what compiled code sees of the problem."""
        p = self._problem
        scale, largest = p.column_norms()
        vectors = (p.w0, p.y, p.r0, p.lower, p.upper, scale, largest, p.w0, p.best)
        frame: Any = np.zeros(WORDS + sum(x.size for x in vectors), np.int64)
        base, floats, place = frame.__array_interface__["data"][0], frame.view(np.float64), WORDS
        rng = interface(p.rng) if self._batches else _NO_GENERATOR
        flags = (p.bounded, *differences, p.single)
        words = [*map(address, self._callbacks), p.n, p.m, 0, 0, 0, 0, *rng, 0, 0, 0, 0, *flags]
        start = PLACES[NUMBERS[0]]
        frame[start : start + len(words)] = words
        start = PLACES[REALS[0]]
        floats[start : start + len(REALS)] = p.size_y, p.target, p.least, p.deadline
        words = []
        for x in vectors:
            words += (base + 8 * place, x.size)
            floats[place : place + x.size] = x
            place += x.size
        for indices in (self._args.table, self._failed_rows, self._everything):
            words += (indices.__array_interface__["data"][0], indices.size)
        start = PLACES[VECTORS[0]]
        frame[start : start + len(words)] = words
        return frame

    def _vector(self, name: str) -> Array:
        """A vector of the frame."""
        place, size = self._frame[PLACES[name] : PLACES[name] + 2].tolist()
        start = (place - self._frame.__array_interface__["data"][0]) // 8
        return self._frame.view(np.float64)[start : start + size]  # type: ignore[no-any-return]

    def run(self, step: Any, record: Record) -> Native:
        """The compiled run of a method: it makes many steps at a time, but no longer than for 0.1 s.

        So Ctrl-C and the limit of time are heeded.
        """
        steps, problem, frame, layout = entry(step), self._problem, self._frame, layout_of(state_of(step))
        block = max(problem.n, problem.m)

        def run(s: Any, best: Any, stop: int, enough: float, max_iter: int) -> tuple[Any, int]:
            J = problem.known(s.w)  # kept alive
            frame[KNOWN + 1] = 0 if J is None else J.__array_interface__["data"][0]
            frame[NFEV : NFEV + 4] = problem.nfev, problem.njev, problem.nfev_jac, 0
            states = layout.memory(s, best)
            log = np.empty((1 if record.every else min(CHUNK, max_iter + 1), loop.ROW))
            status, rows, stop = loop.CHUNK, 1, int(stop)
            while status == loop.CHUNK and (rows or not problem.late()):
                until = min(problem.deadline, loop.clock() + 0.1)
                status, rows = steps(frame, states, log, stop, enough, max_iter, until, block)
                problem.nfev, problem.njev, problem.nfev_jac, failure = frame[NFEV : NFEV + 4].tolist()
                frame[KNOWN] = frame[KNOWN + 1] = 0
                if rows:
                    problem.best = self._vector("best")
                    s = layout.state(states, 0)
                    stop = int(record.extend(s, log[:rows]))
            best = layout.state(states, 1)
            problem.best = self._vector("best").copy()
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

        p, frame = self._problem, self._frame
        tables, kept = arguments_of_each(args, each, len(Y))
        scale, norms = p.column_norms()

        def work(starts: Array, which: Any, stop: Any, *results: Any) -> None:
            assert kept is not None  # the tables point to it
            batch(frame[:WORDS].copy(), starts, Y, tables, scale, norms.size > 0, *limits, which, stop, *results)

        return work

    def _repeat(self, failed: int) -> None:
        """Call the function that failed from Python, for its exception."""
        p, w, rows = self._problem, self._vector("failed_w").copy(), self._failed_rows
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
