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
    def bend(self) -> float: ...


class Start(NamedTuple):
    """The state at w0, where a method cannot make its own."""

    w: Array
    r: Array
    status: int = RUNNING
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    bend: float = 0.0
