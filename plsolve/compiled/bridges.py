"""The user's functions behind one C signature, so that the loops are compiled once for all of them.

A callback is ``code = f(w, m, args, rows, s, out, n)``: addresses of w (m,), of the table of arguments, of the
numbers of the rows (s,) and of the place for the result, n numbers or owner and data of the Jacobian. Code 0 is a
success, RAISED an exception and SHAPE a result of the wrong shape; what exactly went wrong is found out later, by a
call from Python. A Jacobian is not copied: its memory changes hands.

It is written in LLVM's language, which takes a tenth of the time that numba's own way to C functions takes.
"""

from __future__ import annotations

import inspect
import itertools
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import from_dtype, njit, types
from numba.core import cgutils
from numba.core.callconv import ALLOC_FLAG_IDX, HASH_BUF_IDX
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target
from numba.extending import overload
from numba.np.arrayobj import populate_array

from plsolve.compiled.callbacks import DOUBLE, WORD, NotCompilableError
from plsolve.compiled.units import known, outside

OK, RAISED, SHAPE = range(3)
W_DATA, ROWS_DATA = 6, -3  # after two places for results an array is owner, parent, two sizes, numbers, shape, strides
COMPLEX = np.dtype(np.complex128).str
_numbers = itertools.count()


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


class Callback(NamedTuple):
    """Where the code is, and what it belongs to: the function that it calls may be no one else's."""

    owners: tuple[Any, ...]
    address: int


def callback(function: Any, kinds: tuple[Any, ...], *, matrix: bool, rows: bool) -> Callback:
    """The callback of the function; matrix: of a Jacobian; rows: that takes row numbers as its last argument."""
    found = compile_callback(function, kinds, matrix, rows)
    if isinstance(found, NotCompilableError):
        raise found.with_traceback(None)
    return found  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def compile_callback(function: Any, kinds: tuple[Any, ...], matrix: bool, rows: bool) -> Any:
    """The compiled callback, or why there is none."""
    jitted = function if isinstance(function, Dispatcher) else njit(function)
    try:
        return bridge(jitted, kinds, matrix, rows)
    except (NumbaError, NotCompilableError, TypeError) as error:
        name = getattr(jitted.py_func, "__qualname__", repr(function))
        code = jitted.py_func.__code__
        what = "jac" if matrix else "F"
        where = f"`{what}` ({name}, {code.co_filename}, line {code.co_firstlineno})"
        return NotCompilableError(f"{where} cannot be compiled: {error}")


