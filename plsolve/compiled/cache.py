"""Compiled once on a machine: numba's cache on disk, made to belong to all sources of the package.

numba looks at the file of a function alone, and at the values that it closes over. So whatever is to be cached is
defined in a function of a *stamp*, the hash of the package's sources, and closes over that.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from numba import njit

from plsolve.progress import LOG

OPTIONS = {"error_model": "numpy", "nogil": True}
PATIENCE = 1.0  # seconds that loading from the disk does not take
COMPILING = "plsolve compiles its solvers for this machine: this takes some seconds, once."
NO_CACHE = (
    "plsolve found no place on disk for its compiled code (%s): it is compiled anew in every process. NUMBA_CACHE_DIR "
    "can name a place."
)


@cache
def stamp() -> int:
    """The hash of the package's sources."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return int.from_bytes(digest.digest()[:7])


def compiled(define: Callable[[Any, int], Any], signature: Any) -> Any:
    """What `define(jit, stamp)` makes with the decorator jit, compiled for the signature or loaded from the disk.

    A cache that is damaged is emptied; where there is no place for one, or none is left, it is done without.
    """
    with told():
        for _ in range(2):
            function = None
            try:
                function = define(njit(cache=True, **OPTIONS), stamp())
                function.compile(signature)
                return function
            except Exception as error:  # noqa: BLE001  # a mistake in the function itself comes once more below
                reason = str(error)
            if function is None:
                break
            if function.signatures:  # it could not be saved
                no_cache(reason)
                return function
            empty_cache(function)
        no_cache(reason)
        function = define(njit(**OPTIONS), stamp())
        function.compile(signature)
        return function


def empty_cache(function: Any) -> None:
    """Delete what is on the disk of this function, as far as that is possible."""
    code = function.py_func.__code__
    name = f"{Path(code.co_filename).stem}.{function.py_func.__qualname__}".replace("<", "").replace(">", "")
    with suppress(OSError):
        for path in Path(function.stats.cache_path).glob(f"{name}-*.nb?"):
            path.unlink()


@contextmanager
def told() -> Iterator[None]:
    """Within, what takes long is said to be compiling: to the logger, and on a terminal."""

    def tell() -> None:
        LOG.info(COMPILING)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(COMPILING + "\n")

    timer = threading.Timer(PATIENCE, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def no_cache(reason: str) -> None:
    LOG.warning(NO_CACHE, reason)
