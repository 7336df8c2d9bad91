"""Intrinsics for addresses in compiled code, which numba itself does not offer."""

from __future__ import annotations

import ctypes
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

WORD = ir.IntType(64)


@intrinsic
def pointer(typingctx: Any, place: Any) -> Any:
    """An address as a pointer, for `numba.carray`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


@intrinsic
def data(typingctx: Any, array: Any) -> Any:
    """The address of the data of a contiguous array."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ptrtoint(context.make_array(signature.args[0])(context, builder, values[0]).data, WORD)

    return types.int64(array), codegen


@intrinsic
def call(typingctx: Any, place: Any, w: Any, m: Any, args: Any, rows: Any, s: Any, out: Any, n: Any) -> Any:
    """Call the trampoline (see `plsolve._compiled.functions`) at this address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(WORD, [WORD] * 7).as_pointer()
        return builder.call(builder.inttoptr(values[0], kind), values[1:])

    return types.int64(*[types.int64] * 8), codegen


def lent(context: Any, builder: Any, kind: Any, data: Any, shape: list[Any]) -> Any:
    """An array over the data at this address, which it does not own."""
    made = context.make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [WORD(size)]
    for length in shape[:0:-1] if kind.layout == "C" else shape[:-1]:
        strides.append(builder.mul(strides[-1], length))
    strides = strides[: len(shape)]
    made.nitems = WORD(1)
    for length in shape:
        made.nitems = builder.mul(made.nitems, length)
    made.itemsize = WORD(size)
    made.data = builder.inttoptr(data, made.data.type)
    made.shape = cgutils.pack_array(builder, shape, ty=WORD)
    made.strides = cgutils.pack_array(builder, strides[::-1] if kind.layout == "C" else strides, ty=WORD)
    return made._getvalue()


@intrinsic
def enter(typingctx: Any, place: Any, S: Any, x: Any, y: Any) -> Any:
    """Call the unit (see `plsolve._compiled.cache`) at this address with a system and two numbers."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [WORD, ir.DoubleType(), ir.DoubleType()]).as_pointer()
        builder.call(builder.inttoptr(values[0], kind), values[1:])
        return context.get_dummy_value()

    return types.none(types.int64, types.int64, types.float64, types.float64), codegen


CLOCK = getattr(ctypes.pythonapi, "PyTime_MonotonicRaw", None) or ctypes.pythonapi._PyTime_GetMonotonicClock
RETURNS = CLOCK is getattr(ctypes.pythonapi, "_PyTime_GetMonotonicClock", None)  # the time; else it writes it
llvm.add_symbol("plsolve_clock", ctypes.cast(CLOCK, ctypes.c_void_p).value)
clock = types.ExternalFunction("plsolve_clock", types.int64(types.int64))  # that of time.monotonic, without the GIL


@intrinsic
def take(typingctx: Any, turn: Any) -> Any:
    """The number in an array, which is incremented atomically, so that no two threads get the same."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.atomic_rmw("add", array.data, WORD(1), "monotonic")

    return types.int64(turn), codegen


def address(array: Any) -> int:
    """The address of the data of an array, from Python."""
    if array.flags.carray and array.size:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # several times quicker
    return int(array.__array_interface__["data"][0])
