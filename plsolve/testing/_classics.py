"""Engineering and textbook systems."""

from typing import TYPE_CHECKING

import numpy as np

from plsolve.testing import more_garbow_hillstrom
from plsolve.testing._arguments import check_seed, check_sizes, check_within
from plsolve.testing._system import Matrix, System, Vector

if TYPE_CHECKING:
    from scipy.sparse import csr_array

TANH_CURVATURE = 4.0 / (3.0 * np.sqrt(3.0))  # max |tanh''|


def tanh_system(n: int, m: int, seed: int = 0) -> System:
    """F(w) = tanh(A w) + A w - 0.3 = 0, A normal with variance 1/m, w0 standard normal (n <= m).

    With tanh(t) + t = 0.3, w* = w0 + A^+ (t - A w0) is the solution nearest to w0, and Gauss-Newton with
    minimum-norm steps converges to it. mu = sigma_min(A)^2 (a lower bound, not attained), L_F = 2 ||A||,
    beta = max|tanh''| max_i ||a_i|| ||A||, beta_i = max|tanh''| ||a_i||^2.

    Parameters
    ----------
    n, m : int
        Equations and unknowns, n <= m.
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
    check_seed(seed)
    if n > m:
        raise ValueError(f"tanh_system needs n <= m, got n={n}, m={m}")
    rng = np.random.default_rng(seed)
    A: Matrix = rng.standard_normal((n, m)) / np.sqrt(m)

    def F(w: Vector) -> Vector:
        v: Vector = A @ w
        v += np.tanh(v) - 0.3
        return v

    def jac(w: Vector) -> Matrix:
        slope: Vector = 2.0 - np.tanh(A @ w) ** 2
        return A * slope[:, None]

    w0 = rng.standard_normal(m)
    t = 0.15
    for _ in range(5):
        t -= (np.tanh(t) + t - 0.3) / (2.0 - np.tanh(t) ** 2)
    K = A @ A.T
    spectrum = np.linalg.eigvalsh(K)
    norms = np.linalg.norm(A, axis=1)
    return System(
        name="tanh_system",
        F=F,
        jac=jac,
        w0=w0,
        y=np.zeros(n),
        solution=w0 + A.T @ np.linalg.solve(K, t - A @ w0),
        solvable=True,
        mu=float(spectrum[0]),
        lipschitz=float(2.0 * np.sqrt(spectrum[-1])),
        beta=float(TANH_CURVATURE * norms.max() * np.sqrt(spectrum[-1])),
        beta_rows=TANH_CURVATURE * norms**2,
    )


def planar_arm(joints: int = 7, seed: int = 0) -> System:
    """Tip of a planar arm with links of length 1: F(q) = Sum_k (cos t_k, sin t_k), t_k = q_1 + ... + q_k; n = 2.

    With s_k = (1, .., 1, 0, .., 0) (k ones): L_F = ||Sum_k s_k||, beta = lambda_max(Sum_k s_k s_k^T), both attained
    by the straight arm. w0 is a slightly bent arm, y the tip at a random q*.

    Parameters
    ----------
    joints : int
        Unknowns.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.
    """
    check_sizes(joints=joints)
    check_seed(seed)

    def F(w: Vector) -> Vector:
        t = np.cumsum(w)
        return np.array([np.cos(t).sum(), np.sin(t).sum()])

    def jac(w: Vector) -> Matrix:
        t = np.cumsum(w)
        J = np.empty((2, joints))
        J[0] = -np.cumsum(np.sin(t)[::-1])[::-1]
        J[1] = np.cumsum(np.cos(t)[::-1])[::-1]
        return J

    S = np.tri(joints)
    beta = float(np.linalg.norm(S, 2) ** 2)
    solution = np.random.default_rng(seed).uniform(-1.0, 1.0, joints)
    return System(
        name="planar_arm",
        F=F,
        jac=jac,
        w0=np.full(joints, 0.1),
        y=F(solution),
        solution=solution,
        solvable=True,
        lipschitz=float(np.linalg.norm(S.sum(axis=0))),
        beta=beta,
        beta_rows=np.full(2, beta),
    )


def chandrasekhar(n: int = 200, c: float = 0.9) -> System:
    """Chandrasekhar's H-equation on n midpoints x_i: w_i = 1 / (1 - (c / 2n) Sum_j x_i w_j / (x_i + x_j)); n = m.

    Solvable for 0 <= c <= 1, K becoming singular at the solution as c -> 1. Source: Kelley, Iterative Methods for
    Linear and Nonlinear Equations, SIAM 1995, section 5.6.

    Parameters
    ----------
    n : int
        Equations and unknowns.
    c : float
        Albedo, 0 <= c <= 1.

    Returns
    -------
    System
        With what is known about it.
    """
    check_sizes(n=n)
    check_within(0.0, 1.0, c=c)
    x = (np.arange(n) + 0.5) / n
    A = (0.5 * c / n) * x[:, None] / (x[:, None] + x)

    def F(w: Vector) -> Vector:
        return w - 1.0 / (1.0 - A @ w)

    def jac(w: Vector) -> Matrix:
        J = A * -((1.0 - A @ w) ** -2.0)[:, None]
        np.einsum("ii->i", J)[...] += 1.0
        return J

    return System(name="chandrasekhar", F=F, jac=jac, w0=np.ones(n), y=np.zeros(n), solvable=True)


def broyden_tridiagonal(n: int = 1000) -> System:
    """F_i(w) = (3 - 2 w_i) w_i - w_{i-1} - 2 w_{i+1} + 1 with w_0 = w_{n+1} = 0; n = m, jac is a sparse csr_array.

    beta = 4 exactly. Source: More, Garbow, Hillstrom, ACM TOMS 7 (1981), problem 30.

    Parameters
    ----------
    n : int
        Equations and unknowns.

    Returns
    -------
    System
        With what is known about it.
    """
    check_sizes(n=n)
    from scipy.sparse import csr_array

    indptr = np.clip(3 * np.arange(n + 1) - 1, 0, 3 * n - 2).astype(np.int32)
    row, column = np.divmod(np.arange(3 * n), 3)
    column += row - 1
    inside = (column >= 0) & (column < n)
    indices = column[inside].astype(np.int32)
    stencil = np.tile([-1.0, 3.0, -2.0], n)[inside]
    diagonal = np.flatnonzero(indices == row[inside])

    def jac(w: Vector) -> "csr_array[np.float64, tuple[int, int]]":
        data = stencil.copy()
        data[diagonal] -= 4.0 * w
        return csr_array((data, indices, indptr), shape=(n, n))

    return System(
        name="broyden_tridiagonal",
        F=more_garbow_hillstrom.broyden_tridiagonal,
        jac=jac,
        w0=np.full(n, -1.0),
        y=np.zeros(n),
        solvable=True,
        beta=4.0,
        beta_rows=np.full(n, 4.0),
    )


def powell_singular() -> System:
    """F(w) = (w1 + 10 w2, sqrt5 (w3 - w4), (w2 - 2 w3)^2, sqrt10 (w1 - w4)^2): n = m = 4, J has rank 2 at w* = 0.

    beta = ||Sum_i H_i^2||^(1/2) = 4 sqrt10: H_3 and H_4 are orthogonal. Source: More, Garbow, Hillstrom, ACM TOMS 7
    (1981), problem 13.

    Returns
    -------
    System
        With what is known about it.
    """
    r5, r10 = np.sqrt(5.0), np.sqrt(10.0)

    def jac(w: Vector) -> Matrix:
        a, b = 2 * (w[1] - 2 * w[2]), 2 * r10 * (w[0] - w[3])
        return np.array([[1, 10, 0, 0], [0, 0, r5, -r5], [0, a, -2 * a, 0], [b, 0, 0, -b]])

    return System(
        name="powell_singular",
        F=more_garbow_hillstrom.powell_singular,
        jac=jac,
        w0=np.array([3.0, -1.0, 0.0, 1.0]),
        y=np.zeros(4),
        solution=np.zeros(4),
        solvable=True,
        mu=0.0,
        beta=float(4 * r10),
        beta_rows=np.array([0.0, 0.0, 10.0, 4 * r10]),
    )
