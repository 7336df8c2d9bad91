"""The contribution of one linear layer to the tangent kernel, with weights on its unknowns.

Row e of the layer's part of J is a_e (x) d_e: the outer product of its input a_e (one more entry, 1, for the bias) and
its sensitivity d_e. Hence

    J diag(d2) J^T = SUM_ij d2_ij (A_i A_i^T) o (D_j D_j^T),        A_i, D_j the columns of A and D,

which for d2 = s t^T + E is (A diag(s) A^T) o (D diag(t) D^T) + C diag(e) C^T, C the columns of J where E is not zero.
Scales of inputs and units (d2 = s t^T), and bounds at which few unknowns are held (E sparse), cost little extra.
"""

from __future__ import annotations

import numpy as np

from plsolve._linalg import UNIT, Array, Mask

SPARSE = 0.25  # share of nonzero entries in E beyond which C costs more than all columns of J
LOST = 1e-2  # of the trace: if E leaves less, the difference has lost too many digits
BLOCK_NUMBERS = 1 << 20  # in one block of columns of J (8 MiB)


def layer_kernel(A: Array, D: Array, d2: Array) -> Array:
    """J diag(d2) J^T (n, n) of a layer, from A (n, fan-in), D (n, fan-out) and d2 >= 0 (fan-in, fan-out)."""
    s, t = factors(d2)
    E = d2 - np.outer(s, t)
    E[np.abs(E) <= 16.0 * UNIT * d2] = 0.0
    rows, columns = np.nonzero(E)
    if rows.size > SPARSE * E.size:
        return by_columns(A, D, d2)
    K: Array = ((A * s) @ A.T) * ((D * t) @ D.T)
    if rows.size == 0:
        return K
    before, step = np.trace(K), max(1, BLOCK_NUMBERS // len(A))
    for start in range(0, rows.size, step):
        i, j = rows[start : start + step], columns[start : start + step]
        C = A[:, i] * D[:, j]
        K += (C * E[i, j]) @ C.T
    return K if np.trace(K) > LOST * before else by_columns(A, D, d2)


def factors(d2: Array) -> tuple[Array, Array]:
    """s and t with d2 = s t^T wherever d2 is not zero, if possible; else s and t that fit a part of d2."""
    used = d2 > 0.0
    row = d2[np.count_nonzero(used, axis=1).argmax()]
    s = quotients(d2, row, used & (row > 0.0))
    return s, quotients(d2.T, s, (used & (s > 0.0)[:, None]).T)


def quotients(d2: Array, row: Array, fit: Mask) -> Array:
    """The ratio of each row of d2 to the given one, taken at its first entry that fits (0: there is none)."""
    rows, j = np.arange(len(d2)), fit.argmax(axis=1)
    return np.where(fit[rows, j], d2[rows, j], 0.0) / np.where(row[j] > 0.0, row[j], 1.0)


def by_columns(A: Array, D: Array, d2: Array) -> Array:
    """J diag(d2) J^T by blocks of columns of J."""
    n, step = len(A), max(1, BLOCK_NUMBERS // D.size)
    K = np.zeros((n, n))
    for start in range(0, A.shape[1], step):
        inputs = slice(start, start + step)
        C = (A[:, inputs, None] * D[:, None, :]).reshape(n, -1)
        K += (C * d2[inputs].ravel()) @ C.T
    return K
