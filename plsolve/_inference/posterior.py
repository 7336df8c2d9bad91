"""The linearised posterior: w ~ N(w0, C), y ~ N(F(w), R), and F(w + p) = F(w) + J p.

With A = R^{-1/2} J, data in units of their noise, the most probable parameters minimise

    phi(w) = ||R^{-1/2} (F(w) - y)||^2 + ||w - w0||^2,      the second norm that of C^{-1},

and the covariance of the posterior is (C^{-1} + A^T A)^{-1} = C - C A^T (A C A^T + 1)^{-1} A C: an n x n matrix, the
tangent kernel in the metric of the prior and the noise, is the only matrix that is factored (theory 7.10). With fewer
unknowns than data, or if that matrix is too ill-conditioned, the singular values of A L, L L^T = C, are used instead.

Steps come with q = C^{-1} p, so that lengths in the metric of the prior need no C^{-1}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np

from plsolve._inference.noise import Noise
from plsolve._inference.prior import Conditioned, Independent, NotFiniteError, Prior, Products, as_prior, units
from plsolve._krylov import Memory
from plsolve._linalg import NO_VECTOR, Array, Cholesky, cholesky, column_blocks, finite, gram, norm
from plsolve._tangent import LinearSolver, Tangent, is_sparse, tangent
from plsolve._tangent.base import KERNEL_ROWS
from plsolve._tangent.operator import own_kernel

BLOCK_NUMBERS = 1 << 22  # in a block of vectors (32 MiB)
CANCELS = 1e-4  # of the prior's variance: smaller variances are computed as a sum of squares, without cancellation
SOLVED = 1e-13  # relative residual of conjugate gradients
STEP = 1e-9  # the same for a step, which the next one mends


class Posterior(Protocol):
    """The posterior from the data, the prior and J. B, X: one vector, or a matrix of several."""

    @property
    def eigenvalues(self) -> Array:
        """Eigenvalues of A C A^T, ascending, min(n, m) of them: the variance along each falls to 1 / (1 + value)."""

    def step(self, r: Array, p0: Array, q0: Array, damping: float) -> tuple[Array, Array]:
        """(p, q), p = C q, of least ||A p + R^{-1/2} r||^2 + ||p + p0||^2 + damping ||p||^2, p0 = C q0."""

    def pull(self, x: Array) -> Array:
        """J^T (J C J^T + R)^{-1} x."""

    def gain(self, x: Array) -> Array:
        """C J^T (J C J^T + R)^{-1} x, the change of the most probable parameters by a change x of the data."""

    def variances(self, B: Array) -> Array:
        """The variances (k,) of B^T w, B (m, k)."""

    def covariance(self, B: Array) -> Array:
        """The covariance (k, k) of B^T w."""

    def every_variance(self) -> Array:
        """The variances of all unknowns (m,)."""

    def directions(self, least: float) -> Array:
        """D (m, k), D^T C D = 1: the columns of C D are the directions with eigenvalues >= least."""


def posterior(J: Any, noise: Noise, prior: Prior, solver: LinearSolver) -> Posterior:
    """The posterior at a point with this Jacobian, by the suitable factorisation."""
    T = tangent(J, NO_VECTOR, solver)
    n, m = T.shape
    few = solver.kind == "qr" or (solver.kind == "auto" and m <= min(n, KERNEL_ROWS))
    if few and not isinstance(prior, Conditioned):
        return BySingularValues(T.toarray(), noise, rooted(prior))
    if solver.kind == "cg" or not solver.kernel_fits(n, KERNEL_ROWS):
        return ByProducts(T, noise, prior)
    by_kernel = ByKernel(T, noise, prior)
    if not by_kernel.sound and isinstance(J, np.ndarray) and prior.scale is not None:
        return BySingularValues(J, noise, prior)
    return by_kernel


def rooted(prior: Prior) -> Prior:
    """A prior with the root L and its inverse."""
    return as_prior(prior.times(np.eye(prior.m)), prior.m) if isinstance(prior, Products) else prior


def kernel(T: Tangent, prior: Prior) -> Array:
    """J C J^T (n, n)."""
    scale, n = prior.scale, T.shape[0]
    if isinstance(scale, float):
        return scale * scale * weighted_kernel(T, NO_VECTOR)
    if scale is not None:
        return weighted_kernel(T, scale)
    K = np.empty((n, n))
    for block, rows in row_blocks(T):
        K[:, block] = T.apply(prior.times(rows))
    return 0.5 * (K + K.T)


def weighted_kernel(T: Tangent, d: Array) -> Array:
    """J D^2 J^T, D = diag(d), the identity where d is empty."""
    if isinstance(T.J, np.ndarray):
        return gram(T.J, d)
    if is_sparse(T.J):
        A = T.J.multiply(d).tocsr() if d.size else T.J
        return (A @ A.T).toarray()  # type: ignore[no-any-return]
    K = own_kernel(T.J, d)
    if K is None:
        n = T.shape[0]
        K = np.empty((n, n))
        for block, rows in row_blocks(T):
            K[:, block] = T.apply((d * d)[:, None] * rows if d.size else rows)
    return K


def row_blocks(T: Tangent) -> Iterator[tuple[slice, Array]]:
    """J^T by blocks of columns."""
    n, m = T.shape
    if not isinstance(T.J, np.ndarray):
        yield from adjoint_blocks(T, np.eye(n))
        return
    step = max(1, BLOCK_NUMBERS // m)
    for start in range(0, n, step):
        block = slice(start, min(start + step, n))
        yield block, T.J[block].T


def adjoint_blocks(T: Tangent, Z: Array) -> Iterator[tuple[slice, Array]]:
    """J^T Z by blocks of columns."""
    step = max(1, BLOCK_NUMBERS // T.shape[1])
    for start in range(0, Z.shape[1], step):
        block = slice(start, start + step)
        yield block, T.adjoint(np.ascontiguousarray(Z[:, block]))


class Dual:
    """The base of the forms in the space of the data, which differ in how S = A C A^T + 1 is solved."""

    def __init__(self, T: Tangent, noise: Noise, prior: Prior) -> None:
        self.T, self.noise, self.prior = T, noise, prior

    def _solve(self, x: Array, shift: float, accuracy: float = SOLVED) -> Array:
        """(A C A^T + shift)^{-1} x, x (n,) or (n, k); an iteration may end at this accuracy."""
        raise NotImplementedError

    def step(self, r: Array, p0: Array, q0: Array, damping: float) -> tuple[Array, Array]:
        shift = 1.0 + damping
        x = self.noise.white(r - self.T.apply(p0) / shift)
        if not norm(x) < math.inf:
            raise NotFiniteError
        q = -self.T.adjoint(self.noise.white_adjoint(self._solve(x, shift, STEP)))
        return self.prior.times(q) - p0 / shift, q - q0 / shift

    def _weights(self, x: Array) -> Array:
        """(J C J^T + R)^{-1} x."""
        return self.noise.white_adjoint(self._solve(self.noise.white(x), 1.0))

    def pull(self, x: Array) -> Array:
        return self.T.adjoint(self._weights(x))

    def gain(self, x: Array) -> Array:
        return self.prior.times(self.pull(x))

    def covariance(self, B: Array) -> Array:
        """By ||B - J^T a||^2 + ||a||^2 in the metrics of C and R, a the kriging weights; this avoids cancellation."""
        a = self._weights(self.T.apply(self.prior.times(B)))
        ra = self.noise.colour_adjoint(a)
        K: Array = self.prior.product(B - self.T.adjoint(a)) + ra.T @ ra
        return K

    def variances(self, B: Array) -> Array:
        CB = self.prior.times(B)
        return self.reduced(np.einsum("ij,ij->j", B, CB), self.T.apply(CB), lambda index: B[:, index])

    def reduced(self, before: Array, x: Array, columns: Callable[[Any], Array]) -> Array:
        """The variances of B^T w, from those before the data and x = J C B; columns(index) gives columns of B."""
        left: Array = before - np.einsum("ij,ij->j", x, self._weights(x))
        return self._mended(before, left, columns)

    def _mended(self, before: Array, left: Array, columns: Callable[[Any], Array]) -> Array:
        """The remaining variances; those much smaller than before are computed again without cancellation."""
        small = np.flatnonzero(left < CANCELS * before)
        step = max(1, BLOCK_NUMBERS // self.T.shape[1])
        for start in range(0, small.size, step):
            index = small[start : start + step]
            left[index] = self.covariance(columns(index)).diagonal()
        return left


class ByKernel(Dual):
    """S factored by Cholesky, or by its eigenvalues if it is too ill-conditioned."""

    def __init__(self, T: Tangent, noise: Noise, prior: Prior) -> None:
        super().__init__(T, noise, prior)
        K = kernel(T, prior)
        if not finite(K):
            raise NotFiniteError
        self._K = noise.kernel(K)
        self._factors: dict[float, Cholesky] = {}
        self._spectrum: tuple[Array, Array] | None = None
        self.sound = self._factor(1.0).sound

    def _factor(self, shift: float) -> Cholesky:
        if shift not in self._factors:
            S = self._K.copy()
            S.flat[:: len(S) + 1] += shift
            self._factors = {shift: cholesky(S)}
        return self._factors[shift]

    def _vectors(self) -> tuple[Array, Array]:
        if self._spectrum is None:
            values, U = np.linalg.eigh(self._K)
            self._spectrum = least_zero(values), U
        return self._spectrum

    @property
    def eigenvalues(self) -> Array:
        return self._vectors()[0] if self._spectrum is not None else least_zero(np.linalg.eigvalsh(self._K))

    def _solve(self, x: Array, shift: float, accuracy: float = SOLVED) -> Array:
        if self.sound:
            return self._factor(shift).solve(x)
        values, U = self._vectors()
        found: Array = U @ ((U.T @ x).T / (values + shift)).T
        return found

    def every_variance(self) -> Array:
        """C's diagonal less the squares of the rows of C A^T S^{-1/2}, by blocks of columns of that."""
        values, U = self._vectors()
        half = self.noise.white_adjoint(U / np.sqrt(1.0 + values))
        before = self.prior.variances()
        left = before.copy()
        for _, rows in adjoint_blocks(self.T, half):
            G = self.prior.times(rows)
            left -= np.einsum("ij,ij->i", G, G)
        return self._mended(before, left, lambda index: units(self.prior.m, index))

    def directions(self, least: float) -> Array:
        values, U = self._vectors()
        kept = values >= least
        return self.T.adjoint(self.noise.white_adjoint(U[:, kept] / np.sqrt(values[kept])))


