"""Whole Gauss-Newton solves in compiled code: for `plsolve.solve_batch`, and for the user's own compiled functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from plsolve import loop
from plsolve.compiled.callbacks import WORD, as_bits, callback
from plsolve.compiled.system import FAILURE, NFEV, NJEV, PLACES, TARGET, build_frame, problem_at
from plsolve.compiled.units import compiled, unit
from plsolve.linalg import Array, norm
from plsolve.methods.gauss_newton import init, step
from plsolve.stopping import FAILED, RUNNING, Status

RESIDUAL, EPSILON = int(Status.RESIDUAL), int(Status.EPSILON)
FAILURE_STATUS = loop.FAILURE
advance, residual_norm = loop.advance, loop.residual_norm
DIFFERENCED, REFINED = PLACES["differenced"], PLACES["refined"]
NUMBERS = PLACES["size_y"]  # how many numbers and flags there are


class Solution(NamedTuple):
    """What `gauss_newton` returns.

    Attributes
    ----------
    x : ndarray (m,)
        The best point seen.
    fun : ndarray (n,)
        F(x) - y.
    status : int
        A `plsolve.Status`; -5 where F or jac raised an exception.
    nit, nfev, njev : int
        Iterations; calls of F; Jacobians.
    success : bool
        Whether the status is positive.
    """

    x: Array
    fun: Array
    status: int
    nit: int
    nfev: int
    njev: int
    success: bool


def whole(
    numbers: Any, w0: Any, y: Any, lower: Any, upper: Any, scale: Any, largest: Any, table: Any, everything: Any,
    tol: float, eps: float, max_iter: int,
) -> Any:  # fmt: skip
    """One solve from w0; a failure of F or jac, or values that are not finite at w0, end it as FAILED."""
    r0 = np.empty(y.size)
    reals = (norm(y), 0.0, math.inf, math.inf)
    vectors = (w0, y, r0, lower, upper, scale, largest, np.empty(w0.size), np.empty(w0.size))
    indices = (table, np.empty(everything.size, np.int64), everything)
    frame = build_frame(numbers, reals, vectors, indices)
    problem = problem_at(frame.ctypes.data)
    r = problem.residual(w0)
    for i in range(r.size):
        r0[i] = r[i]
    target = tol * max(norm(y), norm(r + y))
    frame[TARGET] = as_bits(target)
    s = best = init(problem, 0.0)
    status = FAILED
    if frame[FAILURE] == 0 and math.isfinite(norm(r)):
        s = best = init(problem, 0.0)
        enough = max(target, math.sqrt(2.0 * eps))
        s, best, status, _ = advance(problem, step, residual_norm, s, best, RUNNING, enough, max_iter, math.inf, None)
        if status == FAILURE_STATUS:
            status = FAILED
        elif status == RUNNING:
            status = RESIDUAL if norm(best.r) <= target else EPSILON
    alive = vectors[0].size + indices[0].size + frame.size  # what the problem points to lives until here
    if alive < 0:
        status = FAILED
    return Solution(best.w.copy(), best.r.copy(), status, s.nit, frame[NFEV], frame[NJEV], status > 0)


unit(whole)


def _batch(
    numbers: Any, W0: Any, Y: Any, tables: Any, lower: Any, upper: Any, scale: Any, jac_scale: Any, everything: Any,
    tol: float, eps: float, max_iter: int, which: Any, stop: Any, x: Any, fun: Any, status: Any, nit: Any,
) -> Any:  # fmt: skip
    for i in which:
        if stop[0] != 0:
            break
        largest = np.zeros(W0.shape[1] if jac_scale else 0)
        own_scale = np.ones(W0.shape[1]) if jac_scale else scale
        s = whole(numbers, W0[i], Y[i], lower, upper, own_scale, largest, tables[i], everything, tol, eps, max_iter)
        for j in range(s.x.size):
            x[i, j] = s.x[j]
        for j in range(s.fun.size):
            fun[i, j] = s.fun[j]
        status[i], nit[i] = s.status, s.nit


batch: Callable[..., None] = compiled(_batch)


# -- plsolve.jit -------------------------------------------------------------------------------------------------------


def gauss_newton(F: Any, jac: Any, w0: Array, y: Array, tol: float = 1e-10, max_iter: int = 200) -> Solution:
    """`plsolve.solve` by Gauss-Newton, to be called inside numba functions.

    Parameters
    ----------
    F, jac : numba functions
        ``F(w) -> (n,)`` and ``jac(w) -> (n, m)``; jac may be None.
    w0, y : ndarray (m,), (n,)
        Start and target, contiguous float64 arrays.
    tol, max_iter : float, int
        As for `plsolve.solve`.

    Returns
    -------
    Solution
        A named tuple. Nothing is raised: where F or jac raise, the status is -5.

    Notes
    -----
    A function that calls it cannot be cached on disk, since F and jac are compiled anew in every process.
    """
    return _outside()(F, jac, w0, y, tol, max_iter)


@cache
def _outside() -> Any:
    """The same for calls from Python, for trying out."""
    return njit(lambda F, jac, w0, y, tol, max_iter: gauss_newton(F, jac, w0, y, tol, max_iter))


_KEPT: list[Any] = []  # callbacks whose addresses are in the user's compiled code


def _address(matrix: bool) -> Any:
    @intrinsic
    def address(typingctx: Any, function: Any) -> Any:
        """Where the callback of the user's function is: code that contains it cannot be cached, and numba knows."""
        found = callback(function.dispatcher, (), matrix=matrix, rows=False)
        _KEPT.append(found)

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.ptrtoint(context.add_dynamic_addr(builder, found.address, info="plsolve callback"), WORD)

        return types.int64(function), codegen

    return address


_F_address, _jac_address = _address(False), _address(True)


@overload(gauss_newton, strict=False)
def _gauss_newton(F: Any, jac: Any, w0: Any, y: Any, tol: Any = 1e-10, max_iter: Any = 200) -> Any:
    exact = not isinstance(jac, (types.NoneType, types.Omitted))

    def gauss_newton(F: Any, jac: Any, w0: Any, y: Any, tol: Any = 1e-10, max_iter: Any = 200) -> Any:
        numbers = np.zeros(NUMBERS, np.int64)
        numbers[0], numbers[4], numbers[5] = _F_address(F), y.size, w0.size
        none, no_rows = np.zeros(0), np.zeros(0, np.int64)
        if exact:
            numbers[1] = _jac_address(jac)
        else:
            numbers[DIFFERENCED], numbers[REFINED] = 1, 1
        w0, y = np.ascontiguousarray(w0).astype(np.float64), np.ascontiguousarray(y).astype(np.float64)
        return whole(numbers, w0, y, none, none, none, none, no_rows, no_rows, tol, 0.0, max_iter)

    return gauss_newton
