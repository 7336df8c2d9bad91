"""The user's functions behind one C signature, so that the loops are compiled once for all of them.

A callback is ``code = f(w, m, args, rows, s, out, n)``: addresses of w (m,), of the table of arguments, of the
numbers of the rows (s,) and of the place for the result, n numbers or owner and data of the Jacobian. Code 0 is a
success, RAISED an exception and SHAPE a result of the wrong shape; what exactly went wrong is found out later, by a
call from Python.

A cfunc must not raise: the process would die. And a Jacobian is not copied: its memory changes hands.
"""

from __future__ import annotations

import ctypes
import inspect
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, cfunc, farray, njit, typeof, types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.extending import intrinsic, overload

from plsolve.compiled.units import outside
from plsolve.linalg import FLOAT64

OK, RAISED, SHAPE = range(3)
DOUBLE = FLOAT64.str
SIGNATURE = types.int64(*[types.int64] * 7)
WORD = ir.IntType(64)


class NotCompilableError(TypeError):
    """Why a function or an argument cannot be used in compiled code."""


# -- inside compiled code ----------------------------------------------------------------------------------------------


@intrinsic
def call(typingctx: Any, address: Any, w: Any, m: Any, args: Any, rows: Any, out: Any, n: Any) -> Any:
    """The code of the callback at this address; w, args and out are addresses, rows an array."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        function = ir.FunctionType(WORD, [WORD] * 7).as_pointer()
        array = context.make_array(signature.args[4])(context, builder, values[4])
        data, size = builder.ptrtoint(array.data, WORD), cgutils.unpack_tuple(builder, array.shape)[0]
        words = [values[1], values[2], values[3], data, size, values[5], values[6]]
        return builder.call(builder.inttoptr(values[0], function), words)

    return types.int64(*[types.int64] * 4, rows, types.int64, types.int64), codegen


_CLOCK = "PyTime_MonotonicRaw" if hasattr(ctypes.pythonapi, "PyTime_MonotonicRaw") else "_PyTime_GetMonotonicClock"
llvm.add_symbol("plsolve_clock", ctypes.cast(getattr(ctypes.pythonapi, _CLOCK), ctypes.c_void_p).value)


@intrinsic
def nanoseconds(typingctx: Any) -> Any:
    """The clock of time.monotonic, which needs no GIL."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if _CLOCK.startswith("_"):
            kind = ir.FunctionType(WORD, [])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, "plsolve_clock"), [])
        kind = ir.FunctionType(ir.IntType(32), [WORD.as_pointer()])
        now = cgutils.alloca_once_value(builder, WORD(0))
        builder.call(cgutils.get_or_insert_function(builder.module, kind, "plsolve_clock"), [now])
        return builder.load(now)

    return types.int64(), codegen


@intrinsic
def pointer(typingctx: Any, address: Any) -> Any:
    """An address as a pointer."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def as_number(typingctx: Any, bits: Any) -> Any:
    """The float64 of these bits."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], ir.DoubleType())

    return types.float64(types.int64), codegen


@intrinsic
def as_bits(typingctx: Any, number: Any) -> Any:
    """The bits of a float64."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], WORD)

    return types.int64(types.float64), codegen


GENERATOR = typeof(np.random.default_rng(0))


@intrinsic
def generator(typingctx: Any, words: Any) -> Any:
    """The numpy Generator whose interface (see `interface`) is in these words; it is not owned."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = cgutils.create_struct_proxy(types.NumPyRandomBitGeneratorType("bit_generator"))(context, builder)
        array = context.make_array(signature.args[0])(context, builder, values[0])
        for i, name in enumerate(INTERFACE):
            setattr(bits, name, builder.load(builder.gep(array.data, [WORD(i)])))
        bits.parent = context.get_constant_null(types.pyobject)
        made = cgutils.create_struct_proxy(GENERATOR)(context, builder)
        made.bit_generator = bits._getvalue()
        made.meminfo = builder.inttoptr(WORD(0), made.meminfo.type)
        made.parent = context.get_constant_null(types.pyobject)
        return made._getvalue()

    return GENERATOR(words), codegen


INTERFACE = ("state_address", "state", "fnptr_next_uint64", "fnptr_next_uint32", "fnptr_next_double", "bit_generator")


def interface(rng: np.random.Generator) -> list[int]:
    """Where the state and the functions of a Generator are."""
    c = rng.bit_generator.ctypes
    functions = [ctypes.cast(f, ctypes.c_void_p).value for f in (c.next_uint64, c.next_uint32, c.next_double)]
    return [c.state_address, c.state.value, *functions, c.bit_generator.value]


