"""One thread for BLAS while many systems are solved at once, so that it does not compete with the solving threads."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from scipy.linalg import cython_blas

_NAMES = ("scipy_openblas_{}_num_threads", "openblas_{}_num_threads", "MKL_{}_Num_Threads", "bli_thread_{}_num_threads")
_lock = threading.Lock()
_users = 0
_before = 1


@cache
def _controls() -> tuple[Any, Any] | None:
    """The functions that read and set the number of threads of scipy's BLAS, or None if they are not found."""
    try:
        library = ctypes.CDLL(cython_blas.__file__)  # also finds the libraries that it is linked with
    except OSError:
        return None
    for name in _NAMES:
        for get, put in (("get", "set"), ("Get_Max", "Set")):
            try:
                return getattr(library, name.format(get)), getattr(library, name.format(put))
            except AttributeError:
                continue
    return None


@contextmanager
def one_thread() -> Iterator[None]:
    """A context in which scipy's BLAS, which compiled code uses, runs on one thread."""
    global _users, _before
    controls = _controls()
    if controls is None:
        yield
        return
    get, put = controls
    with _lock:
        if _users == 0:
            _before = get()
            put(1)
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                put(_before)
