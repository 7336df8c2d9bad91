"""The observer of a run: it keeps the history and calls the user's callback."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from scipy.optimize import OptimizeResult

from plsolve._history import History
from plsolve._linalg import Array, norm
from plsolve._problem import Problem
from plsolve._state import State
from plsolve._stopping import RUNNING, Status
from plsolve.theory.forecasts import observed_iterations

Point = tuple[Array, Array]  # w and F(w) - y

_KEPT = 2  # points of the run that are stored for the certificate, in addition to the start


class Mark(NamedTuple):
    """How much a record has seen at a place from which the run can go on."""

    entries: int  # of the history
    pl: float  # of the last one
    last: int
    noted: bool
    beta_seen: float
    path: tuple[Point, ...]
    near: tuple[float, float] | None


class Seen(NamedTuple):
    """A mark, with the history until there."""

    mark: Mark
    nit: Array
    loss: Array
    step: Array
    pl: Array


class Nearness(Protocol):
    """The test of `xtol`."""

    @property
    def learnt(self) -> tuple[float, float]:
        """What later tests depend on."""

    def take(self, learnt: tuple[float, float]) -> None:
        """Go on with what was learnt in an earlier process."""

    def __call__(self, w: Array, r: Array, path: Sequence[Point], beta_seen: float) -> bool:
        """Whether a solution is proved to lie near w."""


def takes_whole(callback: Callable[..., Any]) -> bool:
    """Whether callback has the parameter ``intermediate_result``; False where inspect finds no signature."""
    try:
        return "intermediate_result" in inspect.signature(callback).parameters
    except (TypeError, ValueError):
        return False


def half_square(s: State) -> float:
    """1/2 ||r||^2."""
    size = norm(s.r)
    return 0.5 * size * size


class Record:
    """Observes a run: keeps the history and calls the user's callback.

    Attributes
    ----------
    every : bool
        Whether the record must be called with every state, one at a time.
    watchers : list of callables
        Called with each new state and this record; from compiled code, with the last state of each chunk.
    guarantee : callable
        Gives, from the history, the guaranteed upper bounds of the loss; they hold without bounds, in the plain metric.
    last : int
        The number of the last iteration.
    nit, loss : list of int, list of float
        Iteration numbers and losses.
    path : list of points
        The start and the last points, each with w and r.
    beta_seen : float
        The largest curvature 2||r+ - r - J p||/||p||^2 that a step has shown, where it exceeds beta; else 0.
    """

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        problem: Problem,
        near: Nearness | None = None,
        enough: float = 0.0,
        loss: Callable[[Any], float] = half_square,
    ) -> None:
        if not (callback is None or callable(callback)):
            raise TypeError(f"`callback` must be callable, got {type(callback).__name__}.")
        self._callback, self._problem = callback, problem
        self._whole = callback is not None and takes_whole(callback)
        self._near, self._enough, self._loss_of = near, 0.5 * enough * enough, loss
        self.every = callback is not None or near is not None
        self.watchers: list[Callable[[State, Record], None]] = []
        self.guarantee: Callable[[History], Array] | None = None
        self.last = -1
        self._nit: list[int] = []
        self._loss: list[float] = []
        self._step: list[float] = []
        self._pl: list[float] = []
        self._logs: list[Array] = []  # from compiled code, still to be read
        self.path: list[Point] = []
        self._beta_seen = 0.0
        self._noted = True  # the last entry is the current point, not one before a phase's change

    def __call__(self, s: State) -> int:
        """Note the state; returns a status that ends the run, or RUNNING."""
        if self._logs:
            self._read()
        if s.nit < self.last:  # the run returns to an earlier point
            return RUNNING
        news = s.nit > self.last
        self._note(s.nit, self._loss_of(s), s.step, s.pl, s.beta_seen)
        if not news:
            return RUNNING
        self.last = s.nit
        for watch in self.watchers:
            watch(s, self)
        if s.checked and self._near is not None and self._near(s.w, s.r, self.path, self._beta_seen):
            return Status.DISTANCE
        self._remember(s)
        if self._callback is None or s.nit == 0:
            return RUNNING
        try:
            if self._whole:
                state = OptimizeResult()
                fun = self._problem.plain_residual(s.w, s.r).copy()
                left = observed_iterations(self._nit, self._loss, self._enough)
                state.update(
                    x=s.w.copy(), fun=fun, cost=self._loss[-1], nit=s.nit, nfev=self._problem.system.nfev, forecast=left
                )
                self._problem.run.theirs(self._callback, intermediate_result=state)
            else:
                self._problem.run.theirs(self._callback, s.w.copy())
        except StopIteration:
            return Status.CALLBACK
        return RUNNING

    def extend(self, s: State, log: Array) -> int:
        """Note many states at once, s being the last, which need not be checked; log: see `loop.ROW`."""
        if self.every:
            return self(s) if s.checked else RUNNING
        self._logs.append(log.copy())
        self.last = int(log.item(-1, 0))
        self._remember(s)
        if s.checked:
            for watch in self.watchers:
                watch(s, self)
        return RUNNING

    def _read(self) -> None:
        """Add the logs of compiled code to the history."""
        for log in self._logs:
            for nit, *numbers in log.tolist():
                self._note(int(nit), *numbers)
        self._logs.clear()

    def mark(self) -> Mark:
        """How much has been seen."""
        self._read()
        return Mark(
            entries=len(self._nit),
            pl=self._pl[-1] if self._pl else math.nan,
            last=self.last,
            noted=self._noted,
            beta_seen=self._beta_seen,
            path=tuple(self.path),
            near=None if self._near is None else self._near.learnt,
        )

    def seen(self, mark: Mark) -> Seen:
        """The history until the mark."""
        nit, loss, step, pl = (np.array(x[: mark.entries]) for x in (self._nit, self._loss, self._step, self._pl))
        pl[-1:] = mark.pl
        return Seen(mark=mark, nit=nit, loss=loss, step=step, pl=pl)

    def go_on(self, seen: Seen) -> None:
        """Go on with the history of an earlier process."""
        mark = seen.mark
        self._nit, self._loss, self._step, self._pl = (x.tolist() for x in (seen.nit, seen.loss, seen.step, seen.pl))
        self.last, self._noted, self._beta_seen, self.path = mark.last, mark.noted, mark.beta_seen, list(mark.path)
        if self._near is not None and mark.near is not None:
            self._near.take(mark.near)

    def _remember(self, s: State) -> None:
        """Add the point to the path if its residual is known."""
        if not s.checked:
            return
        if len(self.path) > _KEPT:
            del self.path[1]  # the start is kept
        self.path.append((s.w, s.r))

    def _note(self, nit: int, loss: float, step: float, pl: float, beta_seen: float) -> None:
        """Add a state to the history; its PL ratio belongs to the entry before."""
        if self._pl and pl >= 0.0 and self._noted:
            self._pl[-1] = pl
        self._beta_seen = max(self._beta_seen, beta_seen)
        if self._nit and nit == self._nit[-1]:
            self._noted = loss == self._loss[-1]
            return
        self._noted = True
        self._nit.append(nit)
        self._loss.append(loss)
        self._step.append(step)
        self._pl.append(math.nan)

    @property
    def nit(self) -> list[int]:
        self._read()
        return self._nit

    @property
    def loss(self) -> list[float]:
        self._read()
        return self._loss

    @property
    def beta_seen(self) -> float:
        self._read()
        return self._beta_seen

    def history(self) -> History:
        self._read()
        nit, loss, step, pl = map(np.array, (self._nit, self._loss, self._step, self._pl))
        history = History(nit=nit, loss=loss, step=step, pl=pl, bound=np.full(loss.size, math.nan))
        if self.guarantee is None or self._problem.bounded or self._problem.scale.size or nit.size < 2:
            return history
        return history._replace(bound=self.guarantee(history))
