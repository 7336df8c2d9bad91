"""Rounding-safe bounds at one point: sigma_min(J) from below, ||J||, ||J^+ r|| and (K^{-1})_ii from above.

The model of rounding (theory 3.3): F is computed to within 8u (|F| + |y| + |J||w|) in every equation and J to within
8u |J| in every entry, u = 2^-53. All other errors are bounded here by the standard analysis of dot products, Cholesky
and Householder factorisations and triangular inverses (Higham, Accuracy and Stability of Numerical Algorithms, 2002;
Rump, BIT 46, 2006), with generous constants.

J is equilibrated by powers of 2, which is exact, so that no bound depends on the scale of the equations. All bounds
follow from L L^T ~ D K D, and from the largest shift of D K D with which its Cholesky factorisation still completes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import lapack

from plsolve._linalg import UNIT, Array, gram, lanczos, norm, potrf, potrs
from plsolve._tangent import Tangent, is_sparse
from plsolve._tangent.operator import as_kernel

LEAST = 5e-324  # error of a product that underflows
TINY = 1e-290  # smaller values of F may have lost digits to underflow
MODEL = 8.0 * UNIT  # relative error of an entry of J, and of the terms of F
UP = 1.0 + 1e-12  # covers the rounding of a few scalar operations
MOST_ROWS = 8192  # as in the solver: no larger n x n matrix is formed (512 MiB, and five of them are needed at a time)
_MANY = 4_000_000  # entries of J beyond which |J| is not formed
LOSS = 0.1  # of lambda_min: if rounding may be more, the kernel is too inexact, and QR of J^T is used instead
ALIKE = 4  # powers of 2 by which the sizes of equations may differ without being scaled


class Kernel(NamedTuple):
    """K = J J^T (or J^T J if that is smaller), lower triangle, with the length of its dot products."""

    K: Array
    terms: int


class Inverse(NamedTuple):
    """L L^T ~ D K D, D = diag(d), with bounds for the true K: K^-1 <= growth^2 D L^-T L^-1 D."""

    L: Array
    d: Array
    growth: float
    floor: float  # <= lambda_min(L L^T)
    mu: float  # lambda_min(K), estimated
    sigma: float  # <= sigma_min(J)


def kernel(T: Tangent) -> Kernel | None:
    """The smaller of J J^T and J^T J; None where it is too large to be formed."""
    J, (n, m) = T.J, T.shape
    if min(n, m) > MOST_ROWS:
        return None
    if is_sparse(J):
        A = J if n <= m else J.T.tocsr()
        terms = int(np.diff(A.indptr).max(initial=1))
        K = np.asfortranarray((A @ A.T).toarray())
    elif isinstance(J, np.ndarray) or n > m or not hasattr(J, "gram"):
        A = T.toarray()
        terms = max(n, m)
        K = gram(A if n <= m else A.T, np.zeros(0))
    else:
        terms, K = m, np.array(as_kernel(J.gram(), n), order="F")
    return Kernel(K, terms)


def products_agree(T: Tangent, kernel: Kernel, rows: Array) -> bool:
    """Whether the kernel of an operator agrees with J (J^T z) for a random z, to several times rounding."""
    n, m = T.shape
    z = np.random.default_rng(0).standard_normal((n,))
    rest = kernel.K @ z - T.apply(T.adjoint(z))
    error = 4.0 * (2 * max(m, kernel.terms) + n + 48) * UNIT * rows * float(rows @ np.abs(z)) + LEAST
    return not bool((np.abs(rest) > error).any())  # NaN where products are out of range, which proves nothing either


def kept_kernel(T: Tangent) -> Kernel | None:
    """The kernel from the factor that the run has left, or None if there is none."""
    if T.factor is None or T.shape[0] > MOST_ROWS:
        return None
    L, (n, m) = np.tril(T.factor), T.shape
    return Kernel(L @ L.T, m + 2 * n + 8)  # factorisation and product add at most n u |L||L^T| each


def inverse(T: Tangent, kernel: Kernel) -> Inverse | None:
    """A bound on the inverse of the true kernel of n <= m equations; None where K is singular to rounding."""
    diagonal = kernel.K.diagonal()
    if not (diagonal.min() > 1e-285 and diagonal.max() < 1e290):  # else underflow would matter
        return None
    powers = -np.round(0.5 * np.log2(diagonal))
    d = np.exp2(powers if np.ptp(powers) > ALIKE else np.full(powers.size, np.round(powers.mean())))
    A = kernel.K * d
    A *= d[:, None]
    L, info = potrf(A.copy())
    found = bounded(A, L, d, kernel.terms) if info == 0 else None
    return orthogonal_inverse(T, d) if found is None else found


def bounded(A: Array, L: Array, d: Array, terms: int) -> Inverse | None:
    """The inverse from A = D K D and its factor; None if too many digits are lost.

    The true A differs by at most terms u trace(A), and a Cholesky factorisation computes the factor of a matrix that
    differs by n u trace(A). If that of A - C completes, the true A is at least C - (n + terms) u trace(A) I.
    """
    n, trace = d.size, float(A.trace())
    error = 1.01 * (terms + n + 28) * UNIT * trace
    mu = 1.0 / top_value(lambda v: d * potrs(L, d * v), n)
    alike = bool((d == d[0]).all())
    least = mu * float(d[0]) ** 2 if alike else 1.0 / top_value(lambda v: potrs(L, v), n)
    if not error <= LOSS * least:
        return None
    slacks = (max(1e-6, 4.0 * error / least), 1e-3, 0.1, 0.5)
    c = shift(A, mu, d * d, error, slacks)
    floor = (c * float(d[0]) ** 2 if alike else shift(A, least, np.ones(n), error, slacks)) - error
    if not error <= 0.5 * floor:
        return None
    growth = 1.0 / math.sqrt(1.0 - error / floor) * (1.0 + 2.0 * (n + 4) * UNIT * math.sqrt(trace / floor))
    return Inverse(L, d, growth * UP, floor, mu, math.sqrt(c) / UP)


def shift(A: Array, value: float, weights: Array, error: float, slacks: tuple[float, ...]) -> float:
    """c = value (1 - slack), by the least slack with which A >= c diag(weights) is proved for the true A; 0: none."""
    for slack in slacks:
        c, B = value * (1.0 - slack), A.copy()
        B[np.diag_indices(weights.size)] -= c * weights + error
        if slack < 1.0 and definite(B):
            return c
    return 0.0


def definite(B: Array) -> bool:
    """Whether Cholesky's factorisation of a symmetric matrix, which is overwritten, completes."""
    if B.shape[0] < 128:  # on one thread scipy's has less overhead (see _linalg)
        return bool(lapack.dpotrf(B.T, lower=1, clean=0, overwrite_a=1)[1] == 0)
    try:
        np.linalg.cholesky(B)
    except np.linalg.LinAlgError:
        return False
    return True


