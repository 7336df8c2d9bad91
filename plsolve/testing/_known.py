"""Systems whose constants mu, L_F, beta and kappa are known by formula (theory 8)."""

import math

import numpy as np
import numpy.typing as npt

from plsolve.testing._arguments import check_positive, check_seed, check_sizes, check_strength, check_within
from plsolve.testing._system import Matrix, System, Vector


def prescribed_spectrum(n: int, m: int, kappa: float, e: float = 0.0, seed: int = 0, distance: float = 1.0) -> System:
    """F(w) = A (w + e sin w) with singular values of A spaced geometrically, ||A|| = 1, kappa(A A^T) = kappa.

    Exact for all w (theory 8): mu = (1-e)^2 sigma_min(A)^2, L_F = (1+e) ||A||, beta = e max_j ||A e_j||_2;
    kappa(K(w)) lies within ((1+e)/(1-e))^2 of kappa. The start is w0 = 0, and w* = A^+ z with a random z: at e = 0
    it is the solution of least norm and the residual at w0 has equal weight in every eigenvector of K, so that
    gradient descent cannot do better than its rate. F and jac take ``rows``.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, in any relation; for m < n mu is 0 and the spectrum is that of J^T J.
    kappa : float
        lambda_max / lambda_min of A A^T, >= 1.
    e : float
        Strength of the nonlinearity, 0 <= e < 1.
    seed : int
        Of all random numbers.
    distance : float
        ||w* - w0|| / sqrt(m): 0.1 is near (almost linear), 1 already leaves the linear range, 10 is far.

    Returns
    -------
    System
        With every constant known.
    """
    check_sizes(n=n, m=m)
    check_within(1.0, math.inf, kappa=kappa)
    check_strength(e=e)
    check_positive(distance=distance)
    check_seed(seed)
    rng = np.random.default_rng(seed)
    rank = min(n, m)
    left = np.linalg.qr(rng.standard_normal((n, rank)))[0]
    right = np.linalg.qr(rng.standard_normal((m, rank)))[0]
    sigma = kappa ** -np.linspace(0.0, 0.5, rank)
    direction = right @ (rng.standard_normal(rank) / sigma)
    solution = direction * (distance * np.sqrt(m) / np.linalg.norm(direction))
    return _spectral("prescribed_spectrum", (left * sigma) @ right.T, sigma, kappa, e, solution)


def smooth_kernel(n: int = 200, m: int = 1000, kappa_jac: float = 1e10, e: float = 0.3, seed: int = 0) -> System:
    """F(w) = A (w + e sin w), A a smooth kernel with kappa(J(w0)) = kappa_jac, as integral equations give.

    A = U diag(sigma) V^T with cosines for singular vectors (smooth components have the large sigma). Constants as
    in `prescribed_spectrum`; ``kappa`` is kappa_jac^2, beyond what J J^T can hold in double precision from 1e8 on.
    w* is standard normal, with equal weight in every component; the residual has the weights sigma.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, n <= m.
    kappa_jac : float
        kappa(J(w0)).
    e : float
        Strength of the nonlinearity, 0 <= e < 1.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.

    Raises
    ------
    ValueError
        If n > m.
    """
    check_sizes(n=n, m=m)
    check_within(1.0, math.inf, kappa_jac=kappa_jac)
    check_strength(e=e)
    check_seed(seed)
    if n > m:
        raise ValueError(f"smooth_kernel needs n <= m, got n={n}, m={m}")
    sigma = kappa_jac ** -np.linspace(0.0, 1.0, n)
    A = (_cosines(n, n) * sigma) @ _cosines(m, n).T
    return _spectral("smooth_kernel", A, sigma, kappa_jac**2, e, np.random.default_rng(seed).standard_normal(m))


def _cosines(points: int, columns: int) -> Matrix:
    """First columns of the orthonormal discrete cosine basis on `points` midpoints."""
    grid = (np.arange(points) + 0.5) * (np.pi / points)
    C: Matrix = np.cos(np.outer(grid, np.arange(columns))) * np.sqrt(2.0 / points)
    C[:, 0] = 1.0 / np.sqrt(points)
    return C


def _spectral(name: str, A: Matrix, sigma: Vector, kappa: float, e: float, solution: Vector) -> System:
    def F(w: Vector, rows: npt.NDArray[np.int64] | None = None) -> Vector:
        return (A if rows is None else A[rows]) @ (w + e * np.sin(w))

    def jac(w: Vector, rows: npt.NDArray[np.int64] | None = None) -> Matrix:
        return (A if rows is None else A[rows]) * (1.0 + e * np.cos(w))

    n, m = A.shape
    return System(
        name=name,
        F=F,
        jac=jac,
        w0=np.zeros(m),
        y=F(solution),
        solution=solution,
        solvable=True,
        mu=float(((1.0 - e) * sigma[-1]) ** 2) if n <= m else 0.0,
        lipschitz=float((1.0 + e) * sigma[0]),
        beta=float(e * np.linalg.norm(A, axis=0).max()),
        beta_rows=e * np.abs(A).max(axis=1),
        kappa=kappa,
    )


