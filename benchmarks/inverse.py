"""Two inverse problems with fewer data than parameters that matter: groundwater flow, and a crowded spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft as fft
import scipy.sparse as sps
import scipy.sparse.linalg as spla

Array = Any


class Matern(spla.LinearOperator):
    """Covariance of a random field on N x N cells of the unit square, smoothness 3/2, by FFT on the doubled torus."""

    def __init__(self, N: int, length: float = 0.125, std: float = 1.0) -> None:
        self.N, self.std = N, std
        d = np.minimum(np.arange(2 * N), 2 * N - np.arange(2 * N)) / N
        s = np.sqrt(3.0) * np.hypot(d[:, None], d) / length
        self.spectrum = np.maximum(fft.rfft2(std**2 * (1.0 + s) * np.exp(-s)).real, 0.0)
        super().__init__(np.float64, (N * N, N * N))

    def _matvec(self, v: Array) -> Array:
        N = self.N
        return self.on_torus(self.spectrum * fft.rfft2(v.reshape(N, N), s=(2 * N, 2 * N))).ravel()

    def _matmat(self, V: Array) -> Array:
        return np.stack([self._matvec(np.ascontiguousarray(v)) for v in V.T]).T  # one field at a time fits the cache

    def on_torus(self, coefficients: Array) -> Array:
        """The field of these Fourier coefficients, on the square."""
        return fft.irfft2(coefficients, s=(2 * self.N, 2 * self.N))[..., : self.N, : self.N]

    def diagonal(self) -> Array:
        return np.full(self.N**2, self.std**2)

    def root(self, z: Array) -> Array:
        """A field (N^2,) of this covariance, from white noise z (4 N^2,) on the torus."""
        return self.on_torus(np.sqrt(self.spectrum) * fft.rfft2(z.reshape(2 * self.N, -1))).ravel()

    def root_adjoint(self, v: Array) -> Array:
        """The adjoint of ``root``."""
        padded = fft.rfft2(v.reshape(self.N, -1), s=(2 * self.N, 2 * self.N))
        return fft.irfft2(np.sqrt(self.spectrum) * padded, s=(2 * self.N, 2 * self.N)).ravel()


class Groundwater:
    """-div(exp(u) grad h) = 0 on the unit square, u the log-conductivity of N x N cells, h = 1 left and 0 right.

    F(u) are the heads h (in metres) at wells on a grid, jac(u) their derivatives by one adjoint solve for each.
    """

    def __init__(self, N: int, wells: int = 10, noise: float = 0.01, seed: int = 0) -> None:
        self.N, self.m, self.n, self.noise = N, N * N, wells * wells, noise
        cells = np.arange(self.m).reshape(N, N)
        self.a = np.concatenate([cells[:, :-1].ravel(), cells[:-1].ravel()])  # the cells on both sides of each face
        self.b = np.concatenate([cells[:, 1:].ravel(), cells[1:].ravel()])
        self.left, self.right = cells[:, 0], cells[:, -1]
        grid = ((np.arange(wells) + 0.5) / wells * N).astype(int)
        self.wells = cells[np.ix_(grid, grid)].ravel()
        self.prior = Matern(N, std=0.5)
        self._last: tuple[Array, Any, Array] | None = None
        rng = np.random.default_rng(seed)
        self.truth = self.prior.root(rng.standard_normal(4 * self.m))
        self.y = self.F(self.truth) + noise * rng.standard_normal(self.n)

    def flow(self, u: Array) -> tuple[Any, Array]:
        """The factorised operator and the heads of all cells; those at the last u are kept."""
        if self._last is not None and np.array_equal(self._last[0], u):
            return self._last[1:]
        T = self.transmissivity(u)
        left, right = 2.0 * np.exp(u[self.left]), 2.0 * np.exp(u[self.right])
        diagonal = np.bincount(self.a, T, self.m) + np.bincount(self.b, T, self.m)
        diagonal[self.left] += left
        diagonal[self.right] += right
        every = np.arange(self.m)
        rows, columns = np.concatenate([self.a, self.b, every]), np.concatenate([self.b, self.a, every])
        A = sps.csc_array((np.concatenate([-T, -T, diagonal]), (rows, columns)), shape=(self.m, self.m))
        lu = spla.splu(A, "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True})
        inflow = np.zeros(self.m)
        inflow[self.left] = left
        self._last = u.copy(), lu, lu.solve(inflow)
        return self._last[1:]

    def transmissivity(self, u: Array) -> Array:
        """Harmonic means of the conductivities on both sides of each face."""
        return 2.0 / (np.exp(-u[self.a]) + np.exp(-u[self.b]))

    def F(self, u: Array) -> Array:
        return self.flow(u)[1][self.wells]

    def jac(self, u: Array) -> Array:
        lu, h = self.flow(u)
        at_wells = np.zeros((self.m, self.n))
        at_wells[self.wells, np.arange(self.n)] = 1.0
        Z = lu.solve(at_wells)
        T, a, b = self.transmissivity(u), self.a, self.b
        faces = np.arange(a.size)
        slopes = np.concatenate([0.5 * T * T * np.exp(-u[a]), 0.5 * T * T * np.exp(-u[b])])
        S = sps.csr_array((slopes, (np.concatenate([faces, faces]), np.concatenate([a, b]))), shape=(a.size, self.m))
        J = -(S.T @ ((Z[a] - Z[b]) * (h[a] - h[b])[:, None])).T
        J[:, self.left] -= Z[self.left].T * (2.0 * np.exp(u[self.left]) * (h[self.left] - 1.0))
        J[:, self.right] -= Z[self.right].T * (2.0 * np.exp(u[self.right]) * h[self.right])
        return J


class Spectrum:
    """Peaks on a baseline, more of them than the data resolve: heights, places and widths of all, and the baseline.

    The unknowns are (log height, place, log width) of each peak, then the coefficients of the baseline.
    """

    def __init__(self, peaks: int = 12, points: int = 60, noise: float = 0.02, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.peaks, self.noise = peaks, noise
        self.t = np.linspace(0.0, 1.0, points)
        self.basis = np.polynomial.chebyshev.chebvander(2.0 * self.t - 1.0, 3)
        places = np.linspace(0.05, 0.95, peaks)
        self.w0 = np.concatenate([np.ravel([np.full(peaks, -0.5), places, np.full(peaks, -3.0)], "F"), np.zeros(4)])
        self.prior = np.concatenate([np.tile([0.7, 0.02, 0.3], peaks), np.full(4, 0.5)])
        self.truth = self.w0 + self.prior * rng.standard_normal(self.w0.size)
        self.y = self.F(self.truth) + noise * rng.standard_normal(points)

    def parts(self, w: Array) -> tuple[Array, Array, Array]:
        """The peaks (points, peaks), and (t - place)/width with the widths."""
        height, place, width = w[: 3 * self.peaks].reshape(-1, 3).T
        x = (self.t[:, None] - place) / np.exp(width)
        return np.exp(height) / (1.0 + x * x), x, np.exp(width)

    def F(self, w: Array) -> Array:
        return self.parts(w)[0].sum(axis=1) + self.basis @ w[3 * self.peaks :]

    def jac(self, w: Array) -> Array:
        P, x, width = self.parts(w)
        slope = 2.0 * P * x / (1.0 + x * x)
        return np.column_stack([np.stack([P, slope / width, slope * x], 2).reshape(self.t.size, -1), self.basis])
