r"""Robust losses as a transformation of the residual.

With z = (r / c)^2 and a loss rho, the residual t = sign(r) c sqrt(rho(z)) has 1/2 ||t||^2 = 1/2 c^2 Sum rho(z_i), which
is the robust cost, and dt/dr = rho'(z) |r| / (c sqrt(rho(z))). So every method can be used, with t in place of r. The
five named losses are scipy's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from plsolve._linalg import Array, norm

_TINY = 1e-20  # z below: rho(z) = rho'(0) z to rounding


def huber(z: Array) -> Any:
    """z for z <= 1, else 2 sqrt(z) - 1."""
    inside, s = z <= 1.0, np.sqrt(np.maximum(z, 1.0))
    return np.where(inside, z, 2.0 * s - 1.0), np.where(inside, 1.0, 1.0 / s), np.where(inside, 0.0, -0.5 / s**3)


def soft_l1(z: Array) -> Any:
    """2 (sqrt(1 + z) - 1), computed without cancellation."""
    s = np.sqrt(1.0 + z)
    return 2.0 * z / (1.0 + s), 1.0 / s, -0.5 / s**3


def cauchy(z: Array) -> Any:
    """log(1 + z)."""
    return np.log1p(z), 1.0 / (1.0 + z), -1.0 / (1.0 + z) ** 2


def arctan(z: Array) -> Any:
    """arctan(z)."""
    return np.arctan(z), 1.0 / (1.0 + z * z), -2.0 * z / (1.0 + z * z) ** 2


LOSSES: dict[str, Callable[[Array], Any]] = {"huber": huber, "soft_l1": soft_l1, "cauchy": cauchy, "arctan": arctan}


class Loss(NamedTuple):
    """A loss rho, with the scale c that separates small residuals from large ones.

    Attributes
    ----------
    rho : callable
        z (n,) -> rho, rho', rho'' as rows of a (3, n) array or three arrays.
    scale : float
        c.
    """

    rho: Callable[[Array], Any]
    scale: float

    def transform(self, r: Array) -> Array:
        """The residual t (n,)."""
        with np.errstate(over="ignore"):  # at a distant trial point, which will be rejected
            rho = self.rho((r / self.scale) ** 2)[0]
        return np.asarray(np.copysign(self.scale * np.sqrt(np.maximum(rho, 0.0)), r))

    def derivative(self, r: Array) -> Array:
        """dt/dr (n,)."""
        z = (r / self.scale) ** 2
        rho, slope = self.rho(np.maximum(z, _TINY))[:2]
        return np.asarray(slope * np.sqrt(np.maximum(z, _TINY) / rho))

    def slope(self, r: Array) -> Array:
        """rho'(z), the weights of r in the gradient J^T (rho' r)."""
        return np.asarray(self.rho((r / self.scale) ** 2)[1])

    def triggs(self, r: Array) -> Array:
        """sqrt(rho' + 2 z rho''), at least sqrt(eps): the factors of the rows of scipy's ``jac`` (Triggs)."""
        z = (r / self.scale) ** 2
        _, slope, bend = self.rho(z)
        return np.asarray(np.sqrt(np.maximum(slope + 2.0 * z * bend, np.finfo(np.float64).eps)))


class Robust:
    """A loss in use: the transformed residual, and the plain residuals of the best and the last point.

    Attributes
    ----------
    J : ndarray, sparse or LinearOperator
        DF at the point of the last linearisation.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.J: Any = None
        self._plain: list[tuple[Array, Array]] = []
        self._least = 0.0

    def residual(self, w: Array, r: Array) -> Array:
        """The transformed residual, from r = F(w) - y."""
        t = self.loss.transform(r)
        size = norm(t)
        if not self._plain or size <= self._least:
            self._least, self._plain = size, [(w, r)]
        else:
            self._plain[1:] = [(w, r)]
        return t

    def plain(self, w: Array) -> Array | None:
        """F(w) - y, if w is one of the stored points."""
        return next((r for point, r in self._plain if np.array_equal(point, w)), None)

    def jacobian(self, J: Any, r: Array) -> Any:
        """The Jacobian of the transformed residual, from J = DF and r = F - y at the point."""
        self.J = J
        return scaled_rows(J, self.loss.derivative(r))


def scaled_rows(J: Any, d: Array) -> Any:
    """diag(d) J, for any kind of J."""
    if isinstance(J, LinearOperator):
        return aslinearoperator(sps.diags_array(d)) @ J
    if isinstance(J, np.ndarray):
        return d[:, None] * J
    return sps.csr_array(sps.diags_array(d) @ J)