@global_compiler_lock  # type: ignore[untyped-decorator]
def bridge(function: Any, kinds: tuple[Any, ...], matrix: bool, rows: bool) -> Callback:
    """The callback: unpack the arguments, call the function, hand over what it returns."""
    name = f"plsolve_callback_{next(_numbers)}"
    result = fitting(function, kinds, matrix, rows, f"{name}_body")
    context = cpu_target.target_context.subtarget(enable_nrt=True)
    library = context.codegen().create_library(name)
    module = library.create_ir_module(name)
    there = ir.Function(module, ir.FunctionType(WORD, [WORD] * 7), name)
    w, m, table, row_numbers, s, out, n = there.args
    builder = ir.IRBuilder(there.append_basic_block())

    def word(address: Any, i: int) -> Any:
        return builder.gep(builder.inttoptr(address, WORD.as_pointer()), [WORD(i)])

    def array(kind: Any, address: Any, shape: list[Any], owner: Any = None) -> Any:
        """The array of numbers that are there."""
        numbers = context.get_data_type(kind.dtype)
        size = context.get_abi_sizeof(numbers)
        strides = [WORD(size)]
        for length in shape[:0:-1] if kind.layout == "C" else shape[:-1]:
            strides.append(builder.mul(strides[-1], length))
        made = context.make_array(kind)(context, builder)
        data = builder.inttoptr(address, numbers.as_pointer())
        strides = strides[: len(shape)]
        populate_array(made, data, shape, strides[::-1] if kind.layout == "C" else strides, size, owner)
        return made._getvalue()

    signature, place = result.signature, 0
    copies: list[tuple[Any, Any]] = []

    def lent(kind: Any, address: Any, length: Any, safe: bool) -> Any:
        """The array of the words that are there; a copy, where the function may write to it or keep it."""
        if safe:
            return array(kind, address, [length])
        size = builder.mul(length, WORD(8))
        owner = context.nrt.meminfo_alloc_aligned_unchecked(builder, size, ir.IntType(32)(64))
        with builder.if_then(cgutils.is_null(builder, owner), likely=False):
            builder.ret(WORD(RAISED))
        data = context.nrt.meminfo_data(builder, owner)
        cgutils.raw_memcpy(builder, data, builder.inttoptr(address, data.type), size, 1)
        copies.append((kind, array(kind, builder.ptrtoint(data, WORD), [length], owner)))
        return copies[-1][1]

    values = [lent(signature.args[0], w, m, declared(function) or reads_only(result, W_DATA))]
    for (dtype, ndim, _), kind in zip(kinds, signature.args[1:], strict=False):
        first = builder.load(word(table, place))
        if ndim >= 0:
            values.append(array(kind, first, [builder.load(word(table, place + 1 + k)) for k in range(ndim)]))
            place += 1 + ndim
        elif dtype in (DOUBLE, COMPLEX):
            real, imaginary = (builder.bitcast(builder.load(word(table, place + k)), ir.DoubleType()) for k in (0, 1))
            value = context.make_complex(builder, types.complex128)
            value.real, value.imag = real, imaginary
            values.append(real if dtype == DOUBLE else value._getvalue())
            place += 2
        else:
            values.append(first if dtype != "?" else builder.icmp_signed("!=", first, WORD(0)))
            place += 1
    values += [lent(signature.args[-1], row_numbers, s, reads_only(result, ROWS_DATA))] if rows else []

    convention, kind = context.call_conv, signature.return_type
    body = cgutils.get_or_insert_function(module, convention.get_function_type(kind, signature.args), f"{name}_body")
    status, value = convention.call_function(builder, body, kind, signature.args, values)
    for argument, copy in copies:
        context.nrt.decref(builder, argument, copy)
    with builder.if_then(status.is_error, likely=False):
        forget(context, builder, status)
        builder.ret(WORD(RAISED))
    hand_over(context, builder, kind, value, (n, m), out)
    context.post_lowering(module, library)
    library.add_ir_module(module)
    library.finalize()
    return Callback((library, result), library.get_pointer_to_function(name))


def declared(function: Any) -> bool:
    """Whether the function is said to do no more with w than to read it: then it is compiled for a read-only array."""
    return bool(getattr(function, "reads_only", False))


def hand_over(context: Any, builder: Any, kind: Any, value: Any, shape: tuple[Any, Any], out: Any) -> None:
    """Return with the numbers of F, or with the owner and the numbers of a Jacobian, where the shape is right."""
    made = context.make_array(kind)(context, builder, value)
    lengths = zip(cgutils.unpack_tuple(builder, made.shape), shape, strict=False)
    wrong = [builder.icmp_signed("!=", length, wanted) for length, wanted in lengths]
    with builder.if_then(builder.or_(wrong[0], wrong[-1]), likely=False):
        context.nrt.decref(builder, kind, value)
        builder.ret(WORD(SHAPE))
    place = builder.inttoptr(out, WORD.as_pointer())
    if kind.ndim == 2:
        builder.store(builder.ptrtoint(made.meminfo, WORD), place)
        builder.store(builder.ptrtoint(made.data, WORD), builder.gep(place, [WORD(1)]))
    else:
        cgutils.raw_memcpy(builder, builder.bitcast(place, made.data.type), made.data, shape[0], 8)
        context.nrt.decref(builder, kind, value)
    builder.ret(WORD(OK))