@intrinsic
def release(typingctx: Any, J: Any, out: Any) -> Any:
    """Write owner and data of a C-ordered float64 matrix to out (2 words): its memory changes hands."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if context.enable_nrt:
            context.nrt.incref(builder, J, values[0])
        array = context.make_array(J)(context, builder, values[0])
        words = builder.inttoptr(values[1], WORD.as_pointer())
        builder.store(builder.ptrtoint(array.meminfo, WORD), words)
        builder.store(builder.ptrtoint(array.data, WORD), builder.gep(words, [WORD(1)]))
        return context.get_dummy_value()

    return types.none(J, types.int64), codegen


def store_vector(f: Any, out: Any, n: Any) -> Any:
    """Copy what F returned to out."""


def store_matrix(J: Any, out: Any, n: Any, m: Any) -> Any:
    """Hand over what jac returned."""


REAL = (types.Float, types.Integer, types.Boolean)


@overload(store_vector, strict=False)
def _store_vector(f: Any, out: Any, n: Any) -> Any:
    if isinstance(f, REAL):

        def number(f: Any, out: Any, n: Any) -> Any:
            if n != 1:
                return SHAPE
            carray(pointer(out), (n,), np.float64)[0] = f
            return OK

        return number
    vector = isinstance(f, types.Array) and f.ndim == 1
    if (vector or isinstance(f, (types.UniTuple, types.Sequence))) and isinstance(f.dtype, REAL):

        def copied(f: Any, out: Any, n: Any) -> Any:
            if len(f) != n:
                return SHAPE
            values = carray(pointer(out), (n,), np.float64)
            for i in range(n):
                values[i] = f[i]
            return OK

        return copied
    if isinstance(f, types.Tuple):
        return lambda f, out, n: store_vector(np.array(f), out, n)
    raise NotCompilableError(f"it returns {f}, not a vector of real numbers")


@overload(store_matrix, strict=False)
def _store_matrix(J: Any, out: Any, n: Any, m: Any) -> Any:
    if not (isinstance(J, types.Array) and isinstance(J.dtype, REAL) and J.ndim in (1, 2)):
        raise NotCompilableError(f"it returns {J}, not a matrix of real numbers")
    if J.ndim == 1:
        return lambda J, out, n, m: store_matrix(J.copy().reshape(1, J.size), out, n, m)
    if J.dtype != types.float64:
        return lambda J, out, n, m: store_matrix(np.ascontiguousarray(J).astype(np.float64), out, n, m)
    if J.layout != "C":
        return lambda J, out, n, m: store_matrix(np.ascontiguousarray(J), out, n, m)

    def released(J: Any, out: Any, n: Any, m: Any) -> Any:
        if J.shape[0] != n or J.shape[1] != m:
            return SHAPE
        release(J, out)
        return OK

    return released


# -- from Python -------------------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """The user's `args` as compiled code reads them.

    Attributes
    ----------
    kinds : tuple
        For each its kind: (dtype, ndim, layout), ndim -1 for a number.
    table : ndarray (k,)
        Addresses, shapes and numbers, as the bits of float64.
    kept : tuple
        What must stay alive.
    """

    kinds: tuple[Any, ...]
    table: Any
    kept: tuple[Any, ...]


_NO_ARGUMENTS = Arguments((), np.zeros(1), ())


def arguments(args: tuple[Any, ...]) -> Arguments:
    """The table of arguments, arrays or numbers."""
    if not args:
        return _NO_ARGUMENTS
    kinds: list[Any] = []
    words: list[int] = []
    kept: list[Any] = []
    for i, value in enumerate(args):
        if type(value) is np.ndarray and value.dtype is FLOAT64 and value.flags.carray and value.size:
            kept.append(value)
            kinds.append((DOUBLE, value.ndim, "C"))  # the quick way, and ctypes.data takes ten times as long as this
            words += [ctypes.addressof(ctypes.c_char.from_buffer(value)), *value.shape]  # type: ignore[arg-type]
            continue
        array = np.asarray(value)
        if array.dtype.kind not in "biufc" or not array.dtype.isnative or array.dtype.itemsize > 16:
            raise NotCompilableError(f"`args[{i}]` must be an array or a number, got {type(value).__name__}")
        if isinstance(value, np.ndarray):
            layout = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
            array = np.asarray(array, order=layout)  # type: ignore[call-overload]
            array = array if array.flags.aligned else array.copy(order=layout)  # type: ignore[arg-type]
            kept.append(array)
            kinds.append((array.dtype.str, array.ndim, layout))
            words += [array.ctypes.data, *array.shape]
        elif array.ndim:
            raise NotCompilableError(f"`args[{i}]` must be an array or a number, got {type(value).__name__}")
        elif array.dtype.kind in "biu":
            kinds.append(("?" if array.dtype.kind == "b" else "<i8", -1, ""))
            words.append(int(value))
        else:
            number = complex(value)
            kinds.append(("<c16" if array.dtype.kind == "c" else "<f8", -1, ""))
            words += np.array([number.real, number.imag]).view(np.int64).tolist()
    try:
        table = np.frombuffer(struct.pack(f"{len(words) + 1}q", *words, 0))
    except struct.error:
        raise NotCompilableError("`args` has an integer of more than 64 bits") from None
    return Arguments(tuple(kinds), table, tuple(kept))


def arguments_of_each(args: tuple[Any, ...], each: tuple[Any, ...], k: int) -> tuple[Any, tuple[Any, ...]]:
    """Tables of arguments (k, words), one for each system, and what must stay alive."""
    shared = arguments((*args, *(a[0] for a in each)))
    tables = np.tile(shared.table.view(np.int64), (k, 1))
    kept: list[Any] = [shared.kept]
    place = 0
    for i, (dtype, ndim, _) in enumerate(shared.kinds):
        words = 1 + ndim if ndim >= 0 else {"<f8": 2, "<c16": 2}.get(dtype, 1)
        if i >= len(args):
            a = np.ascontiguousarray(each[i - len(args)])
            if ndim >= 0:
                tables[:, place] = a.ctypes.data + np.arange(k) * a.strides[0]
            elif words == 1:
                tables[:, place] = a.astype(np.int64)
            else:
                z = a.astype(np.complex128)
                tables[:, place : place + 2] = z.view(np.int64).reshape(k, 2)
            kept.append(a)
        place += words
    return tables, tuple(kept)


class Callbacks(NamedTuple):
    """The callbacks of F, of jac, and of both for some rows, with their addresses: 0 where there is none."""

    found: tuple[Any, ...]  # they own the code
    addresses: tuple[int, ...]


@lru_cache(maxsize=256)
def callbacks(
    F: Any, jac: Any, kinds: tuple[Any, ...], full: tuple[bool, bool], batches: tuple[bool, bool]
) -> Callbacks:
    """full: whether F and jac must be given all rows; batches: whether they are to be called with some."""
    found = (
        callback(F, kinds, matrix=False, rows=full[0]),
        None if jac is None else callback(jac, kinds, matrix=True, rows=full[1]),
        callback(F, kinds, matrix=False, rows=True) if batches[0] else None,
        callback(jac, kinds, matrix=True, rows=True) if batches[1] and jac is not None else None,
    )
    return Callbacks(found, tuple(0 if f is None else f.address for f in found))


def callback(function: Any, kinds: tuple[Any, ...], *, matrix: bool, rows: bool) -> Any:
    """The callback of the function; matrix: of a Jacobian; rows: that takes row numbers as its last argument."""
    found = compile_callback(function, kinds, matrix, rows)
    if isinstance(found, NotCompilableError):
        raise found.with_traceback(None)
    return found


@lru_cache(maxsize=256)
def compile_callback(function: Any, kinds: tuple[Any, ...], matrix: bool, rows: bool) -> Any:
    """The compiled callback, or why there is none."""
    jitted = function if isinstance(function, Dispatcher) else njit(function)
    try:
        return cfunc(SIGNATURE, error_model="numpy")(wrapper(jitted, kinds, matrix, rows))
    except (NumbaError, NotCompilableError, TypeError) as error:
        name = getattr(jitted.py_func, "__qualname__", repr(function))
        code = jitted.py_func.__code__
        what = "jac" if matrix else "F"
        where = f"`{what}` ({name}, {code.co_filename}, line {code.co_firstlineno})"
        return NotCompilableError(f"{where} cannot be compiled: {error}")


def wrapper(function: Any, kinds: tuple[Any, ...], matrix: bool, rows: bool) -> Callable[..., int]:
    """The callback in Python: unpack the arguments, call the function, hand over what it returns."""
    words, names, lines, place = 1, ["w"], [], 0
    names_of: dict[str, Any] = {}
    omits = not function._can_compile or len(inspect.signature(function.py_func).parameters) != 1 + len(kinds) + rows
    for i, (dtype, ndim, layout) in enumerate(kinds):
        name, names_of[f"dtype{i}"] = f"x{i}", np.dtype(dtype).type
        if ndim >= 0:
            shape = "".join(f"t[{place + 1 + k}], " for k in range(ndim))
            lines.append(
                f"{name} = {'farray' if layout == 'F' else 'carray'}(pointer(t[{place}]), ({shape}), dtype{i})"
            )
            words = 1 + ndim
        elif dtype == "<f8":
            lines.append(f"{name} = as_number(t[{place}])")
            words = 2
        elif dtype == "<c16":
            lines.append(f"{name} = complex(as_number(t[{place}]), as_number(t[{place + 1}]))")
            words = 2
        else:
            lines.append(f"{name} = t[{place}]" + (" != 0" if dtype == "?" else ""))
            words = 1
        names.append(name)
        place += words
    if rows:
        lines.append("rows = carray(pointer(rows_), (s,), int64)")
        names.append("rows")
    result = "store_matrix(r, out, n, m)" if matrix else "store_vector(r, out, n)"
    source = "\n    ".join(
        [
            "def callback(w_, m, table, rows_, s, out, n):",
            "w = carray(pointer(w_), (m,), float64)",
            f"t = carray(pointer(table), ({place + 1},), int64)",
            *lines,
            "try:",
            f"    r = function({', '.join(names)})",
            f"    code = {result}",
            "except Exception:",
            f"    code = {RAISED}",
            "return code",
        ]
    )
    scope = {
        "function": function if omits else outside(function),
        "carray": carray,
        "farray": farray,
        "pointer": pointer,
        "as_number": as_number,
        "float64": np.float64,
        "int64": np.int64,
        "store_vector": store_vector,
        "store_matrix": store_matrix,
        **names_of,
    }  # fmt: skip
    exec(source, scope)
    return scope["callback"]
