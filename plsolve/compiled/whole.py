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
from plsolve.compiled.bridges import callback
from plsolve.compiled.callbacks import WORD, as_bits
from plsolve.compiled.system import PLACES, WORDS, problem_at, watched_step
from plsolve.compiled.units import compiled, unit
from plsolve.compiled.vectors import (
    BASE,
    USED,
    address_of,
    end_memory,
    free,
    malloc,
    new,
    peek,
    poke,
    release,
    start_memory,
    vector,
)
from plsolve.linalg import Array, as_array, norm
from plsolve.methods.watchdog import PHASES, begun
from plsolve.stopping import FAILED, RUNNING, Status

RESIDUAL, EPSILON = int(Status.RESIDUAL), int(Status.EPSILON)
FAILURE_STATUS = loop.FAILURE
advance, residual_norm = loop.advance, loop.residual_norm
F_PLACE, JAC, N, M, NFEV, NJEV, FAILURE, DIFFERENCED, REFINED = (
    8 * PLACES[name] for name in ("F", "jac", "n", "m", "nfev", "njev", "failure", "differenced", "refined")
)
SIZE_Y, TARGET, LEAST, DEADLINE = (8 * PLACES[name] for name in ("size_y", "target", "least", "deadline"))
W0, Y, R0, BEST, FAILED_W, SCALE, LARGEST, ARGS = (
    8 * PLACES[name] for name in ("w0", "y", "r0", "best", "failed_w", "scale", "largest", "args")
)


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


def whole(frame: int, w0: Any, y: Any, table: int, tol: float, eps: float, max_iter: int) -> Any:
    """One solve from w0, on a frame that has all but start, target and arguments, and vectors w0 and y of that frame.

    A failure of F or jac, or values that are not finite at w0, end it as FAILED. What it returns is in the frame's
    memory.
    """
    for place in (NFEV, NJEV, FAILURE):
        poke(frame + place, 0)
    r0, best, failed = new(frame, y.size), w0.copy(), new(frame, w0.size)
    poke(frame + 8 * BASE, peek(frame + 8 * USED))
    for place, x in ((W0, w0), (Y, y), (R0, r0), (BEST, best), (FAILED_W, failed)):
        poke(frame + place, x.data)
        poke(frame + place + 8, x.size)
    poke(frame + ARGS, table)
    size_y = norm(y)
    poke(frame + SIZE_Y, as_bits(size_y))
    poke(frame + LEAST, as_bits(math.inf))
    poke(frame + DEADLINE, as_bits(math.inf))
    problem = problem_at(frame)
    r = problem.residual(w0)
    for i in range(r.size):
        r0[i] = r[i]
    target = tol * max(size_y, norm(r + y))
    poke(frame + TARGET, as_bits(target))
    s = begun(w0, r, 0, 0.0, PHASES, True)
    s_best, status = s, FAILED
    if peek(frame + FAILURE) == 0 and math.isfinite(norm(r)):
        enough = max(target, math.sqrt(2.0 * eps))
        s, s_best, status, _ = advance(
            problem, watched_step, residual_norm, s, s, RUNNING, enough, max_iter, math.inf, None
        )
        if status == FAILURE_STATUS:
            status = FAILED
        elif status == RUNNING:
            status = RESIDUAL if norm(s_best.r) <= target else EPSILON
    return s_best.w, s_best.r, status, s.nit


unit(whole)


@intrinsic
def take(typingctx: Any, turn: Any) -> Any:
    """The number in an array, which is counted up: no two threads get the same."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.atomic_rmw("add", array.data, WORD(1), "monotonic")

    return types.int64(turn), codegen


def _batch(
    words: Any, W0: Any, Y: Any, tables: Any, scale: Any, jac_scale: bool,
    tol: float, eps: float, max_iter: int, which: Any, turn: Any, x: Any, fun: Any, status: Any, nit: Any,
) -> Any:  # fmt: skip
    frame, m, n = address_of(words), W0.shape[1], Y.shape[1]
    own_scale, largest = np.ones(m) if jac_scale else scale, np.zeros(m if jac_scale else 0)
    start_memory(frame, max(n, m))
    for place, v in ((SCALE, own_scale), (LARGEST, largest)):
        poke(frame + place, address_of(v))
        poke(frame + place + 8, v.size)
    k = take(turn)
    while k < which.size:
        i = which[k]
        release(frame, 0)
        largest[:] = 0.0
        if jac_scale:
            poke(frame + SCALE + 8, 0)  # not known yet
        w0, y = W0[i], Y[i]
        start, target = vector(address_of(w0), m, frame), vector(address_of(y), n, frame)
        w, r, status[i], nit[i] = whole(frame, start, target, address_of(tables[i]), tol, eps, max_iter)
        for j in range(m):
            x[i, j] = w[j]
        for j in range(n):
            fun[i, j] = r[j]
        k = take(turn)
    end_memory(frame)


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
        frame, n, m = malloc(8 * WORDS), y.size, w0.size  # numba would free an array once its address is known
        for i in range(WORDS):
            poke(frame + 8 * i, 0)
        start_memory(frame, max(n, m))
        poke(frame + F_PLACE, _F_address(F))
        poke(frame + N, n)
        poke(frame + M, m)
        if exact:
            poke(frame + JAC, _jac_address(jac))
        else:
            poke(frame + DIFFERENCED, 1)
            poke(frame + REFINED, 1)
        start, target = new(frame, m), new(frame, n)
        for j in range(m):
            start[j] = w0[j]
        for i in range(n):
            target[i] = y[i]
        w, r, status, nit = whole(frame, start, target, 0, tol, 0.0, max_iter)
        x, fun, nfev, njev = as_array(w), as_array(r), peek(frame + NFEV), peek(frame + NJEV)
        end_memory(frame)
        free(frame)
        return Solution(x, fun, status, nit, nfev, njev, status > 0)

    return gauss_newton
