"""The tangent kernel K = J J^T and its spectrum (theory section 8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh, svdvals

from plsolve._checks import Names, as_matrix, as_vector, check_operator, is_finite, refuse_jacobian
from plsolve._lasting import lasting
from plsolve._linalg import Array, finite, gram, lanczos
from plsolve._pictures import plotting
from plsolve._tangent import Tangent, is_sparse, tangent
from plsolve._tangent.operator import as_kernel

_WHOLE = 4096  # beyond this order, only the ends of the spectrum are computed, by Lanczos
_RITZ = 100
_FAINT = 1e-10  # of lambda_max: below, forming K has lost the digits of an eigenvalue
_SVD_ENTRIES = 20_000_000


def tangent_kernel(jac: Callable[..., Any], w: Any, *, args: Any = ()) -> TangentKernel:
    """The tangent kernel K = J J^T at w.

    Parameters
    ----------
    jac : callable
        ``jac(w, *args) -> (n, m)``: array, scipy.sparse or LinearOperator (whose ``gram()``, if it has one, gives K).
    w : array_like (m,)
        The point.
    args : tuple
        Passed on to jac.

    Returns
    -------
    TangentKernel
        Its spectrum is computed on first access.

    Raises
    ------
    TypeError, ValueError
        For bad input, and where jac(w) is not finite: the message names the argument.

    Notes
    -----
    lambda_min(K) >= mu on a ball makes the loss PL* there: 1/2 ||J^T r||^2 >= mu 1/2 ||r||^2, and with it gradient
    descent converges linearly (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022; theory 1.1).

    Examples
    --------
    >>> import numpy as np
    >>> from plsolve import tangent_kernel
    >>> K = tangent_kernel(lambda w: np.array([[w[0], 0.0, 0.0], [0.0, w[1], w[1]]]), [1.0, 2.0, 0.0])
    >>> K.eigenvalues.tolist(), K.mu, K.kappa
    ([1.0, 8.0], 1.0, 8.0)
    """
    if not callable(jac):
        raise TypeError(f"`jac` must be callable, got {type(jac).__name__}.")
    point = as_vector(w, "w")
    args = args if isinstance(args, tuple) else (args,)
    J = lasting(as_matrix(jac(point.copy(), *args), None, point.size))
    if not is_finite(J):
        refuse_jacobian(J, False, Names(w0="w"))
    check_operator(J)
    return TangentKernel(tangent(J, np.zeros(0)))


class TangentKernel:
    """K = J J^T at a point; its attributes are computed on first access.

    Attributes
    ----------
    n, m : int
        Equations and unknowns.
    matrix : ndarray (n, n)
        K itself.
    eigenvalues : ndarray (min(n, m),)
        Ascending; for n > m those of J^T J, the rest being zero. Computed to about n u ||K||, or from the singular
        values of J where that is not enough. Beyond order 4096 only approximations to the ends of the spectrum, by
        100 Lanczos steps: the largest is accurate, the smallest too large. NaN where K is not finite.
    exact : bool
        Whether the eigenvalues are computed, not approximated by Lanczos.
    mu, lipschitz, kappa : float
        lambda_min(K) (0 for n > m), ||J|| = sqrt(lambda_max(K)), and lambda_max / lambda_min.
    """

    def __init__(self, T: Tangent) -> None:
        self._T = T
        self.n, self.m = T.shape
        self.exact = min(T.shape) <= _WHOLE

    @cached_property
    def matrix(self) -> Array:
        with np.errstate(all="ignore"):
            return self._gram(whole=True)

    @cached_property
    def eigenvalues(self) -> Array:
        with np.errstate(all="ignore"):
            if not self.exact:
                start = np.random.default_rng(0).standard_normal(min(self.n, self.m))
                return np.maximum(lanczos(self._product, start, _RITZ)[0], 0.0)
            K = self._gram(whole=False)
            if not finite(K):
                return np.full(min(self.n, self.m), np.nan)
            values = np.maximum(eigvalsh(K), 0.0)
            if values[0] <= _FAINT * values[-1] and self.n * self.m <= _SVD_ENTRIES:
                values = np.square(svdvals(self._T.toarray())[::-1])
            return values

    def _gram(self, whole: bool) -> Array:
        """K, or J^T J if that is smaller and K need not be whole."""
        J, across = self._T.J, not whole and self.n > self.m
        if is_sparse(J):
            return (J.T @ J if across else J @ J.T).toarray()  # type: ignore[no-any-return]
        if hasattr(J, "gram") and not across:
            return as_kernel(J.gram(), self.n).copy()
        A = self._T.toarray()
        return _symmetric(gram(A.T if across else A, np.zeros(0)))

    def _product(self, v: Array) -> Array:
        if self.n <= self.m:
            return self._T.apply(self._T.adjoint(v))
        return self._T.adjoint(self._T.apply(v))

    def __getstate__(self) -> dict[str, Any]:
        state = {"n": self.n, "m": self.m, "exact": self.exact, "eigenvalues": self.eigenvalues}
        if self.exact and self.n <= self.m:
            state["matrix"] = self.matrix
        else:  # the matrix may be far larger than J
            state["_T"] = self._T if isinstance(self._T.J, np.ndarray) or is_sparse(self._T.J) else None
        return state

    def __repr__(self) -> str:
        spectrum = f"mu={self.mu:.3g}, lipschitz={self.lipschitz:.3g}, kappa={self.kappa:.3g}"
        return f"TangentKernel(n={self.n}, m={self.m}, {spectrum})"

    @property
    def mu(self) -> float:
        return float(self.eigenvalues[0]) if self.n <= self.m else 0.0

    @property
    def lipschitz(self) -> float:
        return float(np.sqrt(self.eigenvalues[-1]))

    @property
    def kappa(self) -> float:
        return float(self.eigenvalues[-1]) / self.mu if self.mu > 0.0 else float("inf")

    def plot(self, ax: Any = None) -> Any:
        """Draw the spectrum, with mu, ||J||^2 and kappa.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default in a new figure.

        Returns
        -------
        matplotlib.axes.Axes
            What was drawn in.
        """
        return plotting.spectrum(self, plotting.as_axes(ax))


def _symmetric(lower: Array) -> Array:
    return np.tril(lower) + np.tril(lower, -1).T
