"""Vectors and matrices of compiled code, in memory that is kept for the whole run.

numba's own arrays ask for memory, and count their owners, at every step of an expression: many times what the numbers
of a small system take. Here a vector is an address and a size, and its memory one of the run's blocks: taken by
counting up, given back all at once at the end of an iteration (`settle`), but for what the states of the loop hold. So
the methods' expressions, w + eta * d, are written as for numpy and cost what their numbers cost.

A mask is a vector of zeros and ones. Matrices hold their numbers in C or in Fortran order.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    lower_builtin,
    make_attribute_wrapper,
    models,
    overload,
    overload_attribute,
    overload_method,
    register_jitable,
    register_model,
)

from plsolve.compiled.units import unit

WORD, DOUBLE = ir.IntType(64), ir.DoubleType()
SCALAR = (types.Float, types.Integer, types.Boolean)


class VectorType(types.Type):
    """A vector of float64."""

    def __init__(self) -> None:
        super().__init__("plsolve.Vector")


class MatrixType(types.Type):
    """A matrix of float64; order is 'C' or 'F'."""

    def __init__(self, order: str) -> None:
        self.order = order
        super().__init__(f"plsolve.Matrix{order}")


VECTOR, MATRIX, TRANSPOSE = VectorType(), MatrixType("C"), MatrixType("F")


@register_model(VectorType)
class _VectorModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [(name, types.int64) for name in ("data", "size", "frame")])


@register_model(MatrixType)
class _MatrixModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [(name, types.int64) for name in ("data", "rows", "columns", "frame")])


for _name in ("data", "size", "frame"):
    make_attribute_wrapper(VectorType, _name, _name)
for _name in ("data", "rows", "columns", "frame"):
    make_attribute_wrapper(MatrixType, _name, _name)


def _maker(kind: Any, names: tuple[str, ...]) -> Any:
    """What makes a value of this type from its members."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        made = cgutils.create_struct_proxy(kind)(context, builder)
        for name, value in zip(names, values, strict=True):
            setattr(made, name, value)
        return made._getvalue()

    if len(names) == 3:
        return intrinsic(lambda typingctx, data, size, frame: (kind(*[types.int64] * 3), codegen))
    return intrinsic(lambda typingctx, data, rows, columns, frame: (kind(*[types.int64] * 4), codegen))


vector = _maker(VECTOR, ("data", "size", "frame"))
matrix = _maker(MATRIX, ("data", "rows", "columns", "frame"))
transpose = _maker(TRANSPOSE, ("data", "rows", "columns", "frame"))


# -- memory ------------------------------------------------------------------------------------------------------------


def _place(builder: Any, address: Any, kind: Any) -> Any:
    return builder.inttoptr(address, kind.as_pointer())


@intrinsic
def peek(typingctx: Any, address: Any) -> Any:
    """The word at this address."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load(_place(builder, values[0], WORD))

    return types.int64(types.int64), codegen


@intrinsic
def poke(typingctx: Any, address: Any, word: Any) -> Any:
    """Put the word there."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store(values[1], _place(builder, values[0], WORD))
        return context.get_dummy_value()

    return types.none(types.int64, types.int64), codegen


@intrinsic
def load(typingctx: Any, x: Any, i: Any) -> Any:
    """The i-th number of a vector or matrix in memory, unchecked."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = builder.extract_value(values[0], 0)
        return builder.load(builder.gep(_place(builder, data, DOUBLE), [values[1]]))

    return types.float64(x, types.int64), codegen


@intrinsic
def store(typingctx: Any, x: Any, i: Any, number: Any) -> Any:
    """Set it."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = builder.extract_value(values[0], 0)
        builder.store(values[2], builder.gep(_place(builder, data, DOUBLE), [values[1]]))
        return context.get_dummy_value()

    return types.none(x, types.int64, types.float64), codegen


@register_jitable
def address_of(x: Any) -> Any:
    """Where the numbers of an array are."""
    return np.int64(x.ctypes.data)


