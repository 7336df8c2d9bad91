"""The progress of a run, the criteria for a solved system, and the reason why the run ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from plsolve import _clock
from plsolve._linalg import Array, norm
from plsolve._stopping import Ended, Status

if TYPE_CHECKING:
    from plsolve._problem import Problem

SMALL = 1e-6  # of the terms of F: a smaller residual counts as zero


class Keeper(Protocol):
    """Keeps the places from which a run can go on later: see `plsolve._checkpoint`."""

    def begin(self, stage: int, before: Any) -> None:
        """A stage begins; before: the best state of those before it, or None."""

    def keep(self, s: Any, best: Any, least: float, last: bool = False) -> None:
        """The run can go on from s; best, least: the best state of the stage, and its measure; last: it ends here."""

    def due(self) -> bool:
        """Whether it is time to write the next place."""

    def within(self, s: Any) -> None:
        """The run can go on from s within a step; the best state is still that of the last call of `keep`."""


class Run:
    """The best point so far, the time, and the reason why the run ended.

    Attributes
    ----------
    best, best_residual, least : ndarray (m,), ndarray (n,), float
        The best point at which F was evaluated (points of differences do not count), r there, and ||r||.
    value : float
        The measure of the best point where that is not ||r||, but the method's own; else inf.
    note : str
        The reason why the run ended, where the status is not enough.
    theirs : callable
        Calls F, jac and callback with the settings for floating-point errors that the user has outside.
    keeper : Keeper or None
        Sees each place from which the run can go on.
    """

    least = value = math.inf
    best_residual: Array
    note = ""
    keeper: Keeper | None = None
    _inside = False
    _reserve = 0.0  # seconds

    def __init__(self, w0: Array, deadline: float) -> None:
        self.best = w0
        self._begun, self.deadline = _clock.now(), deadline
        self.theirs: Callable[..., Any] = copy_context().run

    def offer(self, w: Array, r: Array, size: float) -> None:
        """Keep the point, at which F was evaluated, if it is the best so far; size = ||r||."""
        if size < self.least:
            self.best, self.best_residual, self.least = w, r, size

    def settle(self, w: Array, r: Array, value: float) -> None:
        """Keep the point if it is the best so far by another measure than ||r||, which does not count from then on."""
        if value <= self.value:
            self.best, self.best_residual, self.least, self.value = w, r, -math.inf, value

    def resume(self, best: Array, residual: Array, least: float, value: float, note: str) -> None:
        """Go on with the best point of an earlier process."""
        self.best, self.best_residual, self.least, self.value, self.note = best, residual, least, value, note

    def late(self) -> bool:
        """Whether the time is over, except for the time reserved for a last evaluation of F."""
        return self.deadline < math.inf and _clock.now() >= self.deadline - self._reserve

    def check_time(self) -> None:
        """End the run if the time is over."""
        if self.late():
            raise Ended(Status.MAX_TIME)

    def reserve(self, seconds: float) -> None:
        """Reserve this much of the time for a last evaluation of F by rows."""
        self._reserve = seconds

    def allow(self, share: float) -> None:
        """Set a new deadline: this share of the time that the run has taken or, if more, of a second that is left."""
        now = _clock.now()
        seconds = max(share * (now - self._begun), min(share, self.deadline - now))
        self.deadline, self._reserve = now + seconds, 0.0

    def end(self, why: Ended) -> int:
        """Keep the reason of ``why`` as the note; returns its status."""
        self.note = str(why)
        return why.status

    def finish(self) -> None:
        """Lift the limit of time: what is computed after the run on request is not limited by it."""
        self.deadline = math.inf

    def attach_best(self, error: BaseException) -> None:
        """Attach the best point to an exception as ``best``."""
        with suppress(Exception):  # its class may not allow attributes
            error.best = self.best.copy()  # type: ignore[attr-defined]

    def enter(self) -> bool:
        """Begin to compute; returns whether a computation was under way before."""
        before = self._inside
        if not before:
            self.theirs, self._inside = copy_context().run, True
        return before

    def leave(self, before: bool) -> None:
        """End what `enter` has begun; before: its return value."""
        self._inside = before


class AtWork:
    """The context in which the library computes: overflow is expected, and exceptions get the best point attached."""

    def __init__(self, run: Run) -> None:
        self._run, self._numpy = run, np.errstate(all="ignore")

    def __enter__(self) -> None:
        self._before = self._run.enter()
        self._numpy.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._numpy.__exit__(kind, error, trace)
        self._run.leave(self._before)
        if error is not None:
            self._run.attach_best(error)


class Goal:
    """The criteria for a solved system.

    Attributes
    ----------
    tol : float
        As given by the caller.
    coarse : bool
        Whether the precision of F's floats may be too low for tol.
    target, enough, sure : float
        Thresholds of ||r||: the target as far as known now; above ``enough``, `accepts` need not be called; below
        ``sure``, it returns True at any point.
    """

    def __init__(self, *, tol: float, eps: float, size_y: float, size0: float, precision: float, narrow: bool) -> None:
        self._size_y, self._size0 = size_y, size0
        self.tol, self.coarse = tol, narrow and tol > 0.0
        noise = math.sqrt(2.0 * eps)
        self.sure = max(noise, tol * self._size_y)
        self.target = (max(tol, 2.0 * precision) if self.coarse else tol) * self._size0
        self.enough = max(self.target, noise)

    def aim(self, target: float) -> None:
        """Set the target."""
        self.target = target

    def accepts(self, problem: Problem, w: Array, r: Array) -> bool:
        """Whether r at w counts as solved: within `eps`, or within `tol` and small beside the terms of F at w.

        F(w0) may be so large that a residual small beside it proves nothing. The terms that cancel in F near w have the
        size of |J| (|w| + |w - w0|). They are computed with the last J, of the point before; if that leaves a doubt, J
        at w decides, and `tol` is relative to the terms of w and of the last step.
        """
        size = norm(r)
        if size <= self.sure:
            return True
        if size > self.enough:
            return False
        bound = self.tol * self._size0
        if bound > max(SMALL, self.tol) * max(self._size_y, problem.terms(w, w - problem.w0)):
            before = w
            if problem.latest is not None and not problem.sampled:
                before = problem.latest[0]
                problem.linearise(w, r, False)
            bound = self.tol * min(self._size0, max(self._size_y, problem.terms(w, w - before)))
        if self.coarse:
            bound = max(bound, problem.rounding_seen(w, r))
        self.target = bound
        return size <= bound
