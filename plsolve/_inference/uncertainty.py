"""The uncertainty of parameters, given the noise of the data and a prior, by linearisation at a point."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator

from plsolve._checks import as_count, as_float, as_matrix, as_real, check_finite, generator, shown
from plsolve._inference.noise import Noise
from plsolve._inference.posterior import Dual, Posterior
from plsolve._inference.prior import BLOCK_NUMBERS, Prior, units
from plsolve._linalg import ALL_FREE, NO_VECTOR, Array, norm
from plsolve._pictures import plotting
from plsolve._tangent import Tangent, is_sparse, tangent

HALVED = 3.0  # eigenvalue along a direction whose standard deviation the data halve: 1 / (1 + 3) of the variance


class Uncertainty:
    """What noisy data and a prior say about the parameters, linearised at x.

    With J the Jacobian at x, C the covariance of the prior and R that of the noise, the parameters have the covariance
    (C^{-1} + J^T R^{-1} J)^{-1} = C - C J^T (J C J^T + R)^{-1} J C, which is computed without forming an m x m matrix.
    For linear F this is exactly Bayes' rule; ``nonlinearity`` measures how far F is from linear. Bounds are ignored.

    Attributes
    ----------
    x : ndarray (m,)
        The point.
    eigenvalues : ndarray (min(n, m),)
        The eigenvalues of R^{-1/2} J C J^T R^{-1/2}, ascending: the data reduce the variance along each direction to
        1/(1 + eigenvalue) of the prior's.
    rank : int
        The number of directions along which the data reduce the standard deviation to at most half of the prior's.
    degrees_of_freedom : float
        The trace of the resolution matrix: the effective number of parameters that the data determine.
    misfit : ndarray (n,)
        F(x) - y in units of the noise.
    chi2 : float
        The sum of squares of ``misfit``.
    prior_std : ndarray (m,)
        The standard deviations of the parameters before the data were known.
    nonlinearity : float
        The distance of F(x + v) and F(x - v) from F(x) + J v and F(x) - J v, in units of the noise. v is one standard
        deviation along the worst-determined direction of those counted by ``rank``. It takes two calls of F. If it is
        well below 1, F is practically linear in the directions that the data determine.
    nonlinearity_of_draws : float
        The same where v is a draw from the posterior (with a fixed seed), which also moves along directions that the
        data do not determine. It shows how far standard deviations of predictions can be trusted.
    """

    def __init__(
        self,
        x: Array,
        fun: Array,
        J: Any,
        noise: Noise,
        prior: Prior,
        posterior: Posterior,
        *,
        residual: Callable[[Array], tuple[Array, Array]] | None,
        solved: bool,
    ) -> None:
        self.x = x.copy()
        self._fun, self._noise, self._prior, self._posterior = fun, noise, prior, posterior
        self._T, self._residual, self._solved = tangent(J, NO_VECTOR), residual, solved

    def __repr__(self) -> str:
        n, m = self._T.shape
        return f"Uncertainty(n={n}, m={m}, rank={self.rank})"

    @property
    def misfit(self) -> Array:
        return self._noise.white(self._fun)

    @property
    def chi2(self) -> float:
        return float(np.sum(np.square(self.misfit)))

    @cached_property
    def prior_std(self) -> Array:
        return np.sqrt(self._prior.variances())

    @cached_property
    def eigenvalues(self) -> Array:
        return self._posterior.eigenvalues

    @property
    def rank(self) -> int:
        return int(np.count_nonzero(self.eigenvalues >= HALVED))

    @property
    def degrees_of_freedom(self) -> float:
        return float(np.sum(self.eigenvalues / (1.0 + self.eigenvalues)))

    @cached_property
    def nonlinearity(self) -> float:
        least = self.eigenvalues[-max(self.rank, 1)]
        weakest = self._posterior.directions(float(least) * (1.0 - 1e-9))[:, 0]
        return self._departure(self._prior.times(weakest) / math.sqrt(1.0 + least))

    @cached_property
    def nonlinearity_of_draws(self) -> float:
        return self._departure(self.sample(1, 0)[0] - self.x)

    def _departure(self, v: Array) -> float:
        """The distance of F(x + v) and F(x - v) from the linear model, in units of the noise."""
        if self._residual is None:
            raise ValueError("The nonlinearity needs F, which an unpickled Result does not have.")
        departure = 0.0
        for sign in (1.0, -1.0):
            w, r = self._residual(self.x + sign * v)
            departure = max(departure, norm(self._noise.white(r - self._fun - self._T.apply(w - self.x))))
        return departure

    def std(self, index: Any = None) -> Array:
        """Standard deviations of the parameters.

        Parameters
        ----------
        index : int, slice or array_like of int (k,), optional
            Numbers of the parameters, all by default.

        Returns
        -------
        ndarray (k,)
            In the units of the parameters.
        """
        if index is None:
            return np.sqrt(self._posterior.every_variance())
        return np.sqrt(self._posterior.variances(self._units(index)))

    def covariance(self, index: Any) -> Array:
        """Covariance of some parameters.

        Parameters
        ----------
        index : int, slice or array_like of int (k,)
            Their numbers.

        Returns
        -------
        ndarray (k, k)
            In the units of the parameters.
        """
        return self._posterior.covariance(self._units(index))

    def predict(self, J_new: Any) -> Array:
        """Standard deviations of predictions.

        Parameters
        ----------
        J_new : array_like, sparse or LinearOperator (p, m)
            The Jacobian at x of the quantities to predict.

        Returns
        -------
        ndarray (p,)
            The standard deviation of J_new w.
        """
        m = self.x.size
        if not (isinstance(J_new, LinearOperator) or is_sparse(J_new)):
            J_new = np.atleast_2d(as_float(J_new, "J_new"))
        if J_new.ndim != 2 or J_new.shape[1] != m:
            raise ValueError(f"`J_new` must have shape (p, {m}), got {J_new.shape}.")
        if not isinstance(J_new, LinearOperator):
            J_new = as_entries(J_new)
        T, p = tangent(as_matrix(J_new, None, m), NO_VECTOR), J_new.shape[0]
        if (known := self._by_kernels(T)) is not None:
            return known
        found, step = np.empty(p), max(1, BLOCK_NUMBERS // m)
        for start in range(0, p, step):
            index = np.arange(start, min(start + step, p))
            found[index] = self._posterior.variances(T.adjoint(units(p, index)))
        return np.sqrt(found)

    def _by_kernels(self, T: Tangent) -> Array | None:
        """The standard deviations of predictions if the operators give the kernel between them; else None."""
        J, J_new, scale, posterior = self._T.J, T.J, self._prior.scale, self._posterior
        known = hasattr(J, "cross") and type(J) is type(J_new)
        if not (known and isinstance(scale, float) and isinstance(posterior, Dual)):
            return None
        before, x = scale * scale * J_new.row_squares(), scale * scale * J.cross(J_new)
        return np.sqrt(posterior.reduced(before, x, lambda index: T.adjoint(units(T.shape[0], index))))

    def resolution(self, index: Any) -> Array:
        """Rows of the resolution matrix C J^T (J C J^T + R)^{-1} J.

        The row of a parameter gives the weights of all parameters in its estimate: it is a unit vector if the data
        determine the parameter, and zero if they contain no information on it.

        Parameters
        ----------
        index : int, slice or array_like of int (k,)
            Numbers of the parameters.

        Returns
        -------
        ndarray (k, m)
            The rows of these parameters.
        """
        return self._posterior.pull(self._T.apply(self._prior.times(self._units(index)))).T

    def sample(self, k: int = 1, rng: Any = None) -> Array:
        """Draw from the posterior by Matheron's rule: a draw from the prior is moved to fit perturbed data.

        Parameters
        ----------
        k : int
            The number of draws.
        rng : int, numpy.random.Generator, ..., optional
            The source of random numbers, or its seed.

        Returns
        -------
        ndarray (k, m)
            Parameters, with one draw in each row.
        """
        k, rng = as_count(k, "k", 1), generator(rng) or np.random.default_rng()
        n, m = self._T.shape
        prior = self._prior.root(rng.standard_normal((m, k)))
        data = self._T.apply(prior) + self._noise.colour(rng.standard_normal((n, k)))
        draws: Array = self.x + (prior - self._posterior.gain(data)).T
        return draws

    def null_space(self, k: int | None = None) -> Array:
        """An orthonormal basis of changes of w that the data do not determine.

        Parameters
        ----------
        k : int, optional
            The number of changes, for which the most uncertain ones are chosen, approximately, by k random vectors
            (seeded). By default all m - ``rank``, which is almost an m x m matrix if the data are few.

        Returns
        -------
        ndarray (m, k)
            One change in each column.
        """
        most = self.x.size - self.rank
        k = most if k is None else as_count(k, "k", 1, most)
        seen = self._posterior.directions(HALVED)
        Z = self._prior.times(np.random.default_rng(0).standard_normal((self.x.size, k)))
        for _ in range(2):
            Z = Z - self._prior.times(seen @ (seen.T @ Z))
        return np.linalg.qr(Z)[0]

    def sensitivity(self, dF: Any) -> Array:
        """The change of x by a change of F, to first order.

        For a solution it is -J^+ dF, the smallest change that keeps F(x) = y; for a fit by `infer` it is
        -C J^T (J C J^T + R)^{-1} dF. If dF is the derivative of F with respect to some quantity, this is the derivative
        of x with respect to it.

        Parameters
        ----------
        dF : array_like (n,) or (n, k)
            The change of F, or one change in each column.

        Returns
        -------
        ndarray (m,) or (m, k)
            The change of x, or one change in each column.
        """
        dF = as_float(dF, "dF")
        n = self._T.shape[0]
        if dF.ndim not in (1, 2) or len(dF) != n:
            raise ValueError(f"`dF` must have shape ({n},) or ({n}, k), got {dF.shape}.")
        check_finite(dF, "dF")
        if not self._solved:
            return -self._posterior.gain(dF)
        H = self._T.inverse(ALL_FREE, False)
        H = H if H.sound else self._T.inverse(ALL_FREE, True)
        moves = np.column_stack([-H.solve(column) for column in dF.reshape(n, -1).T])
        return moves[:, 0] if dF.ndim == 1 else moves

    def plot(self, ax: Any = None) -> Any:
        """Draw the standard deviations of the parameters before and after the data, and the misfit of the data.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; the misfit is drawn in new figures only.

        Returns
        -------
        matplotlib.axes.Axes
            The axes with the plot.
        """
        return plotting.uncertainty(self.prior_std, self.std(), self.misfit, plotting.as_axes(ax))

    def _units(self, index: Any) -> Array:
        """The unit vectors (m, k) of these parameters."""
        m = self.x.size
        numbers = index if isinstance(index, slice) else as_numbers_or_mask(index, m)
        try:
            return units(m, np.atleast_1d(np.arange(m)[numbers]))
        except (IndexError, TypeError) as error:
            raise ValueError(f"`index` must be numbers of parameters, from 0 to {m - 1}: {error}") from None


def as_entries(J_new: Any) -> Any:
    """A matrix of finite real numbers, sparse or not."""
    entries = J_new.tocoo().data if is_sparse(J_new) else J_new
    check_finite(as_float(entries, "J_new"), "J_new")
    return J_new


def as_numbers_or_mask(index: Any, m: int) -> Any:
    """An array of whole numbers, or a mask (m,)."""
    numbers = as_real(index, "index")
    if numbers.size == 0:
        numbers = numbers.astype(np.int64)
    if numbers.ndim > 1 or numbers.dtype.kind not in "iub":
        raise TypeError(f"`index` must be numbers of parameters, from 0 to {m - 1}, got {shown(index)}.")
    if numbers.dtype.kind == "b" and numbers.shape != (m,):
        raise ValueError(f"`index` must have shape ({m},) where it is a mask, got {numbers.shape}.")
    return numbers