@intrinsic
def malloc(typingctx: Any, size: Any) -> Any:
    """Memory of so many bytes, which is to be freed."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(cgutils.voidptr_t, [WORD])
        there = cgutils.get_or_insert_function(builder.module, kind, "malloc")
        return builder.ptrtoint(builder.call(there, values), WORD)

    return types.int64(types.int64), codegen


@intrinsic
def free(typingctx: Any, address: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t])
        there = cgutils.get_or_insert_function(builder.module, kind, "free")
        builder.call(there, [builder.inttoptr(values[0], cgutils.voidptr_t)])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


OWNER = types.Array(types.float64, 2, "C")


@intrinsic
def drop(typingctx: Any, meminfo: Any) -> Any:
    """Give up what a callback has handed over."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(OWNER)(context, builder)
        array.meminfo = builder.inttoptr(values[0], cgutils.voidptr_t)
        context.nrt.decref(builder, OWNER, array._getvalue())
        return context.get_dummy_value()

    return types.none(types.int64), codegen


# The words of the run's memory, at the beginning of its frame; the first BASE blocks are kept throughout.
(BLOCK, TABLE, CAPACITY, TOTAL, USED, BASE, SLABS, LARGE, EPOCH, OWNERS, FIRST_OWNER) = range(11)
MOST_OWNERS = 6
MEMORY_WORDS = FIRST_OWNER + MOST_OWNERS
_HEADER = 64  # bytes before the blocks of a slab: the address of the slab before
_NODE = 64  # bytes before a large piece: the next one, its bytes, and the epoch it was taken in


@register_jitable
def allocate(frame: int, size: int) -> int:
    """The address of so many numbers, good to the end of the iteration."""
    used = peek(frame + 8 * USED)
    if used < peek(frame + 8 * TOTAL) and size <= peek(frame + 8 * BLOCK):
        poke(frame + 8 * USED, used + 1)
        return peek(peek(frame + 8 * TABLE) + 8 * used)
    return more(frame, size)


def more(frame: int, size: int) -> int:
    block = peek(frame + 8 * BLOCK)
    if size > block:
        return large(frame, 8 * size)
    total = peek(frame + 8 * TOTAL)
    fresh = 48 if block <= 4096 else 8
    if total + fresh > peek(frame + 8 * CAPACITY):
        capacity = 2 * (total + fresh)
        table, before = malloc(8 * capacity), peek(frame + 8 * TABLE)
        for i in range(total):
            poke(table + 8 * i, peek(before + 8 * i))
        if before != 0:
            free(before)
        poke(frame + 8 * TABLE, table)
        poke(frame + 8 * CAPACITY, capacity)
    slab = malloc(_HEADER + 8 * block * fresh)
    poke(slab, peek(frame + 8 * SLABS))
    poke(frame + 8 * SLABS, slab)
    table = peek(frame + 8 * TABLE)
    for i in range(fresh):
        poke(table + 8 * (total + i), slab + _HEADER + 8 * block * i)
    poke(frame + 8 * TOTAL, total + fresh)
    used = peek(frame + 8 * USED)
    poke(frame + 8 * USED, used + 1)
    return peek(table + 8 * used)


unit(more)


@register_jitable
def large(frame: int, size: int) -> int:
    """A piece that is larger than a block: one that is free and fits, or a new one."""
    epoch, node = peek(frame + 8 * EPOCH), peek(frame + 8 * LARGE)
    while node != 0:
        if peek(node + 16) != epoch and size <= peek(node + 8) <= 2 * size + 1024:
            poke(node + 16, epoch)
            return node + _NODE
        node = peek(node)
    node = malloc(_NODE + size)
    poke(node, peek(frame + 8 * LARGE))
    poke(node + 8, size)
    poke(node + 16, epoch)
    poke(frame + 8 * LARGE, node)
    return node + _NODE


@register_jitable
def start_memory(frame: int, block: int) -> None:
    """Memory for vectors of up to `block` numbers; the frame begins with MEMORY_WORDS for it."""
    for i in range(MEMORY_WORDS):
        poke(frame + 8 * i, 0)
    poke(frame + 8 * BLOCK, block)
    poke(frame + 8 * EPOCH, 1)


@register_jitable
def own(frame: int, meminfo: int) -> bool:
    """Keep this to the end of the iteration; False: there is no room to note it."""
    count = peek(frame + 8 * OWNERS)
    if count == MOST_OWNERS:
        return False
    poke(frame + 8 * (FIRST_OWNER + count), meminfo)
    poke(frame + 8 * OWNERS, count + 1)
    return True


