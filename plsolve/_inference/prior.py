"""The prior w ~ N(w0, C), which is used only by products with C."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import scipy.sparse as sps
import scipy.sparse.linalg as spla
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular

from plsolve._checks import as_float, check_finite, product, shown
from plsolve._linalg import Array, finite, norm

SYMMETRIC = 1e-8  # of the largest entry: a matrix may differ from its transpose by this
BLOCK_NUMBERS = 1 << 22  # in a block of vectors (32 MiB)
ROOT_STEPS = 300  # Lanczos steps for C^{1/2} z
ROOT_ACCURACY = 1e-10  # relative accuracy of C^{1/2} z


class NotFiniteError(ValueError):
    """The products of J and the covariance of the prior are not finite."""

    def __init__(self) -> None:
        super().__init__("`jac` and `prior` must be finite, but their product has NaN or infinite entries.")


class Prior(Protocol):
    """The covariance C (m, m). Vectors may be matrices of several columns."""

    m: int

    @property
    def scale(self) -> float | Array | None:
        """The standard deviation of all unknowns, or one for each; None if the unknowns are correlated."""

    def times(self, V: Array) -> Array:
        """C V."""

    def root(self, Z: Array) -> Array:
        """L Z for some L with L L^T = C."""

    def root_adjoint(self, V: Array) -> Array:
        """L^T V."""

    def dual(self, Z: Array) -> Array:
        """L^{-T} Z, for which C (L^{-T} Z) = L Z."""

    def product(self, V: Array) -> Array:
        """V^T C V."""

    def variances(self) -> Array:
        """The diagonal of C (m,)."""


class Independent:
    """C = diag(std^2); a standard deviation of 0 holds the unknown at w0."""

    def __init__(self, m: int, scale: float | Array) -> None:
        self.m, self.scale = m, scale

    def root(self, Z: Array) -> Array:
        scaled: Array = Z * (self.scale if isinstance(self.scale, float) or Z.ndim == 1 else self.scale[:, None])
        return scaled

    root_adjoint = root

    def times(self, V: Array) -> Array:
        return self.root(self.root(V))

    def dual(self, Z: Array) -> Array:
        scale = np.asarray(self.scale)
        inverse = np.divide(1.0, scale, out=np.zeros(scale.shape), where=scale > 0.0)
        scaled: Array = Z * (inverse[:, None] if inverse.ndim and Z.ndim > 1 else inverse)
        return scaled

    def product(self, V: Array) -> Array:
        X = self.root(V)
        return X.T @ X

    def variances(self) -> Array:
        return np.full(self.m, np.square(self.scale))


class Covariance:
    """C = L L^T is an array."""

    scale = None

    def __init__(self, C: Array, L: Array) -> None:
        self.m, self._C, self._L = len(C), C, L

    def times(self, V: Array) -> Array:
        return self._C @ V

    def root(self, Z: Array) -> Array:
        return self._L @ Z

    def root_adjoint(self, V: Array) -> Array:
        return self._L.T @ V

    def dual(self, Z: Array) -> Array:
        return np.asarray(solve_triangular(self._L, Z, trans=1, lower=True))

    def product(self, V: Array) -> Array:
        X = self.root_adjoint(V)
        return X.T @ X

    def variances(self) -> Array:
        return np.array(self._C.diagonal())


class Precision:
    """C is the inverse of a sparse matrix P = M M^T, which is factored: L = M^{-T} = C M."""

    scale = None

    def __init__(self, lu: Any) -> None:
        self.m, self._lu = lu.shape[0], lu
        root = sps.diags_array(np.sqrt(lu.U.diagonal()))
        self._M = (lu.L @ root).tocsr()[lu.perm_r]

    def times(self, V: Array) -> Array:
        return self._lu.solve(np.ascontiguousarray(V))  # type: ignore[no-any-return]

    def root(self, Z: Array) -> Array:
        return self.times(self._M @ Z)

    def root_adjoint(self, V: Array) -> Array:
        return self._M.T @ self.times(V)  # type: ignore[no-any-return]

    def dual(self, Z: Array) -> Array:
        return self._M @ Z  # type: ignore[no-any-return]

    def product(self, V: Array) -> Array:
        X = self.root_adjoint(V)
        return X.T @ X

    def variances(self) -> Array:
        return diagonal(self)


class Products:
    """C is a LinearOperator v -> C v, which may have a method ``diagonal()`` as sparse matrices do."""

    scale = None

    def __init__(self, C: Any, name: str) -> None:
        self.m, self._C, self._name = C.shape[0], C, name

    def times(self, V: Array) -> Array:
        return product(self._C, "matvec" if V.ndim == 1 else "matmat", V, self._name)

    def root(self, Z: Array) -> Array:
        """C^{1/2} Z, the symmetric root."""
        if Z.ndim == 1:
            return symmetric_root(self.times, Z)
        return np.column_stack([symmetric_root(self.times, z) for z in Z.T])

    root_adjoint = root

    def dual(self, Z: Array) -> Array:
        raise NotImplementedError

    def product(self, V: Array) -> Array:
        K = V.T @ self.times(V)
        return 0.5 * (K + K.T)

    def variances(self) -> Array:
        if hasattr(self._C, "diagonal"):
            return np.array(self._C.diagonal(), dtype=np.float64)
        return diagonal(self)


class Conditioned:
    """C given that some unknowns are held: C - G (E^T G)^{-1} G^T, E their unit vectors, G = C E."""

    scale = None

    def __init__(self, prior: Prior, index: Any) -> None:
        self.m, self._prior = prior.m, prior
        self._G = prior.times(units(prior.m, index))
        if not finite(self._G):
            raise NotFiniteError
        self._factor = cho_factor(self._G[index], lower=True)

    def times(self, V: Array) -> Array:
        CV: Array = self._prior.times(V) - self._G @ cho_solve(self._factor, self._G.T @ V, check_finite=False)
        return CV


def hold(prior: Prior, index: Any) -> tuple[Any, Callable[[Array], tuple[Array, Array]]]:
    """The prior with some unknowns held, and a function: from their step b, the most probable step (p, C^{-1} p)."""
    if index.size == 0:
        return prior, lambda b: (np.zeros(prior.m), np.zeros(prior.m))
    if prior.scale is not None:
        scale = np.full(prior.m, prior.scale)
        scale[index] = 0.0
        held: Any = Independent(prior.m, scale)
        weight = np.broadcast_to(np.square(prior.scale), prior.m)[index]
        return held, lambda b: (spread(b, index, prior.m), spread(b / weight, index, prior.m))
    held = Conditioned(prior, index)

    def completed(b: Array) -> tuple[Array, Array]:
        z = cho_solve(held._factor, b, check_finite=False)
        return held._G @ z, spread(z, index, prior.m)

    return held, completed


def spread(b: Array, index: Any, m: int) -> Array:
    """The vector (m,) that is b at these indices and zero elsewhere."""
    v = np.zeros(m)
    v[index] = b
    return v


def as_prior(prior: Any, m: int, name: str = "prior") -> Prior:
    """The covariance of m unknowns, from a number, standard deviations (m,), a matrix, or an operator."""
    if isinstance(prior, spla.LinearOperator):
        return as_products(prior, m, name)
    if sps.issparse(prior):
        return as_precision(prior, m, name)
    C = as_float(1.0 if prior is None else prior, name)
    if C.shape == (m, m) and C.ndim == 2:
        return Covariance(C, factor(C, name))
    if C.shape not in ((), (1,), (m,)):
        raise ValueError(
            f"`{name}` must be a number, or have shape ({m},), standard deviations, or ({m}, {m}), a covariance; "
            f"got shape {C.shape}."
        )
    check_positive(C, prior, name)
    return Independent(m, float(C.flat[0]) if C.min() == C.max() else C.copy())


def check_positive(scale: Array, value: Any, name: str) -> None:
    """Raise unless all standard deviations are positive and finite."""
    if np.count_nonzero((scale > 0.0) & (scale < math.inf)) < scale.size:
        raise ValueError(f"`{name}` must be positive and finite, got {shown(value)}.")


def as_products(C: Any, m: int, name: str) -> Products:
    """The operator, after a test of symmetry and positivity on two vectors."""
    if C.shape != (m, m):
        raise ValueError(f"`{name}` must have shape ({m}, {m}), got a LinearOperator of shape {C.shape}.")
    prior = Products(C, name)
    u, v = np.random.default_rng(0).standard_normal((2, m))
    Cu, Cv = prior.times(u), prior.times(v)
    for Cx in (Cu, Cv):
        check_finite(np.asarray(Cx, np.float64), f"{name} @ v")
    if not (u.dot(Cu) > 0.0 and v.dot(Cv) > 0.0):
        raise ValueError(f"`{name}` must be positive definite, but v . C v is not positive for some vector v.")
    if abs(u.dot(Cv) - v.dot(Cu)) > SYMMETRIC * (norm(u) * norm(Cv) + norm(v) * norm(Cu)):
        raise ValueError(f"`{name}` must be symmetric, but u . C v differs from v . C u for some vectors.")
    return prior


def as_precision(P: Any, m: int, name: str) -> Precision:
    """The inverse of a sparse matrix, by its factorisation."""
    if P.shape != (m, m):
        raise ValueError(
            f"`{name}` must have shape ({m}, {m}) where it is sparse, a precision matrix; got shape {P.shape}."
        )
    P = sps.csc_array(P, dtype=np.float64)
    check_finite(P.data, name)
    check_symmetric(P, name)
    refusal = f"`{name}` must be a positive definite precision matrix where it is sparse, but it is not."
    try:
        lu = spla.splu(P, "MMD_AT_PLUS_A", 0.0, options={"SymmetricMode": True})
    except RuntimeError as error:  # exactly singular
        raise ValueError(refusal) from error
    pivots = lu.U.diagonal()
    if not (np.array_equal(lu.perm_r, lu.perm_c) and pivots.min() > m * 1e-16 * pivots.max()):
        raise ValueError(refusal)
    return Precision(lu)


def check_symmetric(C: Any, name: str) -> None:
    """Raise unless an array or a sparse matrix is symmetric."""
    if abs(C - C.T).max() > SYMMETRIC * abs(C).max():
        raise ValueError(f"`{name}` must be symmetric.")


def factor(C: Array, name: str) -> Array:
    """L with C = L L^T, where C is a covariance."""
    check_finite(C, name)
    check_symmetric(C, name)
    try:
        return np.asarray(cholesky(C, lower=True))
    except LinAlgError as error:
        raise ValueError(f"`{name}` must be positive definite.") from error


def diagonal(prior: Prior) -> Array:
    """The diagonal of C, by products with unit vectors."""
    found, step = np.empty(prior.m), max(1, BLOCK_NUMBERS // prior.m)
    for start in range(0, prior.m, step):
        index = np.arange(start, min(start + step, prior.m))
        found[index] = prior.times(units(prior.m, index))[index, np.arange(index.size)]
    return found


def units(m: int, index: Any) -> Array:
    """The unit vectors (m, k) of these unknowns."""
    E = np.zeros((m, len(index)))
    E[index, np.arange(len(index))] = 1.0
    return E


def symmetric_root(times: Any, z: Array) -> Array:
    """C^{1/2} z from products with C, by Lanczos: ||z|| V T^{1/2} e_1 (Chow, Saad, SIAM J. Sci. Comput. 36, 2014)."""
    size = norm(z)
    if size == 0.0:
        return z.copy()
    V = [z / size]
    alpha: list[float] = []
    beta: list[float] = []
    last = np.zeros(0)
    for k in range(min(ROOT_STEPS, z.size)):
        q = times(V[k])
        alpha.append(float(q.dot(V[k])))
        basis = np.array(V)
        for _ in range(2):
            q = q - basis.T @ (basis @ q)
        beta.append(norm(q))
        values, U = np.linalg.eigh(np.diag(alpha) + np.diag(beta[:-1], 1) + np.diag(beta[:-1], -1))
        found = U @ (np.sqrt(np.maximum(values, 0.0)) * U[0])
        change = norm(found - np.append(last, np.zeros(found.size - last.size)))
        if beta[-1] <= 1e-14 * abs(values).max() or change <= ROOT_ACCURACY * norm(found):
            break
        last = found
        V.append(q / beta[-1])
    root: Array = size * (np.array(V[: len(found)]).T @ found)
    return root
