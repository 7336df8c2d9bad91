"""The user's functions behind one C signature, so that what calls them is compiled once for all of them.

A trampoline is ``code = f(w, m, args, rows, s, out, n)``, all of them 64-bit words: the addresses of w (m,), of the
table of arguments, of the numbers of the rows (s,) and of the place for the result, which are n numbers of F, or n rows
of jac. What exactly went wrong is found out later, by a call from Python.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.core.errors import NumbaError, TypingError
from numba.extending import intrinsic, overload

from plsolve._compiled.words import WORD, address, lent, pointer
from plsolve._linalg import FLOAT64

OK, RAISED, SHAPE = range(3)
SIGNATURE = types.int64(*[types.int64] * 7)


class NotCompilableError(TypeError):
    """Why a function or an argument cannot be used in compiled code."""


class Functions(NamedTuple):
    """The trampolines of F and of jac, with their addresses: 0 where there is none."""

    found: tuple[Any, ...]  # they own the code
    addresses: tuple[int, ...]


@lru_cache(maxsize=256)
def functions(F: Any, jac: Any, kinds: tuple[Any, ...], rows: tuple[bool, bool], result: Any) -> Functions:
    """rows: whether F and jac are called with row numbers; result: what jac's trampoline writes."""
    found = (
        trampoline(F, kinds, result=as_vector, rows=rows[0]),
        None if jac is None else trampoline(jac, kinds, result=result, rows=rows[1]),
    )
    return Functions(found, tuple(0 if f is None else f.address for f in found))


def trampoline(function: Any, kinds: tuple[Any, ...], *, result: Any, rows: bool) -> Any:
    """The trampoline of the function; result: what it writes; rows: that takes row numbers as its last argument."""
    found = compile_trampoline(function, kinds, result, rows)
    if isinstance(found, NotCompilableError):
        raise found.with_traceback(None)
    return found


@lru_cache(maxsize=256)
def compile_trampoline(function: Any, kinds: tuple[Any, ...], result: Any, rows: bool) -> Any:
    """The compiled trampoline, or why there is none."""
    jitted = function if hasattr(function, "py_func") else njit(function)
    try:
        return built(jitted, kinds, result, rows)
    except (NumbaError, NotCompilableError, TypeError) as error:
        name = getattr(jitted.py_func, "__qualname__", repr(function))
        code = jitted.py_func.__code__
        what = "F" if result is as_vector else "jac"
        where = f"`{what}` ({name}, {code.co_filename}, line {code.co_firstlineno})"
        return NotCompilableError(f"{where} cannot be compiled: {error}")


def built(function: Any, kinds: tuple[Any, ...], result: Any, rows: bool) -> Any:
    given = unpacked(kinds, bool(getattr(function, "reads_only", False)), rows)

    def call(w: int, m: int, args: int, numbers: int, s: int, out: int, n: int) -> int:
        return result(function(*given(w, m, args, numbers, s)), out, n, m)

    attempt = guarded(njit(error_model="numpy")(call))
    return cfunc(SIGNATURE)(lambda w, m, args, numbers, s, out, n: attempt(w, m, args, numbers, s, out, n))