@register_jitable
def hold(frame: int, data: int, kept: int) -> int:
    """Keep the block at this address, beside the `kept` first ones: how many these are now."""
    table, i = peek(frame + 8 * TABLE), peek(frame + 8 * USED) - 1
    for k in range(peek(frame + 8 * BASE), kept):
        if peek(table + 8 * k) == data:
            return kept
    while i >= kept:
        there = table + 8 * i
        if peek(there) == data:
            poke(there, peek(table + 8 * kept))
            poke(table + 8 * kept, data)
            return kept + 1
        i -= 1
    return kept


@register_jitable
def release(frame: int, kept: int) -> None:
    """The end of an iteration: all but the `kept` first blocks are free."""
    poke(frame + 8 * USED, kept)
    poke(frame + 8 * EPOCH, peek(frame + 8 * EPOCH) + 1)
    for i in range(peek(frame + 8 * OWNERS)):
        drop(peek(frame + 8 * (FIRST_OWNER + i)))
    poke(frame + 8 * OWNERS, 0)


def end_memory(frame: int) -> None:
    release(frame, 0)
    for first in (SLABS, LARGE):
        piece = peek(frame + 8 * first)
        while piece != 0:
            after = peek(piece)
            free(piece)
            piece = after
    if peek(frame + 8 * TABLE) != 0:
        free(peek(frame + 8 * TABLE))


unit(end_memory)


@register_jitable
def new(frame: int, size: int) -> Any:
    """A vector whose numbers are to be set."""
    return vector(allocate(frame, size), size, frame)


@register_jitable
def new_matrix(frame: int, rows: int, columns: int) -> Any:
    return matrix(allocate(frame, rows * columns), rows, columns, frame)


@register_jitable
def new_transpose(frame: int, rows: int, columns: int) -> Any:
    return transpose(allocate(frame, rows * columns), rows, columns, frame)


# -- vectors as the methods write them ---------------------------------------------------------------------------------


def is_vector(x: Any) -> bool:
    return isinstance(x, VectorType)


def _elementwise(symbol: str) -> Any:
    """An overload for vectors and numbers: `symbol` is in terms of p and q."""

    def choose(x: Any, y: Any) -> Any:
        pair = (is_vector(x), is_vector(y))
        if not any(pair) or not all(v or isinstance(k, SCALAR) for v, k in zip(pair, (x, y), strict=True)):
            return None
        like = "x" if pair[0] else "y"
        p, q = ("load(x, i)" if pair[0] else "x"), ("load(y, i)" if pair[1] else "y")
        source = (
            f"def implement(x, y):\n    z = new({like}.frame, {like}.size)\n"
            f"    for i in range(z.size):\n        store(z, i, {symbol.format(p=p, q=q)})\n    return z"
        )
        scope = {"new": new, "load": load, "store": store}
        exec(source, scope)
        return scope["implement"]

    return choose


for _operator, _symbol in {
    operator.add: "{p} + {q}",
    operator.sub: "{p} - {q}",
    operator.mul: "{p} * {q}",
    operator.truediv: "{p} / {q}",
    operator.le: "1.0 if {p} <= {q} else 0.0",
    operator.ge: "1.0 if {p} >= {q} else 0.0",
    operator.lt: "1.0 if {p} < {q} else 0.0",
    operator.gt: "1.0 if {p} > {q} else 0.0",
    operator.and_: "{p} * {q}",
    operator.or_: "max({p}, {q})",
    np.minimum: "{q} if {q} < {p} or {q} != {q} else {p}",
    np.maximum: "{q} if {q} > {p} or {q} != {q} else {p}",
}.items():
    overload(_operator, strict=False)(_elementwise(_symbol))
overload(operator.eq, strict=False)(_elementwise("1.0 if {p} == {q} else 0.0"))


def _mapped(symbol: str) -> Any:
    def choose(x: Any) -> Any:
        if not is_vector(x):
            return None
        source = (
            "def implement(x):\n    z = new(x.frame, x.size)\n"
            f"    for i in range(z.size):\n        store(z, i, {symbol.format(p='load(x, i)')})\n    return z"
        )
        scope = {"new": new, "load": load, "store": store, "abs": abs}
        exec(source, scope)
        return scope["implement"]

    return choose