def forget(context: Any, builder: Any, status: Any) -> None:
    """Free what there is of an exception: Python's own, or what numba keeps where arguments were computed."""
    with builder.if_then(status.is_user_exc):
        parts = builder.load(status.excinfoptr)
        computed = builder.icmp_signed(">", builder.extract_value(parts, ALLOC_FLAG_IDX), ir.IntType(32)(0))
        with builder.if_then(computed):
            context.nrt.free(builder, builder.extract_value(parts, HASH_BUF_IDX))
            context.nrt.free(builder, builder.bitcast(status.excinfoptr, cgutils.voidptr_t))
    python = context.get_python_api(builder)
    state = python.gil_ensure()
    python.err_clear()
    python.gil_release(state)


def reads_only(result: Any, place: int) -> bool:
    """Whether the compiler has found that the function does no more with this argument than to read it."""
    try:
        body = result.library._final_module.get_function(result.fndesc.llvm_func_name)
    except NameError:  # it comes from a cache
        return False
    numbers = list(body.arguments)[place]
    found = {bytes(attribute).decode() for attribute in numbers.attributes}
    return bool(found & {"readonly", "readnone"} and found & {"captures(none)", "nocapture"})


def fitting(function: Any, kinds: tuple[Any, ...], matrix: bool, rows: bool, name: str) -> Any:
    """The function compiled for these arguments, known to the linker, or what converts its results."""
    arguments = [types.Array(types.float64, 1, "C", readonly=declared(function))]
    for dtype, ndim, layout in kinds:
        number = from_dtype(np.dtype(dtype))
        arguments.append(number if ndim < 0 else types.Array(number, ndim, layout))
    arguments += [types.Array(types.int64, 1, "C")] if rows else []
    exact = function._can_compile and len(inspect.signature(function.py_func).parameters) == len(arguments)
    if exact:
        result = known(function, tuple(arguments), name)
        if as_handed_over(result.signature.return_type, 2 if matrix else 1):
            return result
    names = ", ".join(f"x{i}" for i in range(len(arguments)))
    scope = {"function": outside(function) if exact else function, "handed": as_matrix if matrix else as_vector}
    return known(njit(eval(f"lambda {names}: handed(function({names}))", scope)), tuple(arguments), name)


def as_handed_over(kind: Any, ndim: int) -> bool:
    """Whether this is an array of float64 in C order with so many dimensions, and none of the caller's."""
    return (
        isinstance(kind, types.Array)
        and kind.mutable
        and (kind.dtype, kind.ndim, kind.layout) == (types.float64, ndim, "C")
    )


def as_vector(f: Any) -> Any:
    """What F returned, as an array of float64."""


def as_matrix(J: Any) -> Any:
    """What jac returned."""


REAL = (types.Float, types.Integer, types.Boolean)


@overload(as_vector, strict=False)
def _as_vector(f: Any) -> Any:
    if isinstance(f, REAL):
        return lambda f: np.full(1, f, np.float64)
    if isinstance(f, types.Array) and f.ndim == 0 and isinstance(f.dtype, REAL):
        return lambda f: np.full(1, f[()], np.float64)
    if isinstance(f, types.Array) and f.ndim == 1 and isinstance(f.dtype, REAL):
        return lambda f: np.ascontiguousarray(f).astype(np.float64)
    if isinstance(f, (types.UniTuple, types.Sequence)) and isinstance(f.dtype, REAL):

        def copied(f: Any) -> Any:
            values = np.empty(len(f))
            for i in range(len(f)):
                values[i] = f[i]
            return values

        return copied
    if isinstance(f, types.Tuple):
        return lambda f: as_vector(np.array(f))
    raise NotCompilableError(f"it returns {f}, not a vector of real numbers")


@overload(as_matrix, strict=False)
def _as_matrix(J: Any) -> Any:
    if not (isinstance(J, types.Array) and isinstance(J.dtype, REAL) and J.ndim in (1, 2)):
        raise NotCompilableError(f"it returns {J}, not a matrix of real numbers")
    if J.ndim == 1:
        return lambda J: J.astype(np.float64).reshape(1, J.size)
    return lambda J: np.ascontiguousarray(J).astype(np.float64)
