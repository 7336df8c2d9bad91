"""How far a run has come, when its system counts as solved, and why it ended."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

import numpy as np

from plsolve import _clock
from plsolve._linalg import Array, norm
from plsolve._stopping import Ended, Status

if TYPE_CHECKING:
    from plsolve._problem import Problem

SMALL = 1e-6  # of the terms of F: a residual that counts as zero


class Run:
    """The best point so far, the time, and why the run ended.

    Attributes
    ----------
    best, best_residual, least : ndarray (m,), ndarray (n,), float
        The best point F was evaluated at (those of differences do not count), r there, and ||r||.
    note : str
        Why the run ended, where the status does not say it.
    theirs : callable
        Calls F, jac and callback with the user's settings for floating-point errors, those in force outside.
    """

    least = math.inf
    best_residual: Array
    note = ""
    _inside = False
    _reserve = 0.0  # seconds

    def __init__(self, w0: Array, deadline: float) -> None:
        self.best = w0
        self._begun, self.deadline = _clock.now(), deadline
        self.theirs: Callable[..., Any] = copy_context().run

    def offer(self, w: Array, r: Array, size: float) -> None:
        """A point where F was evaluated, size = ||r||."""
        if size < self.least:
            self.best, self.best_residual, self.least = w, r, size

    def settle(self, w: Array, r: Array) -> None:
        """Take this as the best point, whatever ||r|| is elsewhere: the method has another measure."""
        self.best, self.best_residual, self.least = w, r, -math.inf

    def late(self) -> bool:
        """Whether the time is over, but for what the last look at all of F takes."""
        return self.deadline < math.inf and _clock.now() >= self.deadline - self._reserve

    def check_time(self) -> None:
        """End the run if the time is over."""
        if self.late():
            raise Ended(Status.MAX_TIME)

    def reserve(self, seconds: float) -> None:
        """Keep so much of the time for a last look at all of F."""
        self._reserve = seconds

    def allow(self, share: float) -> None:
        """Give what comes now this share of the time that the run has taken, or as many seconds if any are left."""
        now = _clock.now()
        seconds = max(share * (now - self._begun), min(share, self.deadline - now))
        self.deadline, self._reserve = now + seconds, 0.0

    def end(self, why: Ended) -> int:
        """The status of a run that this ends."""
        self.note = str(why)
        return why.status

    def finish(self) -> None:
        """The run has ended: what is computed when it is asked for takes the time it takes."""
        self.deadline = math.inf

    def attach_best(self, error: BaseException) -> None:
        """Let an exception that is to reach the user carry ``best``."""
        with suppress(Exception):  # it may refuse attributes
            error.best = self.best.copy()  # type: ignore[attr-defined]

    def enter(self) -> bool:
        """Begin to compute: whether that was so before."""
        before = self._inside
        if not before:
            self.theirs, self._inside = copy_context().run, True
        return before

    def leave(self, before: bool) -> None:
        """What `enter` began is over."""
        self._inside = before


class AtWork:
    """Where the library computes: overflow is expected, and whatever is raised carries the best point to the user."""

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
    """What counts as solved.

    Attributes
    ----------
    tol : float
        As the caller gave it.
    coarse : bool
        Whether the floats that F returns may not tell so much.
    target, enough, sure : float
        What ||r|| must fall to, as far as is known; what it must fall to before `accepts` is worth a look; what it
        accepts wherever the run is.
    """

    def __init__(self, *, tol: float, eps: float, size_y: float, size0: float, precision: float, narrow: bool) -> None:
        self._size_y, self._size0 = size_y, size0
        self.tol, self.coarse = tol, narrow and tol > 0.0
        noise = math.sqrt(2.0 * eps)
        self.sure = max(noise, tol * self._size_y)
        self.target = (max(tol, 2.0 * precision) if self.coarse else tol) * self._size0
        self.enough = max(self.target, noise)

    def aim(self, target: float) -> None:
        """Go as far as this."""
        self.target = target

    def accepts(self, problem: Problem, w: Array, r: Array) -> bool:
        """Whether r at w counts as solved: noise, or within `tol` of what F was at w0, and small beside its terms at w.

        F(w0) may be so large that a residual small beside it proves nothing; |J| (|w| + |w - w0|) is what cancels in F
        near w. Where with the last J at hand, of the point before, it leaves a doubt, J at w decides, and `tol` is
        relative to the terms of w and of the last step.
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