def quadratic(n: int, m: int, seed: int = 0, curvature: float = 0.1, distance: float = 1.0) -> System:
    """F_i(w) = b_i.w + w^T H_i w / 2 with random symmetric H_i; w0 = 0, ||w*|| = distance.

    Rigorous (theory 8): beta = sqrt(lambda_max(Sum_i H_i^2)), per equation beta_i = ||H_i||_2. H is scaled so that
    beta = curvature * sigma_min(B), hence J(w) keeps full rank for ||w|| < 1 / curvature. Memory n m^2.

    Parameters
    ----------
    n, m : int
        Equations and unknowns.
    seed : int
        Of all random numbers.
    curvature : float
        beta / sigma_min(B).
    distance : float
        ||w* - w0||.

    Returns
    -------
    System
        With what is known about it.
    """
    check_sizes(n=n, m=m)
    check_positive(curvature=curvature, distance=distance)
    check_seed(seed)
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((n, m)) / np.sqrt(m)
    H = _symmetric(rng, n, m)
    H *= curvature * np.linalg.svd(B, compute_uv=False)[-1] / _quadratic_beta(H)
    solution = rng.standard_normal(m)
    solution *= distance / np.linalg.norm(solution)
    return _quadratic("quadratic", B, H, solution)


def singular_start(n: int, m: int, seed: int = 0) -> System:
    """A `quadratic` whose last two linear terms agree: K(w0) has rank n - 1, yet a solution is known (n >= 2).

    The last two equations differ in their H_i alone, so that K is regular away from w0 = 0.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, n >= 2.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.

    Raises
    ------
    ValueError
        If n < 2.
    """
    check_sizes(n=n, m=m)
    check_seed(seed)
    if n < 2:
        raise ValueError(f"singular_start needs n >= 2, got n={n}")
    rng = np.random.default_rng(seed)
    B = rng.standard_normal((n, m)) / np.sqrt(m)
    B[-1] = B[-2]
    H = _symmetric(rng, n, m)
    return _quadratic("singular_start", B, H / _quadratic_beta(H), rng.standard_normal(m) / np.sqrt(m))


def _symmetric(rng: np.random.Generator, n: int, m: int) -> npt.NDArray[np.float64]:
    H = rng.standard_normal((n, m, m))
    return H + H.transpose(0, 2, 1)


def _quadratic_beta(H: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.linalg.eigvalsh(np.einsum("ijk,ikl->jl", H, H))[-1]))


def _quadratic(name: str, B: Matrix, H: npt.NDArray[np.float64], solution: Vector) -> System:
    def F(w: Vector) -> Vector:
        return (B + 0.5 * (H @ w)) @ w

    def jac(w: Vector) -> Matrix:
        return B + H @ w

    return System(
        name=name,
        F=F,
        jac=jac,
        w0=np.zeros(B.shape[1]),
        y=F(solution),
        solution=solution,
        solvable=True,
        beta=_quadratic_beta(H),
        beta_rows=np.abs(np.linalg.eigvalsh(H)).max(axis=1),
    )


def no_solution(n: int, m: int, gap: float = 1e-8, seed: int = 0) -> System:
    """F_i(w) = (Q w)_i, the last one squared, with the target -gap for it: no solution (Q orthonormal rows, n <= m).

    ||F(w) - y|| >= gap everywhere, attained where (Q w)_n = 0 and K is singular. With a small gap ||r|| / s becomes
    small near there, which does not prove a solution (theory 4.1). beta = 2 exactly, L_F is unbounded.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, n <= m.
    gap : float
        The least ||F(w) - y||.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.

    Raises
    ------
    ValueError
        If n > m.
    """
    check_sizes(n=n, m=m)
    check_positive(gap=gap)
    check_seed(seed)
    if n > m:
        raise ValueError(f"no_solution needs n <= m, got n={n}, m={m}")
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((m, n)))[0].T

    def F(w: Vector) -> Vector:
        v = Q @ w
        v[-1] *= v[-1]
        return v

    def jac(w: Vector) -> Matrix:
        J = Q.copy()
        J[-1] *= 2.0 * (Q[-1] @ w)
        return J

    y = rng.standard_normal(n)
    y[-1] = -gap
    w0 = Q.T @ np.ones(n)
    rows = np.zeros(n)
    rows[-1] = 2.0
    return System(name="no_solution", F=F, jac=jac, w0=w0, y=y, solvable=False, mu=0.0, beta=2.0, beta_rows=rows)


def repeated_equations(n: int, m: int, gap: float = 0.0, seed: int = 0) -> System:
    """`prescribed_spectrum` (n - 1 equations, kappa 100, e 0.3) with its last equation repeated, targets gap apart.

    K is singular everywhere (mu = 0). gap = 0 is solvable; otherwise ||F(w) - y|| >= ``|gap| / sqrt 2`` for all w,
    attained where the two deviations are +-gap / 2.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, n >= 2.
    gap : float
        Difference of the two targets of the repeated equation.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.

    Raises
    ------
    ValueError
        If n < 2.
    """
    check_sizes(n=n, m=m)
    check_within(-math.inf, math.inf, gap=gap)
    check_seed(seed)
    if n < 2:
        raise ValueError(f"repeated_equations needs n >= 2, got n={n}")
    base = prescribed_spectrum(n - 1, m, 100.0, e=0.3, seed=seed)
    assert base.beta is not None
    assert base.beta_rows is not None
    twice = np.append(np.arange(n - 1), n - 2)

    def F(w: Vector) -> Vector:
        return np.asarray(base.F(w)[twice])

    def jac(w: Vector) -> Matrix:
        return np.asarray(base.jac(w)[twice])

    y = base.y[twice]
    y[-1] += gap
    return System(
        name="repeated_equations",
        F=F,
        jac=jac,
        w0=base.w0,
        y=y,
        solution=base.solution if gap == 0.0 else None,
        solvable=gap == 0.0,
        mu=0.0,
        beta=float(np.hypot(base.beta, base.beta_rows[-1])),
        beta_rows=base.beta_rows[twice],
    )
