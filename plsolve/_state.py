"""What the loop reads of any method's state, and the plainest such state."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from plsolve._linalg import Array
from plsolve._stopping import RUNNING


class State(Protocol):
    """What the loop reads of any method's state."""

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
    """The plainest state of a method.

    Attributes
    ----------
    w : ndarray (m,)
        The point.
    r : ndarray (n,)
        F(w) - y.
    status : int
        A `plsolve.Status` where the method itself ends the run, else -100.
    nit : int
        Iterations made.
    step : float
        Length of the last step.
    checked : bool
        Whether ``r`` is the residual at ``w``, all of it: only then the loop looks whether it is small enough.
    pl : float
        1/2 ||J^T r||^2 / L at the point before, the local PL* constant; -1 where it is not known.
    beta_seen : float
        The largest curvature 2 ||r+ - r - J p||/||p||^2 of F that was seen.
    """

    w: Array
    r: Array
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    beta_seen: float = 0.0
