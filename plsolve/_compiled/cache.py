"""Compiled once on a machine: numba's cache on disk, in files that belong to all sources of the package.

What is called most is a *unit*: a function of its own for the compiler, called through a name that the linker knows.
(numba copies what a function calls into it, and optimises and translates the whole anew at every level: on the depth
of calls that a Gauss-Newton step has, that takes six times as long.)
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
PATIENCE = 1.0  # seconds that loading from the disk does not take
COMPILING = "plsolve compiles its solvers for this machine: this takes some seconds, once."
NO_CACHE = (
    "plsolve found no place on disk for its compiled code (%s): it is compiled anew in every process. NUMBA_CACHE_DIR "
    "can name a place."
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
    """Make a function of int, float and bool a unit: what stands for it in compiled code."""
    name = f"plsolve_{function.__name__}_{stamp():x}"
    UNITS[name] = function, options
    returned, *given = signature_of(function)
    return types.ExternalFunction(name, returned(*given))


def signature_of(function: Any) -> list[Any]:
    """The types of what it returns and of its arguments."""
    kinds = dict(function.__annotations__)
    returned = kinds.pop("return")
    return [KINDS[kind] for kind in (returned, *kinds.values())]


@cache
def address(name: str) -> int:
    """Compile a unit, or load it from the disk, with those that it calls; its address."""
    function, own = UNITS[name]
    returned, *given = signature_of(function)
    with told():
        needed(function)
        found = tried(lambda **options: cfunc(returned(*given), **own, **options)(function), function)
    KEPT.append(found)
    llvm.add_symbol(name, found.address)
    return found.address  # type: ignore[no-any-return]


KEPT: list[Any] = []  # they own the code
WITHOUT: list[str] = []  # why there is no cache, once that is known


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

    with told():
        needed(function)
        return tried(compile_it, function)


def tried(compile_it: Callable[..., Any], function: Any) -> Any:
    """The result of numba's decorator on a function.

    A cache that is damaged is emptied; where there is no place for one, or none is left, it is done without.
    """
    if not function.__qualname__.endswith(f"_{stamp():x}"):
        function.__qualname__ += f"_{stamp():x}"
    with told():
        for _ in range(0 if WITHOUT else 2):
            try:
                return compile_it(cache=True, **OPTIONS)
            except Exception as error:  # noqa: BLE001  # a mistake in the function itself comes once more below
                reason = str(error)
            empty_cache(function)
        if not WITHOUT:
            LOG.warning(NO_CACHE, reason)
            WITHOUT.append(reason)
        return compile_it(**OPTIONS)


def empty_cache(function: Any) -> None:
    """Delete what is on the disk of this function, as far as that is possible."""
    with suppress(Exception):
        name = f"{Path(function.__code__.co_filename).stem}.{function.__qualname__}"
        directory = njit(cache=True)(function).stats.cache_path
        for path in Path(directory).glob(f"{name.replace('<', '').replace('>', '')}-*.nb?"):
            path.unlink()


_telling = False


@contextmanager
def told() -> Iterator[None]:
    """Within, what takes long is said to be compiling: to the logger, and on a terminal.

    The garbage of the compiler is collected afterwards, which takes a sixth less time.
    """
    global _telling
    if _telling:
        yield
        return

    def tell() -> None:
        LOG.info(COMPILING)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(COMPILING + "\n")

    timer = threading.Timer(PATIENCE, tell)
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
