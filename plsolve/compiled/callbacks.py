"""What passes between Python and compiled code: calls of the user's functions, bits, random numbers, arguments."""

from __future__ import annotations

import ctypes
import struct
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from plsolve.linalg import FLOAT64

DOUBLE = FLOAT64.str
WORD = ir.IntType(64)


class NotCompilableError(TypeError):
    """Why a function or an argument cannot be used in compiled code."""


# -- inside compiled code ----------------------------------------------------------------------------------------------


@intrinsic
def call(typingctx: Any, address: Any, w: Any, m: Any, args: Any, rows: Any, out: Any, n: Any) -> Any:
    """The code of the callback (see `plsolve.compiled.bridges`) at this address; w, args and out are addresses."""

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


# -- from Python -------------------------------------------------------------------------------------------------------


class Arguments(NamedTuple):
    """The user's `args` as compiled code reads them.

    Attributes
    ----------
    kinds : tuple
        For each its kind: (dtype, ndim, layout), ndim -1 for a number.
    table : bytes
        Addresses, shapes and numbers, eight bytes each.
    kept : tuple
        What must stay alive.
    """

    kinds: tuple[Any, ...]
    table: bytes
    kept: tuple[Any, ...]


_NO_ARGUMENTS = Arguments((), bytes(8), ())


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
        table = struct.pack(f"{len(words) + 1}q", *words, 0)
    except struct.error:
        raise NotCompilableError("`args` has an integer of more than 64 bits") from None
    return Arguments(tuple(kinds), table, tuple(kept))


def arguments_of_each(args: tuple[Any, ...], each: tuple[Any, ...], k: int) -> tuple[Any, tuple[Any, ...]]:
    """Tables of arguments (k, words), one for each system, and what must stay alive."""
    shared = arguments((*args, *(a[0] for a in each)))
    tables = np.tile(np.frombuffer(shared.table, np.int64), (k, 1))
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
