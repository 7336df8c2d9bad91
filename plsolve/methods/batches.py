"""The choice between gradient steps and Gauss-Newton on batches for SGD, and of the batch size, from some rows of J.

The number of rows that gradient steps need is proportional to 2 n max_i K_ii / lambda_min. Gauss-Newton on k rows at a
time needs a number proportional to n q_k / lambda_min, where q_k is the mean squared distance of a row from the span of
k other rows (theory 5.7). So the cheapest k minimises q_k times the operations for a row, for any lambda_min.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._problem import Problem
from plsolve._tangent import Tangent, is_sparse
from plsolve.methods import blocks
from plsolve.methods.spectrum import some_rows

MOST = 1024  # rows in the sample whose kernel is formed
FEW = 1000  # with fewer rows, steps follow the gradient unless the caller asks for another kind
WIDE = 4  # times m: this many rows determine w well
NARROW = 2048  # unknowns up to which blocks of that many rows are considered
#: Costs in operations of a matrix product: to evaluate an entry of J and multiply by it twice; the same for an
#: operator, for each of its m columns; to move a number to and from memory; to compute an entry of an operator's own
#: kernel, for each column. Measured for two-layer networks, as numpy functions and as WideNetwork.
ENTRY, COLUMN, SLOW, OWN_KERNEL = 250.0, 50.0, 20.0, 0.125


class Kind(NamedTuple):
    """The number of rows in a block (0: gradient steps), and the reason for this choice."""

    block: int
    reason: str


def cheapest(problem: Problem, gradient: bool) -> Kind:
    """The kind with the fewest operations; gradient: gradient steps are allowed."""
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
    """Operations for each row in a block of k rows; k = 0: in a gradient step."""
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
