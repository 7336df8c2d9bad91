"""Problems with known answers, and the forms in which a Jacobian may come.

The classics are numbered as in More, Garbow, Hillstrom, "Testing unconstrained optimization software"
(ACM TOMS 7, 1981).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True)
class Problem:
    name: str
    F: Callable[..., Any]
    jac: Callable[..., Any]
    w0: np.ndarray
    cost: float = 0.0  # the least loss reached from w0
    x: np.ndarray | None = None  # where it is reached, if only there
    x_rtol: float = 1e-6

    def __str__(self):
        return self.name


# Jacobian forms ------------------------------------------------------------------------------------------------------


class Operator(LinearOperator):
    """J by its two products only."""

    def __init__(self, J):
        self.J = np.asarray(J, dtype=float)
        super().__init__(dtype=np.dtype(float), shape=self.J.shape)

    def _matvec(self, v):
        return self.J @ v

    def _rmatvec(self, z):
        return self.J.T @ z


class GramOperator(Operator):
    """J by its products and its kernel J J^T; asking for the whole of J is an error."""

    grams = 0

    def gram(self):
        GramOperator.grams += 1
        return self.J @ self.J.T

    def _matmat(self, V):
        assert V.shape[1] < min(self.shape), "J was formed although gram() was there"
        return self.J @ V

    def _rmatmat(self, Z):
        assert Z.shape[1] < min(self.shape), "J was formed although gram() was there"
        return self.J.T @ Z


def strided(J):
    wide = np.full((2 * J.shape[0], 3 * J.shape[1]), np.nan)
    wide[::2, ::3] = J
    return wide[::2, ::3]


def read_only(J):
    J = np.array(J)
    J.flags.writeable = False
    return J


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "reversed": lambda J: np.ascontiguousarray(J[::-1, ::-1])[::-1, ::-1],
    "read_only": read_only,
    "csr_matrix": sparse.csr_matrix,
    "csc_matrix": sparse.csc_matrix,
    "coo_matrix": sparse.coo_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "coo_array": sparse.coo_array,
    "lil_array": sparse.lil_array,
    "operator": Operator,
    "gram_operator": GramOperator,
}


# Linear systems ------------------------------------------------------------------------------------------------------


def matrix(n, m, seed=0, spread=3.0, rank=None):
    """n x m with singular values from 1 to `spread`, all but `rank` of them zero."""
    rng = np.random.default_rng([seed, n, m])
    k = min(n, m)
    U = np.linalg.qr(rng.normal(size=(n, k)))[0]
    V = np.linalg.qr(rng.normal(size=(m, k)))[0]
    s = np.geomspace(spread, 1.0, k)
    s[k if rank is None else rank :] = 0.0
    return (U * s) @ V.T


def vector(n, seed=1):
    return np.random.default_rng([seed, n]).normal(size=n)


# Nonlinear systems ---------------------------------------------------------------------------------------------------


def tanh_system(n, m, seed=0):
    """F = tanh(A w) + A w - 0.3: solvable for n <= m, with K between sigma^2 and 4 sigma^2 of A."""
    A = matrix(n, m, seed)

    def F(w):
        return np.tanh(A @ w) + A @ w - 0.3

    def jac(w):
        return (2 - np.tanh(A @ w) ** 2)[:, None] * A

    return Problem(f"tanh {n}x{m}", F, jac, vector(m, seed + 2))


def rosenbrock():
    return Problem(
        "Rosenbrock (1)",
        lambda w: np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]]),
        lambda w: np.array([[-20 * w[0], 10], [-1, 0]]),
        np.array([-1.2, 1.0]),
        x=np.ones(2),
    )


def freudenstein_roth():
    def F(w):
        a, b = w
        return np.array([-13 + a + ((5 - b) * b - 2) * b, -29 + a + ((b + 1) * b - 14) * b])

    def jac(w):
        b = w[1]
        return np.array([[1, 10 * b - 3 * b**2 - 2], [1, 3 * b**2 + 2 * b - 14]])

    return Problem("Freudenstein-Roth (2), the good start", F, jac, np.array([6.0, 3.0]), x=np.array([5.0, 4.0]))


def beale():
    k, c = np.arange(1, 4), np.array([1.5, 2.25, 2.625])
    return Problem(
        "Beale (5)",
        lambda w: c - w[0] * (1 - w[1] ** k),
        lambda w: np.stack([w[1] ** k - 1, w[0] * k * w[1] ** (k - 1)], axis=1),
        np.array([1.0, 1.0]),
        x=np.array([3.0, 0.5]),
    )


def jennrich_sampson():
    k = np.arange(1, 11)

    def F(w):
        with np.errstate(over="ignore"):
            return 2 + 2 * k - (np.exp(k * w[0]) + np.exp(k * w[1]))

    return Problem(
        "Jennrich-Sampson (6)",
        F,
        lambda w: -k[:, None] * np.exp(np.outer(k, w)),
        np.array([0.3, 0.4]),
        cost=124.36218 / 2,
        x=np.full(2, 0.2578252),
        x_rtol=1e-3,
    )


def helical_valley():
    def angle(a, b):
        return np.arctan(b / a) / (2 * np.pi) + 0.5 * (a < 0)

    def F(w):
        a, b, c = w
        return np.array([10 * (c - 10 * angle(a, b)), 10 * (np.hypot(a, b) - 1), c])

    def jac(w):
        a, b, _ = w
        q, s = a * a + b * b, np.hypot(a, b)
        t = 50 / np.pi / q
        return np.array([[t * b, -t * a, 10], [10 * a / s, 10 * b / s, 0], [0, 0, 1]])

    return Problem("helical valley (7)", F, jac, np.array([-1.0, 0.0, 0.0]), x=np.array([1.0, 0, 0]))


def bard():
    y = np.array([14, 18, 22, 25, 29, 32, 35, 39, 37, 58, 73, 96, 134, 210, 439]) / 100
    u = np.arange(1.0, 16)
    v = 16 - u
    z = np.minimum(u, v)

    def F(w):
        return y - (w[0] + u / (v * w[1] + z * w[2]))

    def jac(w):
        d = u / (v * w[1] + z * w[2]) ** 2
        return np.stack([-np.ones(15), v * d, z * d], axis=1)

    return Problem("Bard (8)", F, jac, np.ones(3), cost=8.2148773e-3 / 2, x=np.array([0.08241056, 1.133036, 2.343695]))


def powell_singular():
    def F(w):
        a, b, c, d = w
        return np.array([a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2])

    def jac(w):
        a, b, c, d = w
        s, t = 2 * (b - 2 * c), 2 * np.sqrt(10) * (a - d)
        return np.array([[1, 10, 0, 0], [0, 0, np.sqrt(5), -np.sqrt(5)], [0, s, -2 * s, 0], [t, 0, 0, -t]])

    return Problem("Powell singular (13)", F, jac, np.array([3.0, -1, 0, 1]))


def kowalik_osborne():
    y = np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])
    u = 1 / np.array([0.25, 0.5, 1, 2, 4, 6, 8, 10, 12, 14, 16])

    def F(w):
        return y - w[0] * (u * u + u * w[1]) / (u * u + u * w[2] + w[3])

    def jac(w):
        top, low = u * u + u * w[1], u * u + u * w[2] + w[3]
        return np.stack([-top / low, -w[0] * u / low, w[0] * top * u / low**2, w[0] * top / low**2], axis=1)

    return Problem(
        "Kowalik-Osborne (15)",
        F,
        jac,
        np.array([0.25, 0.39, 0.415, 0.39]),
        cost=3.0748599e-4 / 2,
        x=np.array([0.1928, 0.1913, 0.1231, 0.1361]),
        x_rtol=5e-3,
    )


def broyden_tridiagonal(n=200):
    def F(w):
        f = (3 - 2 * w) * w + 1
        f[1:] -= w[:-1]
        f[:-1] -= 2 * w[1:]
        return f

    def jac(w):
        return sparse.diags([-np.ones(n - 1), 3 - 4 * w, -2 * np.ones(n - 1)], [-1, 0, 1], format="csr")

    return Problem(f"Broyden tridiagonal (30), n = {n}, sparse", F, jac, -np.ones(n))


def chandrasekhar(n=80, c=0.9):
    """H-equation by the midpoint rule (Kelley, "Iterative methods", 1995, section 5.6)."""
    t = (np.arange(n) + 0.5) / n
    A = c / (2 * n) * t[:, None] / (t[:, None] + t)

    def F(h):
        return h - 1 / (1 - A @ h)

    def jac(h):
        return np.eye(n) - A / (1 - A @ h)[:, None] ** 2

    return Problem("Chandrasekhar H", F, jac, np.ones(n))


def planar_arm(joints=7):
    """Two equations for seven joint angles: the hand of an arm with unit links at (2, 3)."""

    def F(w):
        t = np.cumsum(w)
        return np.array([np.cos(t).sum() - 2, np.sin(t).sum() - 3])

    def jac(w):
        t = np.cumsum(w)
        return np.stack([-np.cumsum(np.sin(t)[::-1])[::-1], np.cumsum(np.cos(t)[::-1])[::-1]])

    return Problem("planar arm", F, jac, np.full(joints, 0.1))


def exponential_fit():
    """Two decays seen through fixed noise: a residual stays."""
    t = np.linspace(0, 4, 40)
    y = 3 * np.exp(-0.5 * t) + 2 * np.exp(-2 * t) + 0.05 * np.sin(37 * t**2)

    def F(w):
        return w[0] * np.exp(-w[1] * t) + w[2] * np.exp(-w[3] * t) - y

    def jac(w):
        e, f = np.exp(-w[1] * t), np.exp(-w[3] * t)
        return np.stack([e, -w[0] * t * e, f, -w[2] * t * f], axis=1)

    return Problem("two decays with a residual", F, jac, np.array([1.0, 0.3, 1.0, 3.0]), cost=0.020443217283)


SOLVABLE = [
    rosenbrock(),
    freudenstein_roth(),
    beale(),
    helical_valley(),
    powell_singular(),
    broyden_tridiagonal(),
    chandrasekhar(),
    planar_arm(),
    tanh_system(20, 20),
    tanh_system(20, 200),
    tanh_system(1, 5),
]
WITH_RESIDUAL = [jennrich_sampson(), bard(), kowalik_osborne(), exponential_fit()]
