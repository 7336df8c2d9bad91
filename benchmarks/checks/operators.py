"""The Jacobian as somebody else writes it, and the loop that one writes down."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator

from plsolve.networks import NetworkJacobian


class Operator(LinearOperator):  # type: ignore[type-arg]
    """The Jacobian as somebody else writes it: matvec, rmatvec and gram, counted by name."""

    def __init__(self, J: NetworkJacobian, calls: Counter[str]) -> None:
        super().__init__(np.float64, J.shape)
        self._J, self._calls = J, calls

    def _matvec(self, v: Any) -> Any:
        self._calls["J v"] += 1
        return self._J.matvec(v)

    def _rmatvec(self, z: Any) -> Any:
        self._calls["J^T z"] += 1
        return self._J.rmatvec(z)

    def gram(self) -> Any:
        self._calls["K"] += 1
        return self._J.gram()


def damped(F: Callable[..., Any], jac: Callable[..., Any], w: Any, y: Any, tol: float) -> Any:
    """The loop that one writes down: w - t J^T K^-1 r, where t is halved until ||r|| falls, and doubled afterwards."""
    r, t = F(w) - y, 0.5
    enough = tol * max(np.linalg.norm(y), np.linalg.norm(r + y))
    while np.linalg.norm(r) > enough:
        J, t = jac(w), min(2.0 * t, 1.0)
        p = J.rmatvec(cho_solve(cho_factor(J.gram()), r))
        trial = F(w - t * p) - y
        while not np.linalg.norm(trial) < (1.0 - 1e-4 * t) * np.linalg.norm(r):
            t *= 0.5
            trial = F(w - t * p) - y
        w, r = w - t * p, trial
    return w
