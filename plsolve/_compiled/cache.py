"""Code that is compiled once per machine: numba's cache on disk, keyed by the sources of the whole package.

Most functions are *units*: the compiler treats each on its own, and calls go through a symbol that the linker resolves.
(By default numba copies the code of called functions into the caller, and optimises and translates all of it again at
every level; for the call depth of a Gauss-Newton step this takes six times as long.)
"""

from __future__ import annotations

import dis
import gc
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba import cfunc, njit, types

from plsolve._pictures.progress import LOG

OPTIONS = {"error_model": "numpy"}
KINDS = {"int": types.int64, "float": types.float64, "bool": types.int64, "None": types.void}
PATIENCE = 1.0  # seconds; loading from disk takes less, so that longer means compiling
COMPILING = "plsolve compiles its solvers for this machine: this takes some seconds, once."
NO_CACHE = (
    "plsolve found no writable directory for its compiled code (%s), which is therefore compiled anew in every "
    "process. NUMBA_CACHE_DIR can name a directory."
)
UNITS: dict[str, Any] = {}  # the functions behind the names, with the compiler's options


@cache
def stamp() -> int:
    """A hash of the package's sources: it is in the names of functions, and so of the files of numba's cache."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return int.from_bytes(digest.digest()[:6])


def unit(function: Any, **options: Any) -> Any:
    """Make a function of int, float and bool a unit; returns its stand-in for compiled code."""
    name = f"plsolve_{function.__name__}_{stamp():x}"
    UNITS[name] = function, options
    returned, *given = signature_of(function)
    return types.ExternalFunction(name, returned(*given))


def signature_of(function: Any) -> list[Any]:
    """The types of the return value and the arguments."""
    kinds = dict(function.__annotations__)
    returned = kinds.pop("return")
    return [KINDS[kind] for kind in (returned, *kinds.values())]


@cache
def address(name: str) -> int:
    """Compile a unit, or load it from disk, with the units that it calls; returns its address."""
    function, own = UNITS[name]
    returned, *given = signature_of(function)
    with announced():
        needed(function)
        found = tried(lambda **options: cfunc(returned(*given), **own, **options)(function), function)
    KEPT.append(found)
    llvm.add_symbol(name, found.address)
    return found.address  # type: ignore[no-any-return]


KEPT: list[Any] = []  # they own the code
WITHOUT: list[str] = []  # the reason why there is no cache, once known


def needed(function: Any) -> None:
    """Compile the units that a function calls."""
    for place in dis.get_instructions(function):
        called = function.__globals__.get(place.argval) if place.opname == "LOAD_GLOBAL" else None
        if isinstance(called, types.ExternalFunction) and called.symbol in UNITS:
            address(called.symbol)


def entry(function: Any, signature: tuple[Any, ...]) -> Any:
    """A function to be called from Python, compiled for this signature, without the GIL."""

    def compile_it(**options: Any) -> Any:
        dispatcher = njit(nogil=True, **options)(function)
        dispatcher.compile(signature)
        return dispatcher

    with announced():
        needed(function)
        return tried(compile_it, function)


def tried(compile_it: Callable[..., Any], function: Any) -> Any:
    """The result of numba's decorator on a function.

    A damaged cache is emptied. If there is no writable directory, or the disk is full, the function is not cached.
    """
    if not function.__qualname__.endswith(f"_{stamp():x}"):
        function.__qualname__ += f"_{stamp():x}"
    with announced():
        for _ in range(0 if WITHOUT else 2):
            try:
                return compile_it(cache=True, **OPTIONS)
            except Exception as error:  # noqa: BLE001  # an error in the function itself is raised again below
                reason = str(error)
            empty_cache(function)
        if not WITHOUT:
            LOG.warning(NO_CACHE, reason)
            WITHOUT.append(reason)
        return compile_it(**OPTIONS)


def empty_cache(function: Any) -> None:
    """Delete the cached files of this function, as far as possible."""
    with suppress(Exception):
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        directory = njit(cache=True)(function).stats.cache_path
        for path in Path(directory).glob(f"{name.replace('<', '').replace('>', '')}-*.nb?"):
            path.unlink()


_telling = False


@contextmanager
def announced() -> Iterator[None]:
    """A context that reports compilation, if it takes long, to the logger and on a terminal.

    Garbage collection is postponed to the end, which takes a sixth less time.
    """
    global _telling
    if _telling:
        yield
        return

    def announce() -> None:
        LOG.info(COMPILING)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(COMPILING + "\n")

    timer = threading.Timer(PATIENCE, announce)
    timer.daemon = True
    timer.start()
    _telling, collecting = True, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        timer.cancel()
        if collecting:
            gc.enable()
        _telling = False
