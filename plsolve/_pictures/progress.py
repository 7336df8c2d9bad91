"""Reports during a run: the progress bar of ``progress=True``, and messages for `logging`."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from plsolve import _clock
from plsolve._history import History
from plsolve._problem import Problem
from plsolve._state import State
from plsolve._stopping import Ended
from plsolve.theory.forecasts import observed_iterations

if TYPE_CHECKING:
    from plsolve.methods.method import Forecast

LOG = logging.getLogger("plsolve")  # INFO: begin and end of a run; DEBUG: its iterations
LOG.addHandler(logging.NullHandler())  # silent unless the user configures logging

_REFRESH = 0.1  # seconds
_SETTLED = 0.5  # seconds before the first forecast by the spectrum
_SHARE = 20.0  # run time by the time of forecasts, at least
_ROUNDING = 2.0**-104  # of the loss at w0: rounding allows no run to go lower


class Run(Protocol):
    """The attributes of the record that are used here; see `plsolve._record.Record`."""

    @property
    def nit(self) -> Sequence[int]: ...
    @property
    def loss(self) -> Sequence[float]: ...
    def history(self) -> History: ...


def new_bar(**settings: Any) -> Any:
    """A progress bar by tqdm, for the terminal or the notebook."""
    try:
        from tqdm.auto import tqdm  # not needed otherwise
    except ImportError as error:
        raise ImportError("Progress bars need tqdm: python -m pip install 'plsolve[progress]'") from error
    return tqdm(**settings)


class watching:  # noqa: N801  # a context, like open
    """The watchers of a run: a bar if requested, and the logger if it is enabled for DEBUG."""

    def __init__(self, problem: Problem, forecast: Forecast | None, reason: str, limit: int, shown: bool) -> None:
        self._problem, self._bar = problem, Bar(problem, forecast, limit) if shown else None
        self._all: list[Any] = [] if self._bar is None else [self._bar]
        if LOG.isEnabledFor(logging.INFO):
            LOG.info("%d equations, %d unknowns; %s", problem.n, problem.m, reason)
            self._all += [log_iteration] if LOG.isEnabledFor(logging.DEBUG) else []

    def __enter__(self) -> list[Any]:
        return self._all

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            with self._problem.at_work():  # where the terminal is gone, that exception carries the best point, too
                self._bar.close()


def log_iteration(s: State, run: Run) -> None:
    pl = f", PL ratio {s.pl:.3g}" if s.pl >= 0.0 else ""
    LOG.debug("iteration %d: loss %.6g, step %.3g%s", s.nit, run.loss[-1], s.step, pl)


class Bar:
    """A bar that shows which share of the decades between the loss at w0 and the target is done, and the time left.

    The time left is the forecast of theory 4.3 at the pace so far. First-order methods slow down when only small
    eigenvalues are left, so their forecast uses the spectrum weighted by the residual. It is updated now and then,
    which costs a Jacobian each time; the result counts them.
    """

    def __init__(self, problem: Problem, forecast: Forecast | None, limit: int) -> None:
        self._problem, self._forecast, self._enough, self._limit = problem, forecast, problem.goal.enough, limit
        self._bar = new_bar(total=1.0, bar_format="{percentage:3.0f}%|{bar}| {desc}")
        self._start = _clock.now()
        self._shown, self._again = -math.inf, self._start + _SETTLED
        self._spectral: tuple[int, float] | None = None  # at an iteration, how many were left
        self._last: tuple[State, Run] | None = None
        self._paced = (0, self._start)  # origin of the pace: w0, later the first display

    def close(self) -> None:
        """Show the last state, and leave the bar on the screen."""
        if self._last is not None:
            self._show(*self._last, 0.0)
        self._bar.close()

    def __call__(self, s: State, run: Run) -> None:
        """Show the state, unless the last display was too recent."""
        self._last, now = (s, run), _clock.now()
        if now >= self._shown + _REFRESH:
            self._show(s, run, self._left(s, run, now))
            self._shown = _clock.now()

    def _show(self, s: State, run: Run, left: float) -> None:
        first, last = run.loss[0], run.loss[-1]
        least = max(0.5 * self._enough * self._enough, _ROUNDING * first)
        share = 1.0 if last <= least else math.log(first / last) / math.log(first / least) if last < first else 0.0
        self._bar.n = min(max(share, self._bar.n), 1.0)
        pl = f", PL {s.pl:.2g}" if s.pl >= 0.0 else ""
        times = f"[{clock(_clock.now() - self._start)}{self._to_go(s.nit, left)}]"
        self._bar.set_description_str(f"{s.nit} iterations, loss {last:.2e}{pl} {times}")

    def _to_go(self, nit: int, left: float) -> str:
        at, since = self._paced
        now = _clock.now()
        if at == 0 and nit > 0:
            self._paced = nit, now
        if not (nit > at and left > 0.0):
            return ""
        if not math.isfinite(left):
            return "<?"
        return f"<{clock(left * (now - since) / (nit - at))}" + (
            ", beyond max_iter" if nit + left > self._limit else ""
        )

    def _left(self, s: State, run: Run, now: float) -> float:
        """The iterations left, by theory 4.3."""
        if self._forecast is not None and s.nit > 0 and now >= self._again:
            with suppress(Ended):
                self._spectral = s.nit, self._forecast(self._problem, s, run.history(), self._enough)[0]
            now, begun = _clock.now(), now
            self._again = now + max(1.0, _SHARE * (now - begun))
        if self._spectral is not None:
            at, left = self._spectral
            return max(left - (s.nit - at), 1.0)
        return observed_iterations(run.nit, run.loss, 0.5 * self._enough * self._enough)


def clock(seconds: float) -> str:
    """The time in hours, minutes and seconds, or in days if it is that long."""
    if seconds >= 100 * 3600.0:
        return f"{seconds / 86400.0:.3g} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"
