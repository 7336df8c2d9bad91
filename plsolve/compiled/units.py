"""Functions of the package compiled once each, cached on disk, and called without being compiled into their callers.

numba copies what a function calls into it and optimises the whole anew at every level; on the depth of calls that a
Gauss-Newton step has, that makes minutes. A *unit* is called through a name that the linker knows instead.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import secrets
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba import njit, types
from numba.core import cgutils
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic, overload

OPTIONS = {"error_model": "numpy", "nogil": True}

# numba tells functions of one name apart by a number that counts from 1 in every process. Code from the cache brings
# the numbers of the process that compiled it, and the linker takes a function of the same name and number for it.
FunctionIdentity._unique_ids = itertools.count(secrets.randbits(48))


@cache
def sources() -> str:
    """The hash of the package's sources: code compiled from others is not used."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


UNITS: dict[str, Any] = {}  # the builder of each unit, by its name
SYMBOLS: dict[str, tuple[str, Any]] = {}  # unit and argument types behind each name known to the linker
PREFIX = "plsolve_unit_"


class UnitCacheImpl(CompileResultCacheImpl):
    """What is cached of a function names the units that it calls: they must be there before it is loaded.

    numba caches its intermediate code too, for its being compiled into others. That takes longest to load, and is not
    needed: nothing but the names of what is defined is kept.
    """

    def reduce(self, cres: Any) -> Any:
        functions = list(cres.library._final_module.functions)
        called = {f.name for f in functions if f.name.startswith(PREFIX)}
        defined = "\n".join(f'define void @"{f.name}"() {{ unreachable }}' for f in functions if not f.is_declaration)
        (name, kind, (machine_code, _)), *rest = super().reduce(cres)
        names = llvm.parse_assembly(defined).as_bitcode()
        return [SYMBOLS[name] for name in sorted(called)], ((name, kind, (machine_code, names)), *rest)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        called, result = payload
        for name, kinds in called:
            UNITS[name](kinds)
        return super().rebuild(target_context, result)


class PackageCache(FunctionCache):
    """numba's cache of one function, in files that belong to the sources of the whole package.

    numba itself looks at the function's own file only, and fails on indices that mention classes that are gone.
    """

    _impl_class = UnitCacheImpl

    def __init__(self, function: Any, variant: str) -> None:
        super().__init__(function)
        base = f"{self._impl.filename_base}{variant}-{sources()[:16]}"
        self._cache_file = IndexDataCacheFile(self._cache_path, base, self._impl.locator.get_source_stamp())


def compiled(function: Any, variant: str = "") -> Any:
    """The function as a numba function that is cached on disk, where there is a place for that."""
    dispatcher = njit(**OPTIONS)(function)
    try:
        dispatcher._cache = PackageCache(function, variant)
    except RuntimeError:
        no_cache()
    return dispatcher


@cache
def no_cache() -> None:
    warnings.warn(
        "plsolve found no place for its compiled code (neither its own directory nor the user's cache directory can be "
        "written to): it is compiled anew in every process. NUMBA_CACHE_DIR can name a place.",
        RuntimeWarning,
        stacklevel=2,
    )


def unit(function: Any) -> Any:
    """Make the function a unit, and give what calls it in compiled code."""
    dispatcher = compiled(function)
    identity = f"{function.__module__}.{function.__qualname__}"

    @cache
    def build(kinds: tuple[Any, ...]) -> tuple[Any, str]:
        name = f"{PREFIX}{identity}_{hashlib.sha256(repr(kinds).encode()).hexdigest()[:16]}"
        SYMBOLS[name] = identity, kinds
        return known(dispatcher, kinds, name), name

    UNITS[identity] = build
    parameters = inspect.signature(function)
    call = with_parameters(parameters, caller(parameters, build))
    overload(function, strict=False)(with_parameters(parameters, lambda *args: call))
    return call


def implements(function: Any) -> Any:
    """Make what is decorated a unit, and what the function does in compiled code."""

    def implement(body: Any) -> Any:
        call = unit(body)
        overload(function, strict=False)(with_parameters(inspect.signature(body), lambda *args: call))
        return call

    return implement


_numbers = itertools.count()


def outside(dispatcher: Any) -> Any:
    """A user's function, to be called in compiled code without being compiled into it.

    So it is the same machine code that a call from Python runs, to the last bit, and is not compiled a second time.
    """

    @cache
    def build(kinds: tuple[Any, ...]) -> tuple[Any, str]:
        name = f"plsolve_outside_{next(_numbers)}"  # never cached: the callback belongs to this process
        return known(dispatcher, kinds, name), name

    return caller(inspect.signature(dispatcher.py_func), build)


def known(dispatcher: Any, kinds: tuple[Any, ...], name: str) -> Any:
    """Compile the function for these types and make it known to the linker."""
    dispatcher.compile(kinds)
    result = dispatcher.overloads[kinds]
    llvm.add_symbol(name, result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
    return result


def caller(parameters: inspect.Signature, build: Any) -> Any:
    """A function for compiled code that calls, by name, what build makes for the types of the arguments."""

    def typed(*args: Any) -> Any:
        kinds = tuple(types.unliteral(a) for a in args)
        result, name = build(kinds)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            convention = context.call_conv
            kind = convention.get_function_type(signature.return_type, signature.args)
            there = cgutils.get_or_insert_function(builder.module, kind, name)
            status, value = convention.call_function(builder, there, signature.return_type, signature.args, values)
            with cgutils.if_unlikely(builder, status.is_error):
                convention.return_status_propagate(builder, status)
            return value

        return result.signature.return_type(*kinds), codegen

    return intrinsic(with_parameters(parameters, typed, "typingctx, "))


def with_parameters(parameters: inspect.Signature, function: Any, before: str = "") -> Any:
    """function as numba wants it: with as many named parameters as it gets, not *args."""
    names = ", ".join(parameters.parameters)
    return eval(f"lambda {before}{names}: function({names})", {"function": function})
