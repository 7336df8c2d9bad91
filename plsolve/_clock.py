"""The clock of `max_time`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

#: A clock that several processes share, to be used instead of this process's own.
SHARED: ContextVar[Callable[[], float] | None] = ContextVar("clock", default=None)


def now() -> float:
    """Seconds since an arbitrary moment."""
    shared = SHARED.get()
    return time.monotonic() if shared is None else shared()
