"""A covariance C as the metric of a solve: minimum-norm steps, and the nearest solution, in ||p||^2 = p . C^{-1} p.

With w = w0 + L z, L L^T = C, this is the plain metric in z: F and jac become functions of z, while callback and result
remain in terms of w. The kernel is J C J^T, which needs only products with C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_real, as_vector
from plsolve._inference.posterior import kernel
from plsolve._inference.prior import Prior, as_prior
from plsolve._linalg import NO_VECTOR, Array
from plsolve._record import takes_whole
from plsolve._tangent import tangent

if TYPE_CHECKING:
    _Operator = LinearOperator[np.float64]
else:
    _Operator = LinearOperator


def is_covariance(x_scale: Any) -> bool:
    """Whether x_scale is a covariance: a matrix, sparse or not, or an operator."""
    if x_scale is None or isinstance(x_scale, (str, float)):
        return False
    return isinstance(x_scale, LinearOperator) or sps.issparse(x_scale) or as_real(x_scale, "x_scale").ndim == 2


class Whitened:
    """F, jac and callback as functions of z."""

    def __init__(self, F: Any, jac: Any, w0: Any, covariance: Any) -> None:
        self.w0 = as_vector(w0, "w0")
        self._F, self._jac = F, jac
        self.prior: Prior = as_prior(covariance, self.w0.size, "x_scale")

    def w(self, z: Array) -> Array:
        """The point w0 + L z."""
        return self.w0 + self.prior.root(z)

    def F(self, z: Array, *args: Any) -> Any:
        f = self._F(self.w(z), *args)
        if self._jac is not True:
            return f
        values, J = f
        return values, self._whitened(J)

    @property
    def jac(self) -> Any:
        return self._jac_of_z if callable(self._jac) else self._jac

    def _jac_of_z(self, z: Array, *args: Any) -> Any:
        return self._whitened(self._jac(self.w(z), *args))

    def _whitened(self, J: Any) -> Any:
        """J L."""
        if isinstance(J, LinearOperator) or sps.issparse(J):
            return WhitenedJacobian(J, self.prior)
        return self.prior.root_adjoint(np.atleast_2d(np.asarray(J, np.float64)).T).T

    def callback(self, callback: Any) -> Any:
        """The user's callback as a function of z; it receives w."""
        if not callable(callback):
            return callback
        if not takes_whole(callback):
            return lambda z: callback(self.w(z))

        def shown(intermediate_result: Any) -> Any:
            intermediate_result.x = self.w(intermediate_result.x)
            return callback(intermediate_result=intermediate_result)

        return shown


class WhitenedJacobian(_Operator):
    """J L of a sparse J or an operator, with the kernel J C J^T."""

    def __init__(self, J: Any, prior: Prior) -> None:
        self._T, self._prior = tangent(J if isinstance(J, LinearOperator) else sps.csr_array(J), NO_VECTOR), prior
        super().__init__(np.float64, J.shape)  # type: ignore[call-arg]

    def _matvec(self, v: Array) -> Array:
        return self._T.apply(self._prior.root(v.ravel()))

    def _rmatvec(self, z: Array) -> Array:
        return self._prior.root_adjoint(self._T.adjoint(z.ravel()))

    def gram(self) -> Array:
        return kernel(self._T, self._prior)


def best_in_w(error: BaseException, at: Whitened) -> None:
    """Convert the best point of an exception from z to w."""
    if isinstance(best := getattr(error, "best", None), np.ndarray):
        error.best = at.w(best)  # type: ignore[attr-defined]


def solved_in_metric(solve: Callable[..., Any], at: Whitened, callback: Any) -> Any:
    """The result of solve(F, jac, z0, callback=) in z."""
    try:
        return solve(at.F, at.jac, np.zeros(at.w0.size), callback=at.callback(callback))
    except BaseException as error:
        best_in_w(error, at)
        raise
