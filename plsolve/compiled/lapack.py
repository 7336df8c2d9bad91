"""Linear algebra inside compiled code: each function of `plsolve.linalg` that is not compiled as it stands.

What is large goes to scipy's own BLAS and LAPACK, called without copies and without the interpreter; they are known to
the linker under fixed names, so that code that calls them can be cached on disk. What is small is done in plain loops:
there a call takes longer than its numbers.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic, overload, overload_method, register_jitable

from plsolve import linalg, tangent
from plsolve.compiled.units import implements, unit
from plsolve.compiled.vectors import (
    DOUBLE,
    MatrixType,
    VectorType,
    is_vector,
    load,
    new,
    new_matrix,
    new_transpose,
    store,
    transpose,
    vector,
)

INT, CHAR = ir.IntType(32), ir.IntType(8)
LOWER, LEFT, TRANSPOSED, PLAIN, UPPER, ONE, ALL = (ord(c) for c in "LLTNU1A")


def routine(library: str, name: str, letters: int, returns: bool = False) -> Any:
    """The Fortran routine as a function of compiled code: its arguments in one tuple, the first `letters` characters.

    Vectors and matrices are passed by their data, numbers by a pointer to a copy. Gives the last argument back, info as
    a rule; a function gives its value.
    """
    symbol = f"plsolve_{name}"
    llvm.add_symbol(symbol, get_cython_function_address(f"scipy.linalg.cython_{library}", name))

    @intrinsic
    def call(typingctx: Any, arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            pointers = []
            for i, kind in enumerate(arguments):
                value = builder.extract_value(values[0], i)
                if isinstance(kind, (VectorType, MatrixType)):
                    pointers.append(builder.inttoptr(builder.extract_value(value, 0), DOUBLE.as_pointer()))
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


SMALL = 24  # order up to which factorisations are plain loops
FEW = 1024  # entries of a matrix up to which its kernel is
MANY = 1 << 17  # numbers beyond which the threads of BLAS are worth what they take for a sum
MUCH, THICK = 1 << 14, 8  # entries beyond which they are for a matrix, with so many rows and columns

ddot = routine("blas", "ddot", 0, returns=True)
dnrm2 = routine("blas", "dnrm2", 0, returns=True)
dgemv = routine("blas", "dgemv", 1)
dsyrk = routine("blas", "dsyrk", 2)
dpotrf = routine("lapack", "dpotrf", 1)
dpotrs = routine("lapack", "dpotrs", 1)
dgeqrf = routine("lapack", "dgeqrf", 0)
dormqr = routine("lapack", "dormqr", 2)
dtrtrs = routine("lapack", "dtrtrs", 3)
dtrcon = routine("lapack", "dtrcon", 3)
dgesdd = routine("lapack", "dgesdd", 1)


# -- sums and products -------------------------------------------------------------------------------------------------

many_sums = register_jitable(fastmath={"reassoc"})  # side by side, as many as the processor adds up at once


@overload_method(VectorType, "dot", strict=False)
def dot(self: Any, other: Any) -> Any:
    def product(self: Any, other: Any) -> Any:
        if self.size > MANY:
            return ddot((self.size, self, 1, other, 1))
        return summed(self, other)

    return product


@many_sums
def summed(x: Any, y: Any) -> float:
    """x . y."""
    total = 0.0
    for i in range(x.size):
        total += load(x, i) * load(y, i)
    return total


@overload(linalg.norm, strict=False)
def norm(x: Any) -> Any:
    def length(x: Any) -> Any:
        total = x.dot(x)  # several times faster than dnrm2, which is safe
        return math.sqrt(total) if 1e-280 < total < 1e280 else dnrm2((x.size, x, 1))

    return length


@overload(linalg.distance, strict=False)
def distance(v: Any, w: Any) -> Any:
    def apart(v: Any, w: Any) -> Any:
        total = squared_distance(v, w)
        return math.sqrt(total) if 1e-280 < total < 1e280 else linalg.norm(v - w)

    return apart


@many_sums
def squared_distance(v: Any, w: Any) -> float:
    total = 0.0
    for i in range(v.size):
        total += (load(v, i) - load(w, i)) ** 2
    return total


@unit
def by_rows(self: Any, x: Any) -> Any:
    rows, columns = self.rows, self.columns
    z = new(self.frame, rows)
    if rows * columns > MUCH and min(rows, columns) >= THICK:
        dgemv((TRANSPOSED, columns, rows, 1.0, self, columns, x, 1, 0.0, z, 1))
        return z
    for i in range(rows):
        store(z, i, summed(vector(self.data + 8 * i * columns, columns, self.frame), x))
    return z


@unit
def by_columns(self: Any, x: Any) -> Any:
    rows, columns = self.rows, self.columns
    z = new(self.frame, rows)
    if rows * columns > MUCH and min(rows, columns) >= THICK:
        dgemv((PLAIN, rows, columns, 1.0, self, rows, x, 1, 0.0, z, 1))
        return z
    if columns == 0:
        return np.full_like(z, 0.0)
    s, t, beside = first_two(self, x)
    for i in range(rows):
        store(z, i, s * load(self, i) + t * load(self, beside + i))
    add_columns(z, self, x)
    return z


@overload_method(MatrixType, "dot", strict=False)
def matrix_dot(self: Any, x: Any) -> Any:
    return by_rows if self.order == "C" else by_columns


@register_jitable
def first_two(A: Any, x: Any) -> tuple[float, float, int]:
    """The factors of the first two columns, and where the second begins; of an odd number, 0 and the first again."""
    return (load(x, 0), 0.0, 0) if A.columns % 2 else (load(x, 0), load(x, 1), A.rows)


@register_jitable
def add_columns(z: Any, A: Any, x: Any) -> None:
    """Add A x to z, but for the `first_two` columns; A in Fortran order."""
    rows = A.rows
    for j in range(2 - A.columns % 2, A.columns, 2):  # two at a time, which halves the passes over z
        s, t = load(x, j), load(x, j + 1)
        for i in range(rows):
            store(z, i, load(z, i) + s * load(A, j * rows + i) + t * load(A, (j + 1) * rows + i))


@register_jitable
def plus_product(w: Any, A: Any, x: Any) -> Any:
    """w + A x, A in Fortran order."""
    rows, columns = A.rows, A.columns
    if rows * columns > MUCH and min(rows, columns) >= THICK:
        z = w.copy()
        dgemv((PLAIN, rows, columns, 1.0, A, rows, x, 1, 1.0, z, 1))
        return z
    z = new(w.frame, rows)
    s, t, beside = first_two(A, x)
    for i in range(rows):
        store(z, i, load(w, i) + s * load(A, i) + t * load(A, beside + i))
    add_columns(z, A, x)
    return z


@overload_method(MatrixType, "ravel", strict=False)
def ravel(self: Any) -> Any:
    return lambda self: vector(self.data, self.rows * self.columns, self.frame)


@overload_method(VectorType, "ravel", strict=False)
def flat(self: Any) -> Any:
    return lambda self: self


@implements(linalg.gram)
def gram(J: Any, d: Any) -> Any:
    n, m = J.rows, J.columns
    K = new_transpose(J.frame, n, n)
    B = linalg.weighted(J, d, vector(0, 0, J.frame)) if d.size else J
    if n > SMALL or m > FEW:
        dsyrk((LOWER, TRANSPOSED, n, m, 1.0, B, m, 0.0, K, n))
        return K
    for i in range(n):
        for k in range(0, i + 1, 2):  # two sums at a time
            left = right = 0.0
            beside = min(k + 1, i) * m
            for j in range(m):
                left += load(B, i * m + j) * load(B, k * m + j)
                right += load(B, i * m + j) * load(B, beside + j)
            store(K, k * n + i, left)
            store(K, min(k + 1, i) * n + i, right)
    return K


@overload(linalg.weighted, strict=False)
def weighted(J: Any, d: Any, columns: Any) -> Any:
    def chosen(J: Any, d: Any, columns: Any) -> Any:
        n, m = J.rows, J.columns
        width = np.count_nonzero(columns) if columns.size else m
        A = new_matrix(J.frame, n, width)
        for i in range(n):
            k = 0
            for j in range(m):
                if columns.size == 0 or load(columns, j) != 0.0:
                    store(A, i * width + k, load(J, i * m + j) * load(d, j) if d.size else load(J, i * m + j))
                    k += 1
        return A

    return chosen


@overload(linalg.magnitude, strict=False)
def magnitude(J: Any, w: Any) -> Any:
    def size(J: Any, w: Any) -> Any:
        z = new(J.frame, J.rows)
        for i in range(J.rows):
            store(z, i, summed_sizes(vector(J.data + 8 * i * J.columns, J.columns, J.frame), w))
        return linalg.norm(z)

    return size


@many_sums
def summed_sizes(x: Any, y: Any) -> float:
    """|x| . |y|."""
    total = 0.0
    for i in range(x.size):
        total += abs(load(x, i)) * abs(load(y, i))
    return total


# -- vectors -----------------------------------------------------------------------------------------------------------


@overload(linalg.where, strict=False)
def where(condition: Any, x: Any, y: Any) -> Any:
    def chosen(condition: Any, x: Any, y: Any) -> Any:
        z = new(y.frame, y.size)
        for i in range(z.size):
            store(z, i, load(x, i) if load(condition, i) != 0.0 else load(y, i))
        return z

    return chosen if is_vector(condition) else None


@overload(linalg.finite, strict=False)
def finite(x: Any) -> Any:
    def check(x: Any) -> Any:
        flat, count = x.ravel(), 0
        for i in range(flat.size):
            count += abs(load(flat, i)) < math.inf
        return count == flat.size

    return check


@overload(linalg.all_free, strict=False)
def all_free(w: Any) -> Any:
    return lambda w: vector(0, 0, w.frame)


@overload(linalg.nothing, strict=False)
def nothing(J: Any) -> Any:
    return lambda J: (transpose(0, 0, 0, J.frame), vector(0, 0, J.frame))


@overload(linalg.alternating, strict=False)
def alternating(w: Any) -> Any:
    def signs(w: Any) -> Any:
        z = new(w.frame, w.size)
        for i in range(z.size):
            store(z, i, 1.0 if i % 2 else -1.0)
        return z

    return signs


@overload(linalg.scattered, strict=False)
def scattered(w: Any, k: Any) -> Any:
    def numbers(w: Any, k: Any) -> Any:
        z = new(w.frame, w.size)
        for i in range(z.size):
            x = math.sin(12.9898 * (i + 1.0) + 78.233 * (k + 1.0)) * 43758.5453
            store(z, i, math.sqrt(12.0) * (x - math.floor(x) - 0.5))
        return z

    return numbers


@overload(tangent.only, strict=False)
def only(free: Any, p: Any) -> Any:
    return lambda free, p: free * p if free.size else p


@overload(tangent.spread, strict=False)
def spread(free: Any, q: Any) -> Any:
    def wide(free: Any, q: Any) -> Any:
        if free.size == 0:
            return q
        p, k = new(free.frame, free.size), 0
        for i in range(free.size):
            if load(free, i) != 0.0:
                store(p, i, load(q, k))
                k += 1
            else:
                store(p, i, 0.0)
        return p

    return wide


@overload(linalg.numbers, strict=False)
def numbers(x: Any) -> Any:
    return lambda x: x


@overload(linalg.number, strict=False)
def number(x: Any, i: Any) -> Any:
    return lambda x, i: load(x, i)


@overload(linalg.no_columns, strict=False)
def no_columns(r: Any, w: Any) -> Any:
    return lambda r, w: new_matrix(r.frame, r.size, w.size)


@overload(linalg.set_column, strict=False)
def set_column(J: Any, j: Any, column: Any) -> Any:
    def put(J: Any, j: Any, column: Any) -> None:
        for i in range(column.size):
            store(J, i * J.columns + j, load(column, i))

    return put


@overload(linalg.as_array, strict=False)
def as_array(x: Any) -> Any:
    def copied(x: Any) -> Any:
        z = np.empty(x.size)
        for i in range(x.size):
            z[i] = load(x, i)
        return z

    return copied


@overload(linalg.largest_first, strict=False)
def largest_first(x: Any) -> Any:
    return lambda x: np.argsort(-linalg.as_array(x), kind="mergesort")


@overload(linalg.head, strict=False)
def head(x: Any, size: Any) -> Any:
    return lambda x, size: vector(x.data, size, x.frame)


@overload(linalg.extended, strict=False)
def extended(x: Any, size: Any) -> Any:
    def longer(x: Any, size: Any) -> Any:
        z = new(x.frame, size)
        for i in range(size):
            store(z, i, load(x, i) if i < x.size else 0.0)
        return z

    return longer


# -- factorisations ----------------------------------------------------------------------------------------------------


@overload(linalg.diagonal_range, strict=False)
def diagonal_range(L: Any) -> Any:
    def ends(L: Any) -> Any:
        low = high = load(L, 0)
        for i in range(L.rows):
            low, high = min(low, load(L, i * L.rows + i)), max(high, load(L, i * L.rows + i))
        return (1.0 / high, 1.0 / low) if L.rows <= SMALL else (low, high)

    return ends


@implements(linalg.potrf)
def potrf(K: Any) -> Any:
    n = K.rows
    if n > SMALL:
        return K, dpotrf((LOWER, n, K, n, 0))
    for j in range(n):
        pivot = load(K, j * n + j)
        for k in range(j):
            pivot -= load(K, k * n + j) ** 2
        if not pivot > 0.0:
            return K, j + 1
        root = 1.0 / math.sqrt(pivot)
        store(K, j * n + j, root)  # the reciprocal: divisions take longer than all the rest
        for i in range(j + 1, n, 2):  # two sums at a time
            below = min(i + 1, n - 1)
            s, t = load(K, j * n + i), load(K, j * n + below)
            for k in range(j):
                s -= load(K, k * n + j) * load(K, k * n + i)
                t -= load(K, k * n + j) * load(K, k * n + below)
            store(K, j * n + i, s * root)
            store(K, j * n + below, t * root)
    return K, 0


@implements(linalg.potrs)
def potrs(L: Any, x: Any) -> Any:
    n = L.rows
    if n > SMALL:
        z = x.copy()
        dpotrs((LOWER, n, 1, L, n, z, n, 0))
        return z
    z = linalg.forward(L, x)
    for j in range(n - 1, -1, -1):
        t = load(z, j) * load(L, j * n + j)
        store(z, j, t)
        for i in range(j):
            store(z, i, load(z, i) - t * load(L, i * n + j))
    return z


@implements(linalg.forward)
def forward(L: Any, x: Any) -> Any:
    n, z = L.rows, x.copy()
    if n > SMALL:
        dtrtrs((LOWER, PLAIN, PLAIN, n, 1, L, n, z, n, 0))
        return z
    for i in range(n):
        t = load(z, i)
        for k in range(i):
            t -= load(L, k * n + i) * load(z, k)
        store(z, i, t * load(L, i * n + i))
    return z


@overload(linalg.geqrf, strict=False)
def geqrf(A: Any) -> Any:
    def factor(A: Any) -> Any:
        rows, k = A.shape
        tau = new(A.frame, k)
        if k > 0:
            work = new(A.frame, 64 * k)
            dgeqrf((rows, k, A, rows, tau, work, 64 * k, 0))
        return A, tau

    return factor


@overload(linalg.upper_triangle, strict=False)
def upper_triangle(qr: Any) -> Any:
    def copied(qr: Any) -> Any:
        k = qr.columns
        R = new_transpose(qr.frame, k, k)
        for j in range(k):
            for i in range(k):
                store(R, j * k + i, load(qr, j * qr.rows + i) if i <= j else 0.0)
        return R

    return copied


@overload(linalg.ormqr, strict=False)
def ormqr(qr: Any, tau: Any, x: Any, forward: Any) -> Any:
    def product(qr: Any, tau: Any, x: Any, forward: Any) -> Any:
        rows, k = qr.shape
        z = x.copy()
        if k > 0:
            side = PLAIN if forward else TRANSPOSED
            work = new(qr.frame, 64 * k)
            dormqr((LEFT, side, rows, 1, k, qr, rows, tau, z, rows, work, 64 * k, 0))
        return z

    return product


@overload(linalg.trtrs, strict=False)
def trtrs(R: Any, x: Any, transposed: Any) -> Any:
    def solution(R: Any, x: Any, transposed: Any) -> Any:
        k, z = R.rows, x.copy()
        dtrtrs((UPPER, TRANSPOSED if transposed else PLAIN, PLAIN, k, 1, R, k, z, k, 0))
        return z

    return solution


@overload(linalg.trcon, strict=False)
def trcon(R: Any) -> Any:
    def reciprocal(R: Any) -> Any:
        k = R.rows
        rcond, work, iwork = new(R.frame, 1), new(R.frame, 3 * k), new(R.frame, k)
        dtrcon((ONE, UPPER, PLAIN, k, R, k, rcond, work, iwork, 0))
        return load(rcond, 0)

    return reciprocal


@overload(linalg.gesdd, strict=False)
def gesdd(R: Any) -> Any:
    def decomposition(R: Any) -> Any:
        k = R.rows
        U, s, Vt = new_transpose(R.frame, k, k), new(R.frame, k), new_transpose(R.frame, k, k)
        A = new_transpose(R.frame, k, k)
        for i in range(k * k):
            store(A, i, load(R, i))
        size = 4 * k * k + 71 * k
        work, iwork = new(R.frame, size), new(R.frame, 8 * k)
        dgesdd((ALL, k, k, A, k, s, U, k, Vt, k, work, size, iwork, 0))
        return U, s, Vt

    return decomposition