def top_value(apply: Callable[[Array], Array], n: int) -> float:
    """The largest eigenvalue of a symmetric operator, from inside."""
    return float(lanczos(apply, np.random.default_rng(0).standard_normal((n,)), 60 if n <= 256 else 25)[0][-1])


def orthogonal_inverse(T: Tangent, d: Array) -> Inverse | None:
    """The inverse from D J = L Q, with an error of m n u ||D J|| in J instead of m u ||D J||^2 in K."""
    if T.shape[0] * T.shape[1] > 50_000_000:
        return None
    A = np.array((T.toarray() * d[:, None]).T, order="F")
    m, n = A.shape
    size_A = norm(A.ravel(order="K"))
    qr, _, _, info = lapack.dgeqrf(A, lwork=64 * n, overwrite_a=1)
    L = np.asfortranarray(np.tril(qr[:n].T))
    found = triangular_inverse(L) if info == 0 else None
    if found is None:
        return None
    X, size, spread = found
    theta = (12 * m * n + 8) * UNIT * size_A * size * spread
    if not theta < 0.5:
        return None
    growth = spread / (1.0 - theta) * UP
    columns, G = inverse_gram(X, d)
    estimate, bound = largest(G, 2 * n * UNIT * float(columns @ columns))
    sigma = 1.0 / (growth * math.sqrt(bound) * UP)
    return Inverse(L, d, growth, 1.0 / (size * spread * UP) ** 2, 1.0 / estimate, sigma)


def triangular_inverse(L: Array) -> tuple[Array, float, float] | None:
    """X ~ L^-1, ||X||_F, and the factor by which any column or norm of X may be too small; None: no correct digits."""
    if not L.diagonal().all():
        return None
    X, info = lapack.dtrtri(L, lower=1)
    n, size = L.shape[0], norm(X.ravel(order="K"))
    error = 4.0 * n**1.5 * UNIT * size * norm(L.ravel(order="K"))
    return (X, size, 1.0 + 2.0 * error) if info == 0 and error < 0.1 else None


def inverse_gram(X: Array, d: Array) -> tuple[Array, Array]:
    """Norms of the columns of Y = X D, and the lower triangle of Y^T Y; X is overwritten."""
    G = lapack.dlauum(X, lower=1, overwrite_c=1)[0]
    G *= d
    G *= d[:, None]
    return np.sqrt(G.diagonal()) * (1.0 + (d.size + 8) * UNIT) * UP, G


def largest(A: Array, error: float) -> tuple[float, float]:
    """lambda_max of a symmetric matrix from its lower triangle: estimate, and upper bound for all within error of it.

    s I - A is positive definite to within rounding where its Cholesky factorisation completes (Rump 2006).
    """
    n = A.shape[0]
    if n == 1:
        return float(A[0, 0]), float(A[0, 0]) * UP + error
    start = np.random.default_rng(0).standard_normal((n,))
    S = np.tril(A)
    S += np.tril(A, -1).T
    estimate = float(lanczos(S.dot, start, 60 if n <= 256 else 25)[0][-1])
    for slack in (1e-6, 1e-3, 0.1):
        s = estimate * (1.0 + slack)
        B = np.negative(A)
        B[np.diag_indices(n)] += s
        if lapack.dpotrf(B, lower=1, clean=0, overwrite_a=1)[1] == 0:
            return estimate, s * (1.0 + 4 * (n + 8) * n * UNIT) + error
    return estimate, float(np.trace(A)) * UP + error


