"""The interface of a method's state for the loop, and the simplest such state."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from plsolve._linalg import Array
from plsolve._stopping import RUNNING


class State(Protocol):
    """The fields that the loop reads; `Start` documents them."""

    @property
    def w(self) -> Array: ...
    @property
    def r(self) -> Array: ...
    @property
    def status(self) -> int: ...
    @property
    def nit(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def checked(self) -> bool: ...
    @property
    def pl(self) -> float: ...
    @property
    def beta_seen(self) -> float: ...


class Start(NamedTuple):
    """The simplest state of a method; the states of all methods have its fields.

    Attributes
    ----------
    w : ndarray (m,)
        The point.
    r : ndarray (n,)
        F(w) - y.
    status : int
        A `plsolve.Status` if the method itself ends the run, else -100.
    nit : int
        Iterations made.
    step : float
        Length of the last step.
    checked : bool
        Whether ``r`` is the whole residual at ``w``. Only then does the loop test whether the system is solved.
    pl : float
        1/2 ||J^T r||^2 / L at the point before, the local PL* constant; -1 where it is not known.
    beta_seen : float
        The largest curvature 2 ||r+ - r - J p||/||p||^2 of F along a step so far.
    """

    w: Array
    r: Array
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    beta_seen: float = 0.0


def is_noted(s: State) -> bool:
    """Whether the history is to have it: r is that of w, or (``noted``) what the batches of an epoch have met."""
    return bool(getattr(s, "noted", s.checked))
