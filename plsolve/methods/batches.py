"""What SGD has to know before its first step, from some rows of J: the kind of its steps, the size of batches.

Steps along the gradient need a number of rows in proportion to 2 n max_i K_ii / lambda_min, Gauss-Newton on k rows at a
time one in proportion to n q_k / lambda_min, q_k the mean square of what lies outside the span of k rows of another one
(theory 5.7). So the cheapest k has the least product of q_k and the operations for a row, whatever lambda_min.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._problem import Problem
from plsolve._tangent import Tangent, is_sparse
from plsolve.methods import blocks
from plsolve.methods.spectrum import some_rows

MOST = 1024  # rows whose kernel is made
FEW = 1000  # rows below which steps follow the gradient unless another kind is asked for
WIDE = 4  # times m: so many rows determine w well
NARROW = 2048  # unknowns up to which such blocks are thought of
#: Operations of matrix products in the time that it takes: to evaluate an entry of J and to multiply it twice; the same
#: for an operator, for each of its m columns; to pass a number to and from memory; to make an entry of a kernel that an
#: operator makes itself, for each column. Measured for two-layer networks, as numpy functions and as WideNetwork.
ENTRY, COLUMN, SLOW, OWN_KERNEL = 250.0, 50.0, 20.0, 0.125


class Kind(NamedTuple):
    """Blocks of so many rows, or (0) gradient steps, and why."""

    block: int
    reason: str


def cheapest(problem: Problem, gradient: bool) -> Kind:
    """What needs the fewest operations; gradient: steps along the gradient may be it."""
    n, m = problem.n, problem.m
    K = (T := some_rows(problem, problem.w0, MOST)[1]).gram()
    spread = float(K.diagonal().max() / K.diagonal().mean()) if K.any() else 1.0
    left = blocks.left(K)
    sizes = [k for j in range(11) if (k := 1 << j) < len(left)] + [len(left)]
    costs = {k: work(T, k) * max(float(left[k - 1 - k // 4 : k].mean()), blocks.DAMPING) for k in sizes}
    if WIDE * m <= n and m <= NARROW and not isinstance(T.J, LinearOperator):
        costs[WIDE * m] = work(T, WIDE * m) * blocks.DAMPING
    block = min(costs, key=lambda k: costs[k])
    descent = 2.0 * spread * work(T, 0)
    ratio = costs[block] / descent
    if gradient and ratio >= 1.0:
        return Kind(block=0, reason=f"Gradient steps: blocks of rows would take {ratio:.2g} times the operations.")
    share = f"by theory 5.7 they take {100 * ratio:.2g} % of the operations of gradient steps"
    return Kind(block=block, reason=f"Gauss-Newton on batches of {block} rows: {share}.")


def work(T: Tangent, k: int) -> float:
    """Operations for one row of a block of k rows; 0: of a step along the gradient."""
    b, m = T.shape
    side = float(min(k, m))
    if isinstance(T.J, np.ndarray):
        touched, product = ENTRY * m, side * m
    elif is_sparse(T.J):
        entries = T.J.nnz / b
        touched, product = ENTRY * entries, (entries + 30.0) * entries + SLOW * side * side / max(k, 1)
    else:
        touched, product = COLUMN * m, k * m * (OWN_KERNEL if hasattr(T.J, "gram") else 8.0)
    if k == 0:
        return touched
    return touched + product + (3.0 * SLOW * m + side**3 / 3.0) / k
