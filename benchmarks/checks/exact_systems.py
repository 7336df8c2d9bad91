"""Polynomial systems of which it is decided exactly, in integers, whether a solution lies within R of w.

Numbers are integers in units of a power of 2. F and J are computed exactly and then rounded: correctly, or as badly as
the model of rounding allows (theory 3.3), in directions chosen to hurt.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

DIGITS = 60  # roots are multiples of 2^-60
C = 16  # coefficients of 2^-16
MODEL = 50  # errors of up to 2^-50 = 8u of the terms


def integers(values: Any) -> Any:
    """An array of Python's integers."""
    return np.array([int(v) for v in np.ravel(values)], dtype=object).reshape(np.shape(values))


def in_units(w: Any, power: int) -> Any:
    """w in units of 2^-power."""
    ratios = [float(x).as_integer_ratio() for x in w]
    return np.array([n * (1 << power) // d for n, d in ratios], dtype=object)


def units_of(w: Any) -> int:
    """The power with which all entries of w are integers in units of 2^-power."""
    return max(DIGITS, *(float(x).as_integer_ratio()[1].bit_length() - 1 for x in w))


def quotient(value: int, power: int) -> float:
    """The float nearest to value in units of 2^-power, infinite where it is out of range."""
    try:
        return value / (1 << power)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def inverse(G: Any) -> Any:
    """The inverse of a small symmetric matrix of integers, as fractions (Gauss-Jordan)."""
    n = len(G)
    if not (G - np.diag(np.diagonal(G))).any():
        return np.array([[Fraction(int(i == j), int(G[i, i])) for j in range(n)] for i in range(n)]).reshape(n, n)
    rows = [[Fraction(int(G[i, j])) for j in range(n)] + [Fraction(int(i == j)) for j in range(n)] for i in range(n)]
    for i in range(n):
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k in range(n):
            if k != i:
                rows[k] = [a - rows[k][i] * b for a, b in zip(rows[k], rows[i], strict=True)]
    return np.array([row[n:] for row in rows], dtype=object).reshape(n, n)


@dataclass
class Rounding:
    """How exact numbers become floats: correctly, or off by the model's 8u of their terms times signs in [-1, 1].

    signs (n,) for F; signs of J (n, m); None: correctly.
    """

    F: Any = None
    J: Any = None

    @staticmethod
    def rounded(value: int, terms: int, power: int, sign: float) -> float:
        """The float for value in units of 2^-power, off by at most 2^-50 of the terms."""
        allowed = terms >> MODEL
        x = quotient(value + int(sign * (1 << 20)) * (allowed >> 20), power)
        if math.isinf(x):
            return x
        numerator, denominator = x.as_integer_ratio()
        if sign != 0.0 and abs((numerator << power) - value * denominator) > allowed * denominator:
            x = math.nextafter(x, math.inf if sign < 0.0 else -math.inf)
        return x


@dataclass
class System:
    """F(w) = y of which w is scaled by 2^shift and equation k by 2^scale_k; `exact` knows it without these."""

    n: int
    m: int
    y: Any  # without scale
    scale: Any = None  # (n,) powers of 2
    shift: int = 0
    rounding: Rounding = field(default_factory=Rounding)
    middle: Any = None  # a solution, or where one would be, as floats

    def exact(self, W: Any, E: int) -> tuple[Any, int, Any, int]:
        """F - y and J at W in units of 2^-E, and the powers of 2 of their units."""
        raise NotImplementedError

    def solution_within(self, w: Any, R: float) -> bool:
        """Whether a solution lies within R of w."""
        v = np.ldexp(w, -self.shift)
        E = units_of(v)
        return self.near(in_units(v, E), E, (Fraction(R) * Fraction(2) ** (E - self.shift)) ** 2)

    def near(self, W: Any, E: int, R2: Fraction) -> bool:
        """Whether a solution lies within R of W, all in units of 2^-E."""
        raise NotImplementedError

    def curvature(self) -> tuple[float, Any]:
        """Lipschitz constants of J, as one number and for each equation, without scale and shift."""
        raise NotImplementedError

    @property
    def powers(self) -> Any:
        return np.zeros(self.n, int) if self.scale is None else self.scale

    @property
    def beta_rows(self) -> Any:
        return np.ldexp(self.curvature()[1], self.powers - 2 * self.shift) * (1 + 1e-12)

    @property
    def beta(self) -> float:
        if self.scale is not None:
            return math.hypot(*self.beta_rows) * (1 + 1e-12)
        return math.ldexp(self.curvature()[0], -2 * self.shift) * (1 + 1e-12)

    @property
    def target(self) -> Any:
        return np.ldexp(self.y, self.powers)

    def _at(self, w: Any) -> tuple[Any, int]:
        v = np.ldexp(w, -self.shift)
        E = units_of(v)
        return in_units(v, E), E

    def F(self, w: Any) -> Any:
        W, E = self._at(w)
        S, power, J, _ = self.exact(W, E)
        Y = in_units(self.y, power)
        if self.rounding.F is None:
            values = [quotient(int(a), power) for a in S + Y]
        else:
            terms = abs(S + Y) + abs(Y) + abs(J) @ abs(W)  # the units of J W are those of F
            entries = zip(S + Y, terms, self.rounding.F, strict=True)
            values = [self.rounding.rounded(int(a), int(b), power, sign) for a, b, sign in entries]
        return np.ldexp(values, self.powers)

    def jac(self, w: Any) -> Any:
        W, E = self._at(w)
        J, power = self.exact(W, E)[2:]
        if self.rounding.J is None:
            values = [quotient(int(a), power) for a in J.ravel()]
        else:
            entries = zip(J.ravel(), self.rounding.J.ravel(), strict=True)
            values = [self.rounding.rounded(int(a), abs(int(a)), power, sign) for a, sign in entries]
        return np.ldexp(np.reshape(values, J.shape), self.powers[:, None] - self.shift)


@dataclass
class Factored(System):
    """F - y = M q(A w), q_i a product of linear factors c_i (t - root), or with a gap that leaves no root.

    The solutions are those of A w = t with a root t_i of each q_i: M has full column rank, A full row rank.
    """

    A: Any = None  # (k, m) integers
    M: Any = None  # (n, k) integers
    roots: Any = None  # k lists of integers in units of 2^-60
    lead: Any = None  # (k,) in units of 2^-16
    gap: Any = None  # (k,) in units of 2^-60 of q, of the sign of lead; 0: none
    half: float = math.inf  # half the width of the box in which the Lipschitz constants hold
    center: Any = None

    def __post_init__(self) -> None:
        self._inverse = inverse(self.A @ self.A.T)
        self._degree = max(2, *map(len, self.roots))

    def exact(self, W: Any, E: int) -> tuple[Any, int, Any, int]:
        d, T = self._degree, self.A @ W
        V, dV = np.empty(len(T), dtype=object), np.empty(len(T), dtype=object)
        for i, roots in enumerate(self.roots):
            factors = [T[i] - (root << (E - DIGITS)) for root in roots]
            fill = (d - len(roots)) * E
            V[i] = self.lead[i] * math.prod(factors) << fill
            V[i] += int(self.gap[i]) << (d * E + C - DIGITS)
            products = (math.prod(factors[:k] + factors[k + 1 :]) for k in range(len(factors)))
            dV[i] = self.lead[i] * sum(products) << fill
        return self.M @ V, d * E + C, (self.M * dV) @ self.A, (d - 1) * E + C

    def near(self, W: Any, E: int, R2: Fraction) -> bool:
        T = self.A @ W
        if any(self.gap):
            return False
        choices = [[(root << (E - DIGITS)) - t for root in set(roots)] for t, roots in zip(T, self.roots, strict=True)]
        G = self._inverse
        if not (G - np.diag(np.diagonal(G))).any():  # each root may be chosen alone
            return bool(sum(G[i, i] * min(z * z for z in c) for i, c in enumerate(choices)) <= R2)
        for index in np.ndindex(*map(len, choices)):
            z = np.array([c[k] for c, k in zip(choices, index, strict=True)], dtype=object)
            if z @ G @ z <= R2:
                return True
        return False

    def bends(self) -> Any:
        """Upper bounds (k,) of |q''|, attained where q is quadratic."""
        most = []
        for i, roots in enumerate(self.roots):
            c = abs(float(self.lead[i])) * 2.0**-C
            if len(roots) == 3:
                t = float(self.A[i].astype(float) @ self.center)
                reach = self.half * float(np.abs(self.A[i].astype(float)).sum())
                most.append(c * (abs(6.0 * t - 2.0 * sum(roots) * 2.0**-DIGITS) + 6.0 * reach))
            else:
                most.append(2.0 * c * (len(roots) == 2))
        return np.array(most)

    def curvature(self) -> tuple[float, Any]:
        A, M, bends = self.A.astype(float), self.M.astype(float), self.bends()
        if any(len(roots) == 3 for roots in self.roots):
            rows = np.abs(M) @ (bends * (A * A).sum(axis=1))
            return math.hypot(*rows), rows
        bends = bends * np.sign(self.lead.astype(float))
        H = np.einsum("ki,i,ij,il->kjl", M, bends, A, A)
        rows = np.abs(np.linalg.eigvalsh(H)).max(axis=1)
        whole = math.sqrt(max(np.linalg.eigvalsh(np.einsum("ijk,ikl->jl", H, H))[-1], 0.0))
        return whole, rows + 1e-13 * np.abs(H).max(axis=(1, 2))

    @property
    def bounds(self) -> Any:
        return None if math.isinf(self.half) else (self.center - self.half, self.center + self.half)


@dataclass
class Sphere(System):
    """||w||^2 = size and L w = b: the sphere and a subspace, that meet or do not."""

    L: Any = None  # (n - 1, m) integers
    b: Any = None  # (n - 1,) in units of 2^-60
    size: int = 0  # in units of 2^-60

    def __post_init__(self) -> None:
        self._inverse = inverse(self.L @ self.L.T)

    def exact(self, W: Any, E: int) -> tuple[Any, int, Any, int]:
        sphere = W @ W - (self.size << (2 * E - DIGITS))
        plane = (self.L @ W - self.b * (1 << (E - DIGITS))) * (1 << E)
        return np.append(sphere, plane), 2 * E, np.vstack([2 * W, self.L * (1 << E)]), E

    def near(self, W: Any, E: int, R2: Fraction) -> bool:
        b, size = self.b * (1 << (E - DIGITS)), Fraction(self.size << (2 * E - DIGITS))
        LW, G = self.L @ W, self._inverse
        miss = b - LW
        across, center = miss @ G @ miss, b @ G @ b
        along = (
            Fraction(int(W @ W)) + 2 * (LW @ G @ miss) + across - center
        )  # squared, in the subspace, from its center
        circle = size - center
        left = R2 - across
        if circle < 0 or left < 0:
            return False
        excess = along + circle - left  # (sqrt(along) - sqrt(circle))^2 <= left
        return bool(excess <= 0 or excess * excess <= 4 * along * circle)

    def curvature(self) -> tuple[float, Any]:
        return 2.0, np.append(2.0, np.zeros(self.n - 1))

    bounds = None
