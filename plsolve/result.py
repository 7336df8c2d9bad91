"""What `solve` returns: the point at once, everything that costs a Jacobian on first access."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import OptimizeResult

from plsolve.kernel import TangentKernel
from plsolve.problem import Problem


class Result(OptimizeResult):
    """A `scipy.optimize.OptimizeResult` whose ``jac``, ``grad``, ``optimality`` and ``kernel`` are computed when asked.

    Attributes
    ----------
    x : ndarray (m,)
        The best point seen.
    success : bool
        Whether ``status`` is positive: the system is solved.
    status : Status
        How the run ended.
    message : str
        The same in words.
    fun : ndarray (n,)
        F(x) - y.
    cost : float
        1/2 ||fun||^2.
    jac : ndarray, sparse or LinearOperator (n, m)
        The Jacobian at x.
    grad : ndarray (m,)
        J^T fun.
    optimality : float
        The largest entry of ``grad`` in absolute value; with bounds, of w - P(w - grad).
    kernel : TangentKernel
        K = J J^T at x with its spectrum.
    nit, nfev, njev, nfev_jac : int
        Iterations; calls of F; Jacobians evaluated at a point; calls of F for differences. An access to ``jac``,
        ``grad``, ``optimality`` or ``kernel`` adds the Jacobian at x to the counters, once.
    method, method_reason : str
        The method that ran, and why it was chosen.
    history : History
        The run.
    """

    _lazy = ("jac", "grad", "optimality", "kernel")

    def __init__(self, fields: dict[str, Any], problem: Problem | None = None) -> None:
        self.update(fields)
        object.__setattr__(self, "_problem", problem)  # OptimizeResult's own setattr would make it an entry

    def __missing__(self, name: str) -> Any:
        problem: Problem | None = self._problem
        if name not in self._lazy or problem is None:
            raise KeyError(name)
        T = problem.linearise(self.x, self.fun, True)
        self["jac"], self["grad"], self["kernel"] = T.J, T.adjoint(self.fun), TangentKernel(T)
        moved = self.x - problem.project(self.x - self.grad) if problem.bounded else self.grad
        self["optimality"] = float(np.max(np.abs(moved)))
        self.update(nfev=problem.nfev, njev=problem.njev, nfev_jac=problem.nfev_jac)
        return self[name]

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._lazy})

    def __repr__(self) -> str:
        self._complete()
        return super().__repr__()

    def __reduce__(self) -> tuple[Any, ...]:
        self._complete()
        return Result, (dict(self),)

    def _complete(self) -> None:
        if self._problem is not None:
            for name in self._lazy:
                self[name]
