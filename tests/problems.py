"""Problems with known answers, and the forms in which a Jacobian may come."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from plsolve import solve, testing
from plsolve.testing import more_garbow_hillstrom


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

CLASSICS = {p.name: p for p in more_garbow_hillstrom.problems()}


def classic(name, w0=None, x=None, x_rtol=1e-6):
    """A problem of More, Garbow and Hillstrom, ending at its least minimum."""
    p = CLASSICS[name]

    def F(w):
        with np.errstate(over="ignore"):
            return p.F(w)

    w0, x = p.start if w0 is None else np.array(w0), None if x is None else np.array(x)
    return Problem(name, F, p.jac, w0, p.minima[0] / 2, x, x_rtol)


def of(system, name):
    """One of plsolve.testing, with y in F."""
    return Problem(name, lambda w: system.F(w) - system.y, system.jac, system.w0)


def tanh_system(n, m):
    return of(testing.tanh_system(n, m), f"tanh {n}x{m}")


def rosenbrock():
    return classic("Rosenbrock", x=np.ones(2))


def freudenstein_roth():
    return classic("Freudenstein and Roth", w0=[6.0, 3.0], x=[5.0, 4.0])  # from the standard start a residual stays


def helical_valley():
    return classic("helical valley", x=[1.0, 0.0, 0.0])


def powell_singular():
    return of(testing.powell_singular(), "Powell singular")


def kowalik_osborne():
    return classic("Kowalik and Osborne", x=[0.1928, 0.1913, 0.1231, 0.1361], x_rtol=5e-3)


def bard():
    return classic("Bard", x=[0.08241056, 1.133036, 2.343695])


def beale():
    return classic("Beale", x=[3.0, 0.5])


def planar_arm():
    """Two equations for seven joint angles: the hand of an arm with unit links at (2, 3)."""
    return of(replace(testing.planar_arm(), y=np.array([2.0, 3.0])), "planar arm")


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
    of(testing.broyden_tridiagonal(200), "Broyden tridiagonal, n = 200, sparse"),
    of(testing.chandrasekhar(80), "Chandrasekhar H"),
    planar_arm(),
    tanh_system(20, 20),
    tanh_system(20, 200),
    tanh_system(1, 5),
]
WITH_RESIDUAL = [
    classic("Jennrich and Sampson", x=np.full(2, 0.2578252), x_rtol=1e-3),
    bard(),
    kowalik_osborne(),
    exponential_fit(),
]

#: Systems of plsolve.testing with every constant that a certificate needs.
CERTIFIABLE = [
    testing.prescribed_spectrum(10, 30, 1e4, 0.3),
    testing.prescribed_spectrum(10, 10, 1e2, 0.3),
    testing.quadratic(5, 12),
    testing.tanh_system(8, 20),
    testing.planar_arm(),
    testing.first_layer_tanh(np.random.default_rng(0).standard_normal((6, 4)), np.linspace(-0.1, 0.1, 6), 50),
    testing.broyden_tridiagonal(40),
]


def near_solution(p, distance=1e-3, seed=0):
    """A point at about that distance from a solution of p."""
    x = solve(p.F, p.jac, p.w0, p.y, tol=0.0, method="gauss-newton").x
    v = np.random.default_rng(seed).standard_normal(p.m)
    return x + distance * v / np.linalg.norm(v)
