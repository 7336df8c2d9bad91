"""Gauss-Newton inside the user's own numba functions."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic, overload

from plsolve import _checks as checks
from plsolve._compiled import evaluation
from plsolve._compiled import memory as k
from plsolve._compiled.cache import address as compiled_unit
from plsolve._compiled.functions import as_matrix, as_vector, trampoline
from plsolve._compiled.kernel import whole
from plsolve._compiled.memory import blank, system
from plsolve._compiled.words import WORD, data
from plsolve._linalg import UNIT, Array


class Solution(NamedTuple):
    """The result of `gauss_newton`.

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
        A named tuple. No exception is raised: if F or jac raise one, the status is -5.

    Notes
    -----
    A function that calls it cannot be cached on disk, since F and jac are compiled anew in every process.
    """
    for name, function in (("F", F), ("jac", jac)):
        if not (type(function).__module__.startswith("numba.") or (name == "jac" and function is None)):
            raise TypeError(f"`{name}` must be a numba function, got {type(function).__name__}.")
    w0, y = checks.as_vector(w0, "w0"), checks.as_vector(y, "y")
    tol, max_iter = checks.as_tolerance(tol, "tol"), checks.as_count(max_iter, "max_iter", 0)
    x, fun, numbers = np.empty(w0.size), np.empty(y.size), np.empty(4, np.int64)
    _outside()(F, jac, w0, y, tol, max_iter, x, fun, numbers)
    status, nit, nfev, njev = numbers.tolist()
    return Solution(x=x, fun=fun, status=status, nit=nit, nfev=nfev, njev=njev, success=status > 0)


@cache
def _outside() -> Any:
    """`gauss_newton` for calls from Python, with result arrays made by Python, since Ctrl-C can damage numba's own."""

    def solve(F: Any, jac: Any, w0: Any, y: Any, tol: Any, max_iter: Any, x: Any, fun: Any, numbers: Any) -> None:
        s = gauss_newton(F, jac, w0, y, tol, max_iter)
        x[:] = s.x
        fun[:] = s.fun
        numbers[0], numbers[1], numbers[2], numbers[3] = s.status, s.nit, s.nfev, s.njev

    return njit(solve)


_KEPT: list[Any] = []  # trampolines whose addresses are in the user's compiled code


def _address(matrix: bool) -> Any:
    @intrinsic
    def address(typingctx: Any, function: Any) -> Any:
        """The address of the trampoline of the user's function; for None, that of the differences.

        Code that contains it cannot be cached, which numba detects.
        """
        if isinstance(function, (types.NoneType, types.Omitted)):
            place = compiled_unit(evaluation.differences.symbol)
        else:
            _KEPT.append(trampoline(function.dispatcher, (), result=as_matrix if matrix else as_vector, rows=False))
            place = _KEPT[-1].address

        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return builder.ptrtoint(context.add_dynamic_addr(builder, place, info="plsolve"), WORD)

        return types.int64(function), codegen

    return address


_F_address, _jac_address = _address(False), _address(True)


@overload(gauss_newton, strict=False)
def _gauss_newton(F: Any, jac: Any, w0: Any, y: Any, tol: Any = 1e-10, max_iter: Any = 200) -> Any:
    compiled_unit(whole.symbol)
    exact = not isinstance(jac, (types.NoneType, types.Omitted))

    def gauss_newton(F: Any, jac: Any, w0: Any, y: Any, tol: Any = 1e-10, max_iter: Any = 200) -> Any:
        memory = blank(y.size, w0.size)
        S = data(memory)
        s, V, _ = system(S)
        s.F, place = _F_address(F), _jac_address(jac)
        s.jac, s.differences, s.differenced, s.refined = place, place, not exact, not exact
        s.precision = 2 * UNIT
        for j in range(w0.size):
            V[k.W, j] = w0[j]
        for i in range(y.size):
            V[k.Y, i] = y[i]
        status = whole(S, tol, 0.0, max_iter)
        x, fun = V[k.W_BEST, : w0.size].copy(), V[k.R_BEST, : y.size].copy()
        nit, nfev, njev = s.nit, s.nfev, s.njev
        memory[0] = 0.0  # in use until here
        return Solution(x, fun, status, nit, nfev, njev, status > 0)

    return gauss_newton