def newton_length(inv: Inverse, r: Array, noise: Array) -> float:
    """An upper bound on ||J^+ r|| for all r within noise (n,) of the given one."""
    z = lapack.dtrtrs(inv.L, inv.d * r, lower=1)[0]
    more = min(norm(noise) / inv.sigma, inv.growth * norm(inv.d * noise) / math.sqrt(inv.floor))
    return UP * (inv.growth * norm(z) + more)


def omega(inv: Inverse, betas: Array) -> float:
    """A Lipschitz constant of K^{-1/2} J from those of the rows of J (theory 3.2); inf without correct digits."""
    found = triangular_inverse(np.asfortranarray(np.tril(inv.L)))
    if found is None:
        return math.inf
    X, _, spread = found
    n = betas.size
    columns, G = inverse_gram(X, inv.d)
    by_equation = float(betas @ columns)
    weights = betas * columns
    together = largest(G * betas * betas[:, None], 2 * n * UNIT * float(weights @ weights))[1]
    return inv.growth * spread * UP * min(by_equation, math.sqrt(n * together))


def newton_step(inv: Inverse, T: Tangent, r: Array) -> Array:
    """-J^T K^{-1} r, to working precision."""
    z = lapack.dtrtrs(inv.L, inv.d * r, lower=1)[0]
    return -T.adjoint(inv.d * lapack.dtrtrs(inv.L, z, lower=1, trans=1)[0])


def row_norms(T: Tangent, kernel: Kernel | None) -> Array:
    """Upper bounds of the norms of J's rows (n,); inf where J is an operator too large for them to be computed."""
    J, (n, m) = T.J, T.shape
    up = 1.0 + ((m if kernel is None else max(m, kernel.terms)) + 24) * UNIT
    if kernel is not None and n <= m:
        return np.sqrt(kernel.K.diagonal() + m * LEAST) * up
    if isinstance(J, np.ndarray):
        return np.asarray(np.sqrt(np.einsum("ij,ij->i", J, J) + m * LEAST) * up)
    if is_sparse(J):
        return np.asarray(np.sqrt(np.asarray(J.multiply(J).sum(axis=1)).ravel() + m * LEAST) * up)
    return np.full(n, math.inf if kernel is None else math.sqrt(float(np.trace(kernel.K))) * up)


def norm_bound(kernel: Kernel | None, rows: Array, *, tight: bool) -> float:
    """An upper bound of ||J|| for the true J, from bounds of its row norms: the Frobenius norm, or closer if tight."""
    frobenius = norm(rows) * UP
    if kernel is None or not tight or not frobenius < 1e150:
        return frobenius
    bound = largest(kernel.K, 2 * (kernel.terms + 24) * UNIT * frobenius**2 + kernel.K.size * kernel.terms * LEAST)[1]
    return min(frobenius, math.sqrt(max(bound, 0.0)) * UP)


def ends(T: Tangent) -> tuple[float, float]:
    """(lambda_min(K), ||J||) where K is too large to be formed: estimates by Lanczos, from inside the spectrum."""
    start = np.random.default_rng(0).standard_normal((T.shape[0],))
    values = np.maximum(lanczos(lambda v: T.apply(T.adjoint(v)), start, 60)[0], 0.0)
    return float(values[0]) if T.shape[0] <= T.shape[1] else 0.0, math.sqrt(float(values[-1]))


def top(kernel: Kernel, rows: Array) -> float:
    """||J||, an estimate."""
    frobenius = norm(rows)
    if not 0.0 < frobenius < 1e150:
        return frobenius
    n = kernel.K.shape[0]
    start = np.random.default_rng(0).standard_normal((n,))
    values = lanczos(kernel.K.dot, start, 60 if n <= 256 else 20)[0]
    return math.sqrt(max(float(values[-1]), 0.0))


def noise(T: Tangent, w: Array, terms: Array, rows: Array) -> Array:
    """8u (|F| + |y| + |J||w|) (n,); terms = |F| + |y|, rows = norms of the rows of J."""
    return MODEL * UP * (terms + absolute_product(T.J, w, rows)) + TINY


def absolute_product(J: Any, w: Array, rows: Array) -> Array:
    """|J| |w| (n,), or its Cauchy-Schwarz bound ||J_i|| ||w|| if J has too many entries or is an operator."""
    w = np.abs(w)
    if is_sparse(J):
        return np.asarray(abs(J).dot(w))
    if not isinstance(J, np.ndarray) or J.size > _MANY:
        return rows * norm(w)
    step = max(1, (1 << 16) // J.shape[1])
    return np.concatenate([np.abs(J[i : i + step]) @ w for i in range(0, J.shape[0], step)])