for _operator, _symbol in {
    operator.neg: "-{p}",
    operator.invert: "1.0 - {p}",
    np.abs: "abs({p})",
}.items():
    overload(_operator, strict=False)(_mapped(_symbol))


@overload(np.full_like, strict=False)
def _full_like(x: Any, value: Any) -> Any:
    def filled(x: Any, value: Any) -> Any:
        z = new(x.frame, x.size)
        for i in range(z.size):
            store(z, i, value)
        return z

    return filled if is_vector(x) else None


@overload(operator.getitem, strict=False)
def _getitem(x: Any, i: Any) -> Any:
    if not is_vector(x):
        return None
    if isinstance(i, types.Integer):
        return lambda x, i: load(x, i)
    if isinstance(i, types.Array):

        def taken(x: Any, i: Any) -> Any:
            z = new(x.frame, i.size)
            for k in range(i.size):
                store(z, k, load(x, i[k]))
            return z

        return taken
    return None


@overload(operator.setitem, strict=False)
def _setitem(x: Any, i: Any, value: Any) -> Any:
    return (lambda x, i, value: store(x, i, float(value))) if is_vector(x) else None


@overload(len, strict=False)
def _len(x: Any) -> Any:
    return (lambda x: x.size) if is_vector(x) else None


@lower_builtin(operator.is_, VectorType, VectorType)  # type: ignore[untyped-decorator]
def _same(context: Any, builder: Any, signature: Any, values: Any) -> Any:
    """numba's own `is` is False for types that it does not know."""
    data, size = (builder.icmp_signed("==", *(builder.extract_value(v, i) for v in values)) for i in (0, 1))
    return builder.and_(data, size)


@overload(np.array_equal, strict=False)
def _array_equal(x: Any, y: Any) -> Any:
    def equal(x: Any, y: Any) -> Any:
        for i in range(x.size):
            if load(x, i) != load(y, i):
                return False
        return x.size == y.size

    return equal if is_vector(x) else None


@overload(np.count_nonzero, strict=False)
def _count_nonzero(x: Any) -> Any:
    def count(x: Any) -> Any:
        k = 0
        for i in range(x.size):
            k += load(x, i) != 0.0
        return k

    return count if is_vector(x) else None


@overload_method(VectorType, "copy", strict=False)
def _copy(self: Any) -> Any:
    def copied(self: Any) -> Any:
        z = new(self.frame, self.size)
        for i in range(z.size):
            store(z, i, load(self, i))
        return z

    return copied


@overload_method(VectorType, "any", strict=False)
def _any(self: Any) -> Any:
    return lambda self: np.count_nonzero(self) > 0


@overload_method(VectorType, "all", strict=False)
def _all(self: Any) -> Any:
    return lambda self: np.count_nonzero(self) == self.size


@overload_method(VectorType, "min", strict=False)
def _min(self: Any) -> Any:
    def least(self: Any) -> Any:
        x = np.inf
        for i in range(self.size):
            x = min(x, load(self, i))
        return x

    return least


@overload_method(VectorType, "astype", strict=False)
def _astype(self: Any, kind: Any) -> Any:
    return lambda self, kind: self


# -- matrices ----------------------------------------------------------------------------------------------------------


@overload_attribute(MatrixType, "shape", strict=False)
def _shape(A: Any) -> Any:
    return lambda A: (A.rows, A.columns)


@overload_attribute(MatrixType, "T", strict=False)
def _transposed(A: Any) -> Any:
    if A.order == "C":
        return lambda A: transpose(A.data, A.columns, A.rows, A.frame)
    return lambda A: matrix(A.data, A.columns, A.rows, A.frame)


@overload(np.asfortranarray, strict=False)
def _asfortranarray(A: Any) -> Any:
    def reordered(A: Any) -> Any:
        B = new_transpose(A.frame, A.rows, A.columns)
        for i in range(A.rows):
            for j in range(A.columns):
                store(B, j * A.rows + i, load(A, i * A.columns + j))
        return B

    if not isinstance(A, MatrixType):
        return None
    return reordered if A.order == "C" else lambda A: A