def guarded(function: Any) -> Any:
    """A call of the function, of a trampoline's arguments, that gives RAISED where it raises an exception.

    (numba's own try keeps the memory of an exception with arguments, and lets those of `objmode` pass.)
    """
    function.compile(SIGNATURE.args)
    result = function.overloads[SIGNATURE.args]

    @intrinsic
    def attempt(typingctx: Any, w: Any, m: Any, args: Any, numbers: Any, s: Any, out: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            context.add_linking_libs([result.library])
            status, code = context.call_internal_no_propagate(builder, result.fndesc, result.signature, values)
            found = cgutils.alloca_once_value(builder, WORD(RAISED))
            with builder.if_else(status.is_error, likely=False) as (raised, fine):
                with raised:
                    forget(context, builder, status)
                with fine:
                    builder.store(code, found)
            return builder.load(found)

        return SIGNATURE, codegen

    return attempt


def forget(context: Any, builder: Any, status: Any) -> None:
    """Free what there is of an exception: what numba keeps of one with arguments, or Python's own, of `objmode`."""
    with builder.if_then(status.is_user_exc):
        parts = builder.load(status.excinfoptr)  # pickled class, its size, arguments, their reader, whether allocated
        allocated = builder.extract_value(parts, len(parts.type.elements) - 1)
        with builder.if_then(builder.icmp_signed(">", allocated, allocated.type(0))):
            context.nrt.free(builder, builder.extract_value(parts, 2))
            context.nrt.free(builder, builder.bitcast(status.excinfoptr, cgutils.voidptr_t))
    with builder.if_then(status.is_python_exc):
        python = context.get_python_api(builder)
        state = python.gil_ensure()
        python.err_clear()
        python.gil_release(state)


# -- arguments ---------------------------------------------------------------------------------------------------------


def unpacked(kinds: tuple[Any, ...], reads_only: bool, rows: bool) -> Any:
    """What gives, in compiled code, the arguments of a function as a tuple: w, those of the table, and rows.

    The arrays are lent. reads_only: w cannot be written to.
    """
    given = [types.Array(types.float64, 1, "C", readonly=reads_only)]
    for dtype, ndim, layout in kinds:
        number = from_dtype(np.dtype(dtype))
        given.append(number if ndim < 0 else types.Array(number, ndim, layout))
    given += [types.Array(types.int64, 1, "C")] if rows else []
    words = types.int64

    @intrinsic
    def read(typingctx: Any, w: Any, m: Any, table: Any, numbers: Any, s: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            w, m, table, numbers, s = values
            found, place = [lent(context, builder, given[0], w, [m])], 0

            def word(kind: Any = WORD) -> Any:
                nonlocal place
                place += 1
                start = builder.inttoptr(table, kind.as_pointer())
                return builder.load(builder.gep(start, [WORD(place - 1)]))

            for kind in given[1 : 1 + len(kinds)]:
                if isinstance(kind, types.Array):
                    data = word()
                    found.append(lent(context, builder, kind, data, [word() for _ in range(kind.ndim)]))
                elif isinstance(kind, types.Complex):
                    z = context.make_complex(builder, kind)
                    z.real, z.imag = word(cgutils.ir.DoubleType()), word(cgutils.ir.DoubleType())
                    found.append(z._getvalue())
                elif isinstance(kind, types.Float):
                    found.append(word(cgutils.ir.DoubleType()))
                else:
                    found.append(
                        builder.icmp_signed("!=", word(), WORD(0)) if isinstance(kind, types.Boolean) else word()
                    )
            found += [lent(context, builder, given[-1], numbers, [s])] if rows else []
            return context.make_tuple(builder, signature.return_type, found)

        return types.Tuple(given)(words, words, words, words, words), codegen

    return read


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

    @property
    def address(self) -> int:
        """Where the table is."""
        return address(np.frombuffer(self.table, np.int64)) if len(self.table) > WORD_SIZE else 0


WORD_SIZE = 8
_NO_ARGUMENTS = Arguments((), bytes(WORD_SIZE), ())


def arguments(args: tuple[Any, ...]) -> Arguments:
    """The table of arguments, arrays or numbers."""
    if not args:
        return _NO_ARGUMENTS
    kinds: list[Any] = []
    words: list[int] = []
    kept: list[Any] = []
    for i, value in enumerate(args):
        if type(value) is np.ndarray and value.dtype is FLOAT64 and value.flags.carray and value.size:
            kept.append(value)  # the quick way
            kinds.append((FLOAT64.str, value.ndim, "C"))
            words += [address(value), *value.shape]
            continue
        array = np.asarray(value)
        is_array = isinstance(value, np.ndarray)
        if array.dtype.kind not in "biufc" or not array.dtype.isnative or array.dtype.itemsize > 16:
            raise NotCompilableError(f"`args[{i}]` must be an array or a number, got {type(value).__name__}")
        if is_array:
            layout = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
            array = np.asarray(array, order=layout)  # type: ignore[call-overload]
            array = array if array.flags.aligned else array.copy(order=layout)  # type: ignore[arg-type]
            kept.append(array)
            kinds.append((array.dtype.str, array.ndim, layout))
            words += [address(array), *array.shape]
        elif array.ndim:
            raise NotCompilableError(f"`args[{i}]` must be an array or a number, got {type(value).__name__}")
        elif array.dtype.kind in "biu":
            kinds.append(("?" if array.dtype.kind == "b" else "<i8", -1, ""))
            words.append(int(value))
        else:
            kinds.append(("<c16" if array.dtype.kind == "c" else FLOAT64.str, -1, ""))
            numbers = np.atleast_1d(np.asarray(value, kinds[-1][0]))
            words += numbers.view(np.int64).tolist()
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
        words = 1 + ndim if ndim >= 0 else 2 if dtype == "<c16" else 1
        if i >= len(args):
            a = np.ascontiguousarray(each[i - len(args)])
            if ndim >= 0:
                tables[:, place] = address(a) + np.arange(k) * a.strides[0]
            else:
                values = a.astype(np.int64 if dtype in ("?", "<i8") else dtype)
                tables[:, place : place + words] = values.view(np.int64).reshape(k, words)
            kept.append(a)
        place += words
    return tables, tuple(kept)


# -- results -----------------------------------------------------------------------------------------------------------


def as_vector(f: Any, out: int, n: int, m: int) -> int:
    """Write what F returned, n real numbers, to this address."""
    raise NotImplementedError


def as_matrix(J: Any, out: int, n: int, m: int) -> int:
    """Write what jac returned, n x m real numbers."""
    raise NotImplementedError


def as_gradient(J: Any, out: int, n: int, m: int) -> int:
    """Write J^T r behind r, the n numbers that are there: so J is not copied."""
    raise NotImplementedError


REAL = (types.Float, types.Integer, types.Boolean)


@overload(as_vector, strict=False)
def _as_vector(f: Any, out: Any, n: Any, m: Any) -> Any:
    if isinstance(f, types.Tuple):
        return lambda f, out, n, m: as_vector(np.array(f), out, n, m)
    if not isinstance(getattr(f, "dtype", f), REAL) or getattr(f, "ndim", 1) > 1:
        raise TypingError(f"it returns {f}, not a vector of real numbers")
    if isinstance(f, types.Array) and f.ndim == 0:
        return lambda f, out, n, m: as_vector(f[()], out, n, m)
    if isinstance(f, REAL):

        def number(f: Any, out: int, n: int, m: int) -> int:
            if n != 1:
                return SHAPE
            carray(pointer(out), (1,), np.float64)[0] = f
            return OK

        return number

    def vector(f: Any, out: int, n: int, m: int) -> int:
        if len(f) != n:
            return SHAPE
        place = carray(pointer(out), (n,), np.float64)
        for i in range(n):
            place[i] = f[i]
        return OK

    return vector


@overload(as_matrix, strict=False)
def _as_matrix(J: Any, out: Any, n: Any, m: Any) -> Any:
    refuse_other_than_matrices(J)
    if J.ndim == 1:

        def row(J: Any, out: int, n: int, m: int) -> int:
            if n != 1:
                return SHAPE
            return as_vector(J, out, m, m)

        return row

    def matrix(J: Any, out: int, n: int, m: int) -> int:
        if J.shape != (n, m):
            return SHAPE
        place = carray(pointer(out), (n, m), np.float64)
        for i in range(n):
            for j in range(m):
                place[i, j] = J[i, j]
        return OK

    return matrix


@overload(as_gradient, strict=False)
def _as_gradient(J: Any, out: Any, n: Any, m: Any) -> Any:
    refuse_other_than_matrices(J)

    def gradient(J: Any, out: int, n: int, m: int) -> int:
        A, place = np.atleast_2d(J), carray(pointer(out), (n + m,), np.float64)
        if A.shape != (n, m):
            return SHAPE
        for j in range(m):
            place[n + j] = A[0, j] * place[0]
        for i in range(1, n):
            for j in range(m):
                place[n + j] += A[i, j] * place[i]
        return OK

    return gradient


def refuse_other_than_matrices(J: Any) -> None:
    if not (isinstance(J, types.Array) and isinstance(J.dtype, REAL) and J.ndim in (1, 2)):
        raise TypingError(f"it returns {J}, not a matrix of real numbers")
