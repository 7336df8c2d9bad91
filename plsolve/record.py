"""Watching a run: the history, and the user's callback."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult

from plsolve.linalg import Array
from plsolve.loop import State


class History(NamedTuple):
    """The run, one entry per checked iteration; entry 0 is w0.

    Attributes
    ----------
    nit : ndarray (k,)
        Iteration numbers.
    loss : ndarray (k,)
        L = 1/2 ||F(w) - y||^2.
    step : ndarray (k,)
        Length of the step that led here, in the metric of ``x_scale``.
    """

    nit: npt.NDArray[np.int64]
    loss: Array
    step: Array


class Record:
    """Observes a run: keeps the history and calls the user's callback."""

    def __init__(self, callback: Callable[..., Any] | None) -> None:
        if not (callback is None or callable(callback)):
            raise TypeError(f"`callback` must be callable, got {type(callback).__name__}.")
        self._callback = callback
        self._whole = callback is not None and "intermediate_result" in inspect.signature(callback).parameters
        self.nit: list[int] = []
        self._loss: list[float] = []
        self._step: list[float] = []

    def __call__(self, s: State) -> bool:
        """True when the callback asks to stop."""
        if self.nit and s.nit == self.nit[-1]:
            return False
        self.nit.append(s.nit)
        self._loss.append(0.5 * float(s.r.dot(s.r)))
        self._step.append(s.step)
        if self._callback is None or s.nit == 0:
            return False
        try:
            if self._whole:
                state = OptimizeResult()
                state.update(x=s.w.copy(), fun=s.r.copy(), cost=self._loss[-1], nit=s.nit)
                self._callback(intermediate_result=state)
            else:
                self._callback(s.w.copy())
        except StopIteration:
            return True
        return False

    def history(self) -> History:
        return History(np.array(self.nit), np.array(self._loss), np.array(self._step))
