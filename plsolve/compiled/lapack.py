"""BLAS and LAPACK inside compiled code: scipy's own routines, called without copies and without the interpreter.

The routines are known to the linker under fixed names, so that code that calls them can be cached on disk. Each
function of `plsolve.linalg` that stands on scipy.linalg gets its compiled counterpart here.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic, overload

from plsolve import linalg, tangent

DOUBLE, INT, CHAR = ir.DoubleType(), ir.IntType(32), ir.IntType(8)
LOWER, LEFT, TRANSPOSED, PLAIN, UPPER, ONE, ALL = (ord(c) for c in "LLTNU1A")


def routine(library: str, name: str, letters: int, returns: bool = False) -> Any:
    """The Fortran routine as a function of compiled code: its arguments in one tuple, the first `letters` characters.

    Arrays are passed by their data, numbers by a pointer to a copy. Gives the last argument back, info as a rule; a
    function gives its value.
    """
    symbol = f"plsolve_{name}"
    llvm.add_symbol(symbol, get_cython_function_address(f"scipy.linalg.cython_{library}", name))

    @intrinsic
    def call(typingctx: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointers = []
            for i, kind in enumerate(arguments):
                value = builder.extract_value(values[0], i)
                if isinstance(kind, types.Array):
                    pointers.append(context.make_array(kind)(context, builder, value).data)
                    continue
                where = DOUBLE if isinstance(kind, types.Float) else CHAR if i < letters else INT
                if where is not DOUBLE:
                    value = builder.trunc(value, where)
                pointers.append(cgutils.alloca_once_value(builder, value))
            function = ir.FunctionType(DOUBLE if returns else ir.VoidType(), [p.type for p in pointers])
            value = builder.call(cgutils.get_or_insert_function(builder.module, function, symbol), pointers)
            return value if returns else builder.sext(builder.load(pointers[-1]), ir.IntType(64))

        numbers = types.Tuple([types.int64 if isinstance(a, types.Integer) else a for a in arguments])
        return (types.float64 if returns else types.int64)(numbers), codegen

    return call


dnrm2 = routine("blas", "dnrm2", 0, returns=True)
dsyrk = routine("blas", "dsyrk", 2)
dpotrf = routine("lapack", "dpotrf", 1)
dpotrs = routine("lapack", "dpotrs", 1)
dgeqrf = routine("lapack", "dgeqrf", 0)
dormqr = routine("lapack", "dormqr", 2)
dtrtrs = routine("lapack", "dtrtrs", 3)
dtrcon = routine("lapack", "dtrcon", 3)
dgesdd = routine("lapack", "dgesdd", 1)


@overload(linalg.norm, strict=False)
def norm(x: Any) -> Any:
    return lambda x: dnrm2((x.size, x, 1))


@overload(linalg.gram, strict=False)
def gram(J: Any, d: Any) -> Any:
    def compiled(J: Any, d: Any) -> Any:
        n, m = J.shape
        K = np.empty((n, n)).T
        B = J * d if d.size else J
        if n < SMALL:
            for i in range(n):
                for j in range(i + 1):
                    K[i, j] = np.dot(B[i], B[j])
        else:
            dsyrk((LOWER, TRANSPOSED, n, m, 1.0, B, m, 0.0, K, n))
        return K

    return compiled


SMALL = 0


@overload(linalg.where, strict=False)
def where(condition: Any, x: Any, y: Any) -> Any:
    def compiled(condition: Any, x: Any, y: Any) -> Any:
        z = y.copy()
        for i in range(z.size):
            if condition[i]:
                z[i] = x[i]
        return z

    return compiled


@overload(tangent.only, strict=False)
def only(free: Any, p: Any) -> Any:
    def compiled(free: Any, p: Any) -> Any:
        if free.size == 0:
            return p
        z = np.zeros(p.size)
        for i in range(p.size):
            if free[i]:
                z[i] = p[i]
        return z

    return compiled


@overload(tangent.spread, strict=False)
def spread(free: Any, q: Any) -> Any:
    def compiled(free: Any, q: Any) -> Any:
        if free.size == 0:
            return q
        p, k = np.zeros(free.size), 0
        for i in range(free.size):
            if free[i]:
                p[i] = q[k]
                k += 1
        return p

    return compiled


@overload(linalg.numbers, strict=False)
def numbers(x: Any) -> Any:
    return lambda x: x


@overload(linalg.number, strict=False)
def number(x: Any, i: Any) -> Any:
    return lambda x, i: x[i]


@overload(linalg.no_columns, strict=False)
def no_columns(n: Any, m: Any) -> Any:
    return lambda n, m: np.empty((n, m))


@overload(linalg.set_column, strict=False)
def set_column(J: Any, j: Any, column: Any) -> Any:
    def compiled(J: Any, j: Any, column: Any) -> None:
        for i in range(column.size):
            J[i, j] = column[i]

    return compiled


@overload(linalg.largest_first, strict=False)
def largest_first(x: Any) -> Any:
    return lambda x: np.argsort(-x, kind="mergesort")


@overload(linalg.extended, strict=False)
def extended(x: Any, size: Any) -> Any:
    def compiled(x: Any, size: Any) -> Any:
        longer = np.zeros(size)
        for i in range(x.size):
            longer[i] = x[i]
        return longer

    return compiled


@overload(linalg.weighted, strict=False)
def weighted(J: Any, d: Any, columns: Any) -> Any:
    def compiled(J: Any, d: Any, columns: Any) -> Any:
        n, m = J.shape
        k = 0
        for j in range(columns.size):
            k += columns[j]
        A = np.empty((n, k if columns.size else m))
        k = 0
        for j in range(m):
            if columns.size == 0 or columns[j]:
                for i in range(n):
                    A[i, k] = J[i, j] * d[j] if d.size else J[i, j]
                k += 1
        return A

    return compiled


@overload(linalg.diagonal_range, strict=False)
def diagonal_range(L: Any) -> Any:
    def compiled(L: Any) -> Any:
        low = high = L[0, 0]
        for i in range(L.shape[0]):
            low, high = min(low, L[i, i]), max(high, L[i, i])
        return low, high

    return compiled


@overload(linalg.potrf, strict=False)
def potrf(K: Any) -> Any:
    def compiled(K: Any) -> Any:
        n = K.shape[0]
        return K, dpotrf((LOWER, n, K, n, 0))

    return compiled


@overload(linalg.potrs, strict=False)
def potrs(L: Any, x: Any) -> Any:
    def compiled(L: Any, x: Any) -> Any:
        n = L.shape[0]
        z = x.copy()
        dpotrs((LOWER, n, 1, L, n, z, n, 0))
        return z

    return compiled


@overload(linalg.geqrf, strict=False)
def geqrf(A: Any) -> Any:
    def compiled(A: Any) -> Any:
        rows, k = A.shape
        tau = np.zeros(k)
        if k > 0:
            dgeqrf((rows, k, A, rows, tau, np.empty(64 * k), 64 * k, 0))
        return A, tau

    return compiled


@overload(linalg.upper_triangle, strict=False)
def upper_triangle(qr: Any) -> Any:
    def compiled(qr: Any) -> Any:
        k = qr.shape[1]
        R = np.zeros((k, k)).T
        for j in range(k):
            for i in range(j + 1):
                R[i, j] = qr[i, j]
        return R

    return compiled


@overload(linalg.ormqr, strict=False)
def ormqr(qr: Any, tau: Any, x: Any, forward: Any) -> Any:
    def compiled(qr: Any, tau: Any, x: Any, forward: Any) -> Any:
        rows, k = qr.shape
        z = x.copy()
        if k > 0:
            side = PLAIN if forward else TRANSPOSED
            dormqr((LEFT, side, rows, 1, k, qr, rows, tau, z, rows, np.empty(64 * k), 64 * k, 0))
        return z

    return compiled


@overload(linalg.trtrs, strict=False)
def trtrs(R: Any, x: Any, transposed: Any) -> Any:
    def compiled(R: Any, x: Any, transposed: Any) -> Any:
        k = R.shape[0]
        z = x.copy()
        dtrtrs((UPPER, TRANSPOSED if transposed else PLAIN, PLAIN, k, 1, R, k, z, k, 0))
        return z

    return compiled


@overload(linalg.trcon, strict=False)
def trcon(R: Any) -> Any:
    def compiled(R: Any) -> Any:
        k = R.shape[0]
        rcond = np.zeros(1)
        dtrcon((ONE, UPPER, PLAIN, k, R, k, rcond, np.empty(3 * k), np.empty(k, np.int32), 0))
        return rcond[0]

    return compiled


@overload(linalg.gesdd, strict=False)
def gesdd(R: Any) -> Any:
    def compiled(R: Any) -> Any:
        k = R.shape[0]
        U, s, Vt = np.empty((k, k)).T, np.empty(k), np.empty((k, k)).T
        A = np.empty((k, k)).T
        for j in range(k):
            for i in range(k):
                A[i, j] = R[i, j]
        size = 4 * k * k + 71 * k
        dgesdd((ALL, k, k, A, k, s, U, k, Vt, k, np.empty(size), size, np.empty(8 * k, np.int32), 0))
        return U, s, Vt

    return compiled
