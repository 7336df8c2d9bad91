"""The linearisation of F at a point, through which the methods use J.

A tangent offers ``apply(v)`` = J v, ``adjoint(z)`` = J^T z, the metric of the step (``norm``, ``dot``,
``metric_gradient``) and ``inverse(free)``, the pseudo-inverse of J on the free unknowns in that metric: x -> the
smallest p, measured by ||p / scale||, that minimises ||x - J p|| with p = 0 where ``free`` is False. An empty ``free``
stands for all True.

Three kinds of J: dense array, scipy.sparse, LinearOperator. Three kinds of pseudo-inverse: through the n x n tangent
kernel (n <= number of free unknowns, theory 7.1), by QR of J itself (n larger), and iterative (neither fits into
memory): by conjugate gradients on the kernel or, if these fail on an ill-conditioned kernel, by LSMR on J.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sps

from plsolve._linalg import Array
from plsolve._tangent.base import Inverse, Learnt, LinearSolver, Tangent, count, only, spread
from plsolve._tangent.dense import DenseInverse, DenseTangent, dense_inverse
from plsolve._tangent.operator import OperatorTangent
from plsolve._tangent.rows import RowsJacobian, RowsTangent
from plsolve._tangent.sparse import SparseTangent

__all__ = [
    "DenseInverse",
    "DenseTangent",
    "Inverse",
    "Learnt",
    "LinearSolver",
    "RowsJacobian",
    "Tangent",
    "count",
    "dense_inverse",
    "is_sparse",
    "only",
    "spread",
    "tangent",
]


def is_sparse(J: Any) -> bool:
    """Whether J is a scipy.sparse matrix or array."""
    return bool(sps.issparse(J))


def tangent(J: Any, scale: Array, solver: LinearSolver | None = None) -> Tangent:
    """The tangent for this kind of J."""
    if isinstance(J, np.ndarray):
        return DenseTangent(J, scale, solver)
    if sps.issparse(J):
        return SparseTangent(J, scale, solver)
    kind = RowsTangent if isinstance(J, RowsJacobian) else OperatorTangent
    return kind(J, scale, solver)
