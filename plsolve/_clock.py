"""The clock by which runs end in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

#: Another one, where several processes share one.
SHARED: ContextVar[Callable[[], float] | None] = ContextVar("clock", default=None)


def now() -> float:
    """Seconds since some moment."""
    shared = SHARED.get()
    return time.monotonic() if shared is None else shared()