class ByProducts(Dual):
    """S solved by conjugate gradients, for large n."""

    def __init__(self, T: Tangent, noise: Noise, prior: Prior) -> None:
        super().__init__(T, noise, prior)
        self._memory: Memory = T.solver.memory

    def _product(self, z: Array, shift: float) -> Array:
        G = self.T.adjoint(self.noise.white_adjoint(z))
        x = self.noise.white(self.T.apply(self.prior.times(G))) + shift * z
        if not norm(x) < math.inf:
            raise NotFiniteError
        return x

    def _solve(self, x: Array, shift: float, accuracy: float = SOLVED) -> Array:
        if x.ndim > 1:
            return np.column_stack([self._solve(column, shift, accuracy) for column in x.T])
        columns = max(1, BLOCK_NUMBERS // self.T.shape[1])
        return self._memory.solve(lambda z: self._product(z, shift), x, accuracy, columns).z

    @property
    def eigenvalues(self) -> Array:
        raise self._refusal()

    def directions(self, least: float) -> Array:
        raise self._refusal()

    def every_variance(self) -> Array:
        raise self._refusal()

    def _refusal(self) -> ValueError:
        n = self.T.shape[0]
        return ValueError(f"With {n} data no {n} x {n} matrix is formed: choose the unknowns of interest by `index`.")


class BySingularValues:
    """A L = U diag(s) V^T. With a flat prior L only scales the unknowns, and C^{-1} = 0."""

    def __init__(self, J: Array, noise: Noise, prior: Prior, flat: bool = False, lost: float = 0.0) -> None:
        self.noise, self.prior, self.flat = noise, prior, flat
        JL = prior.root_adjoint(J.T).T
        if not finite(JL):
            raise NotFiniteError
        A = noise.white(JL)
        self._U, s, self._V = thin_svd(A)
        rank = s.size
        if flat:
            rank = int(np.count_nonzero(s > max(np.finfo(float).eps * max(A.shape), lost) * s[:1].sum()))
        self.s, self._U, self._V = s[:rank], self._U[:, :rank], self._V[:, :rank]
        self._one = 0.0 if flat else 1.0

    @property
    def eigenvalues(self) -> Array:
        return np.square(self.s[::-1])

    def step(self, r: Array, p0: Array, q0: Array, damping: float) -> tuple[Array, Array]:
        shift, z0 = self._one + damping, self.prior.root_adjoint(q0)
        seen = self._V.T @ z0
        x = (self.s * (self._U.T @ self.noise.white(r)) + seen) / (self.s * self.s + shift)
        z = -(self._V @ x + (z0 - self._V @ seen) / shift)
        return self.prior.root(z), self.prior.dual(z)

    def pull(self, x: Array) -> Array:
        return self.prior.dual(self._shrunk(x))

    def gain(self, x: Array) -> Array:
        return self.prior.root(self._shrunk(x))

    def _shrunk(self, x: Array) -> Array:
        seen = self._U.T @ self.noise.white(x)
        found: Array = self._V @ (self.s / (self.s * self.s + self._one) * seen.T).T
        return found

    def covariance(self, B: Array) -> Array:
        X = self.prior.root_adjoint(B)
        seen = self._V.T @ X
        rest = X - self._V @ seen
        half = (seen.T / np.sqrt(self.s * self.s + self._one)).T
        K: Array = half.T @ half
        if not self.flat:
            return K + rest.T @ rest
        lost = np.einsum("ij,ij->j", rest, rest) > 1e-9 * np.einsum("ij,ij->j", X, X)
        K[lost] = K[:, lost] = math.inf
        return K

    def variances(self, B: Array) -> Array:
        return np.array(self.covariance(B).diagonal())

    def every_variance(self) -> Array:
        m = self.prior.m
        step = max(1, min(m, BLOCK_NUMBERS // m))
        blocks = [np.arange(start, min(start + step, m)) for start in range(0, m, step)]
        return np.concatenate([self.variances(units(m, index)) for index in blocks])

    def directions(self, least: float) -> Array:
        return self.prior.dual(self._V[:, self.s * self.s >= least][:, ::-1])

    def null_space(self) -> Array:
        """An orthonormal basis (m, k) of the null space of A."""
        rest = np.linalg.qr(self._V, mode="complete")[0][:, self.s.size :]
        return np.linalg.qr(self.prior.root(rest))[0]


def least_zero(values: Any) -> Array:
    """The eigenvalues, with those that rounding made negative set to zero."""
    return np.asarray(np.maximum(values, 0.0))


def thin_svd(A: Array) -> tuple[Array, Array, Array]:
    """U (n, k), s and V (m, k) of A = U diag(s) V^T, k = min(n, m)."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return U, s, Vt.T


def flat_posterior(J: Array, noise: Noise, lost: float) -> BySingularValues:
    """Without a prior: (J^T R^{-1} J)^{-1} where the data determine the unknowns, inf elsewhere.

    The unknowns are scaled by the columns of A; singular values below ``lost`` times the largest count as zero.
    """
    A = noise.white(J)
    size = np.sqrt(np.concatenate([np.einsum("ij,ij->j", A[:, c], A[:, c]) for c in column_blocks(A)]))
    scale = 1.0 / np.where(size == 0.0, 1.0, size)
    return BySingularValues(J, noise, Independent(J.shape[1], scale), flat=True, lost=lost)
