"""The user's functions behind one C signature, so that their callers are compiled once for all functions.

A trampoline is ``code = f(w, m, args, rows, s, out, n)``, all of them 64-bit words: the addresses of w (m,), of the
table of arguments, of the numbers of the rows (s,) and of the place for the result, which are n numbers of F, or n rows
of jac. If a call fails, the exception is obtained later by a call from Python.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numba import carray, cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.core.errors import NumbaError, TypingError
from numba.extending import intrinsic, overload

from plsolve._compiled.words import WORD, address, lent, pointer
from plsolve._system import Indices

OK, RAISED, SHAPE = range(3)
SIGNATURE = types.int64(*[types.int64] * 7)


class NotCompilableError(TypeError):
    """Says why a function or an argument cannot be used in compiled code."""


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
    """The compiled trampoline; an error says why there is none."""
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
    """Free the memory of an exception: numba's record of its arguments, or the Python object if raised in `objmode`."""
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
    """An intrinsic that returns the arguments of a function as a tuple: w, those of the table, and rows.

    The arrays do not own their memory. reads_only: w is read-only.
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
            found, words = [lent(context, builder, given[0], w, [m])], builder.inttoptr(table, WORD.as_pointer())
            place = count()
            for kind in given[1 : 1 + len(kinds)]:
                data = builder.load(builder.gep(words, [WORD(next(place))]))
                if isinstance(kind, types.Array):
                    shape = [builder.load(builder.gep(words, [WORD(next(place))])) for _ in range(kind.ndim)]
                    found.append(lent(context, builder, kind, data, shape))
                else:
                    number = builder.inttoptr(data, context.get_data_type(kind).as_pointer())
                    found.append(context.unpack_value(builder, kind, number))
            found += [lent(context, builder, given[-1], numbers, [s])] if rows else []
            return context.make_tuple(builder, signature.return_type, found)

        return types.Tuple(given)(words, words, words, words, words), codegen

    return read


class Arguments(NamedTuple):
    """The user's `args` as compiled code reads them.

    Attributes
    ----------
    kinds : tuple
        The kind of each argument: (dtype, ndim, layout), with ndim -1 for a number.
    table : ndarray of int64
        The address of each argument and, for arrays, the shape.
    kept : tuple
        The objects that must stay alive.
    """

    kinds: tuple[Any, ...]
    table: Indices
    kept: tuple[Any, ...]

    @property
    def address(self) -> int:
        """The address of the table."""
        return address(self.table) if self.table.size else 0


NO_ARGUMENTS = Arguments(kinds=(), table=np.zeros(0, np.int64), kept=())


def arguments(args: tuple[Any, ...]) -> Arguments:
    """The table of arguments, arrays or numbers."""
    if not args:
        return NO_ARGUMENTS
    kinds: list[Any] = []
    words: list[int] = []
    kept: list[Any] = []
    for i, value in enumerate(args):
        array, is_array = np.asarray(value), isinstance(value, np.ndarray)
        dtype = array.dtype
        known = dtype.kind in "biufc" and dtype.isnative and dtype.itemsize <= 16
        if not known or (array.ndim and not is_array):
            raise NotCompilableError(f"`args[{i}]` must be an array or a number, got {type(value).__name__}")
        array = array if array.flags.forc and array.flags.aligned else array.copy()
        kept.append(array)
        kinds.append((dtype.str, array.ndim if is_array else -1, "F" if array.flags.fnc else "C"))
        words += [address(array), *array.shape]
    return Arguments(kinds=tuple(kinds), table=np.array(words, np.int64), kept=tuple(kept))


def arguments_of_each(args: tuple[Any, ...], each: tuple[Any, ...], k: int) -> tuple[Any, tuple[Any, ...]]:
    """Tables of arguments (k, words), one for each system, and the objects that must stay alive."""
    shared = arguments((*args, *(a[0] for a in each)))
    tables, place = np.tile(shared.table, (k, 1)), 0
    kept = [np.ascontiguousarray(a) for a in each]
    for i, (_, ndim, _) in enumerate(shared.kinds):
        if i >= len(args):
            a = kept[i - len(args)]
            tables[:, place] = address(a) + np.arange(k) * a.strides[0]
        place += 1 + max(ndim, 0)
    return tables, (shared.kept, *kept)


# -- results -----------------------------------------------------------------------------------------------------------


def as_vector(f: Any, out: int, n: int, m: int) -> int:
    """Write the value of F, n real numbers, to this address."""
    raise NotImplementedError


def as_matrix(J: Any, out: int, n: int, m: int) -> int:
    """Write the value of jac, n x m real numbers, to this address."""
    raise NotImplementedError


def as_gradient(J: Any, out: int, n: int, m: int) -> int:
    """Write J^T r behind the n numbers r at this address, so that J need not be copied."""
    raise NotImplementedError


REAL = (types.Float, types.Integer, types.Boolean)


@overload(as_vector, strict=False)
def _as_vector(f: Any, out: Any, n: Any, m: Any) -> Any:
    if isinstance(f, types.BaseTuple):
        return lambda f, out, n, m: as_vector(np.array(f), out, n, m)
    if not isinstance(getattr(f, "dtype", f), REAL) or getattr(f, "ndim", 1) > 1:
        raise TypingError(f"it returns {f}, not a vector of real numbers")
    if isinstance(f, REAL):
        return lambda f, out, n, m: as_vector((f,), out, n, m)
    if isinstance(f, types.Array) and f.ndim == 0:
        return lambda f, out, n, m: as_vector((f[()],), out, n, m)

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

    def matrix(J: Any, out: int, n: int, m: int) -> int:
        A, place = np.atleast_2d(J), carray(pointer(out), (n, m), np.float64)
        if A.shape != (n, m):
            return SHAPE
        for i in range(n):
            for j in range(m):
                place[i, j] = A[i, j]
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
