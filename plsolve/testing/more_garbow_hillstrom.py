"""The least-squares problems of More, Garbow, Hillstrom (ACM TOMS 7, 1981), by their published formulas.

Each has its standard start; ten and a hundred times that are the far starts. F accepts complex arguments, so that the
Jacobian is computed by complex steps, exact to rounding.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plsolve._checks import as_vector
from plsolve.testing._arguments import check_within

__all__ = ["Classic", "problems"]

Vector = npt.NDArray[np.float64]

_BARD = "0.14 0.18 0.22 0.25 0.29 0.32 0.35 0.39 0.37 0.58 0.73 0.96 1.34 2.1 4.39"
_KOWALIK_U = "4 2 1 0.5 0.25 0.167 0.125 0.1 0.0833 0.0714 0.0625"
_KOWALIK = "0.1957 0.1947 0.1735 0.16 0.0844 0.0627 0.0456 0.0342 0.0323 0.0235 0.0246"
_MEYER = "34780 28610 23650 19630 16370 13720 11540 9744 8261 7030 6005 5147 4427 3820 3307 2872"
_GAUSS = "0.0009 0.0044 0.0175 0.054 0.1295 0.242 0.3521 0.3989 0.3521 0.242 0.1295 0.054 0.0175 0.0044 0.0009"
_OSBORNE1 = (
    "0.844 0.908 0.932 0.936 0.925 0.908 0.881 0.85 0.818 0.784 0.751 0.718 0.685 0.658 0.628 0.603 0.58 0.558 0.538 "
    "0.522 0.506 0.49 0.478 0.467 0.457 0.448 0.438 0.431 0.424 0.42 0.414 0.411 0.406"
)
_OSBORNE2 = (
    "1.366 1.191 1.112 1.013 0.991 0.885 0.831 0.847 0.786 0.725 0.746 0.679 0.608 0.655 0.616 0.606 0.602 0.626 0.651 "
    "0.724 0.649 0.649 0.694 0.644 0.624 0.661 0.612 0.558 0.533 0.495 0.5 0.423 0.395 0.375 0.372 0.391 0.396 0.405 "
    "0.428 0.429 0.523 0.562 0.607 0.653 0.672 0.708 0.633 0.668 0.645 0.632 0.591 0.559 0.597 0.625 0.739 0.71 0.729 "
    "0.72 0.636 0.581 0.428 0.292 0.162 0.098 0.054"
)


def _numbers(text: str) -> Vector:
    return np.array(text.split(), dtype=float)


@dataclass(frozen=True, eq=False, kw_only=True)
class Classic:
    """A problem of least squares.

    Attributes
    ----------
    name : str
        As in the source.
    F : callable
        w (m,) -> (n,), real or complex.
    start : ndarray (m,)
        The standard start.
    minima : tuple of float
        ||F||^2 at the minima that the source lists, the least first.
    """

    name: str
    F: Callable[[Any], Any]
    start: Vector
    minima: tuple[float, ...]

    def jac(self, w: Vector) -> Vector:
        """The Jacobian, by complex steps.

        Parameters
        ----------
        w : ndarray (m,)
            The point.

        Returns
        -------
        ndarray (n, m)
            J(w), exact to rounding.
        """
        w = as_vector(w, "w", self.start.size)
        points = np.diag(np.full(w.size, 1e-30j)) + w
        return np.array([np.imag(self.F(z)) / 1e-30 for z in points]).T

    def scaled(self, factor: float) -> Vector:
        """A far start.

        Parameters
        ----------
        factor : float
            The multiple of the standard start; 10 and 100 are usual.

        Returns
        -------
        ndarray (m,)
            The standard start times ``factor``; if the standard start is zero, ``factor`` in every unknown.
        """
        check_within(-math.inf, math.inf, factor=factor)
        return factor * (self.start if self.start.any() or factor == 1.0 else np.ones(self.start.size))


# -- formulas of several lines ----------------------------------------------------------------------------------------


def _helical(w: Any) -> Any:
    angle = np.arctan(w[1] / w[0]) / (2 * np.pi) + (0.5 if np.real(w[0]) < 0.0 else 0.0)
    return np.array([10 * (w[2] - 10 * angle), 10 * (np.sqrt(w[0] ** 2 + w[1] ** 2) - 1), w[2]])


def _jennrich(w: Any) -> Any:
    i = np.arange(1, 11)
    return 2 + 2 * i - np.exp(i * w[0]) - np.exp(i * w[1])


def _gulf(w: Any) -> Any:
    t = np.arange(1, 100) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return np.exp(-(((y - w[1]) ** 2) ** (w[2] / 2)) / w[0]) - t


def _wood(w: Any) -> Any:
    a, b, c, d = w
    pairs = [10 * (b - a**2), 1 - a, np.sqrt(90) * (d - c**2), 1 - c]
    return np.array([*pairs, np.sqrt(10) * (b + d - 2), (b - d) / np.sqrt(10)])


def _biggs(w: Any) -> Any:
    t = np.arange(1, 14) / 10
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return w[2] * np.exp(-t * w[0]) - w[3] * np.exp(-t * w[1]) + w[5] * np.exp(-t * w[4]) - y


def _osborne2(w: Any) -> Any:
    t = np.arange(65) / 10
    model = w[0] * np.exp(-t * w[4])
    for k in range(1, 4):
        model = model + w[k] * np.exp(-((t - w[7 + k]) ** 2) * w[4 + k])
    return _numbers(_OSBORNE2) - model


def _watson(w: Any) -> Any:
    t, j = np.arange(1, 30)[:, None] / 29, np.arange(w.size)
    slope = (j[1:] * t ** (j[1:] - 1)) @ w[1:]
    return np.concatenate([slope - (t**j @ w) ** 2 - 1, [w[0], w[1] - w[0] ** 2 - 1]])


def powell_singular(w: Any) -> Any:
    a, b, c, d = w.reshape(-1, 4).T
    parts = [a + 10 * b, np.sqrt(5) * (c - d), (b - 2 * c) ** 2, np.sqrt(10) * (a - d) ** 2]
    return np.array(parts).T.ravel()


def _penalty2(w: Any) -> Any:
    i, root = np.arange(1, w.size), np.sqrt(1e-5)
    e = np.exp(w / 10)
    y = np.exp((i + 1) / 10) + np.exp(i / 10)
    tail = np.sum(np.arange(w.size, 0, -1) * w**2) - 1
    return np.concatenate([[w[0] - 0.2], root * (e[1:] + e[:-1] - y), root * (e[1:] - np.exp(-0.1)), [tail]])


def _variably_dimensioned(w: Any) -> Any:
    total = np.sum(np.arange(1, w.size + 1) * (w - 1))
    return np.concatenate([w - 1, [total, total**2]])


def _trigonometric(w: Any) -> Any:
    i = np.arange(1, w.size + 1)
    return w.size - np.sum(np.cos(w)) + i * (1 - np.cos(w)) - np.sin(w)


def _almost_linear(w: Any) -> Any:
    return np.concatenate([w[:-1] + np.sum(w) - (w.size + 1), [np.prod(w) - 1]])


def _padded(w: Any) -> Any:
    return np.concatenate([[0.0], w, [0.0]])


def _boundary_value(w: Any) -> Any:
    h = 1 / (w.size + 1)
    t, u = h * np.arange(1, w.size + 1), _padded(w)
    return 2 * w - u[:-2] - u[2:] + h**2 * (w + t + 1) ** 3 / 2


def _integral(w: Any) -> Any:
    h = 1 / (w.size + 1)
    t = h * np.arange(1, w.size + 1)
    cube = (w + t + 1) ** 3
    below, above = np.cumsum(t * cube), np.sum((1 - t) * cube) - np.cumsum((1 - t) * cube)
    return w + h / 2 * ((1 - t) * below + t * above)


def broyden_tridiagonal(w: Any) -> Any:
    f = (3 - 2 * w) * w + 1
    f[1:] -= w[:-1]
    f[:-1] -= 2 * w[1:]
    return f


def _banded(w: Any) -> Any:
    f = w * (2 + 5 * w**2) + 1
    for i in range(w.size):
        for j in range(max(0, i - 5), min(w.size, i + 2)):
            if j != i:
                f[i] = f[i] - w[j] * (1 + w[j])
    return f


def _linear(n: int) -> Callable[[Any], Any]:
    return lambda w: np.concatenate([w, np.zeros(n - w.size)]) - 2 / n * np.sum(w) - 1


def _rank_one(n: int) -> Callable[[Any], Any]:
    return lambda w: np.arange(1, n + 1) * np.sum(np.arange(1, w.size + 1) * w) - 1


def _rank_one_zero(n: int) -> Callable[[Any], Any]:
    def F(w: Any) -> Any:
        f = np.arange(n) * np.sum(np.arange(2, w.size) * w[1:-1]) - 1
        f[[0, n - 1]] = -1
        return f

    return F


def _chebyquad(w: Any) -> Any:
    m = w.size
    before, now, f = np.ones(m), 2 * w - 1, []
    for k in range(1, m + 1):
        f.append(np.mean(now) - (-1 / (k * k - 1) if k % 2 == 0 else 0.0))
        before, now = now, 2 * (2 * w - 1) * now - before
    return np.array(f)


# -- the list ---------------------------------------------------------------------------------------------------------


_T10, _T16, _T20, _T33 = np.arange(1, 11) / 10, 45 + 5.0 * np.arange(1, 17), np.arange(1, 21) / 5, 10.0 * np.arange(33)
_I15, _T15 = np.arange(1, 16), (8 - np.arange(1, 16)) / 2
_U, _GRID = _numbers(_KOWALIK_U), np.arange(1, 11) / 11

_LISTED: list[tuple[str, Callable[[Any], Any], Any, tuple[float, ...]]] = [
    ("Rosenbrock", lambda w: np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]]), [-1.2, 1], (0.0,)),
    (
        "Freudenstein and Roth",
        lambda w: np.array([-13 + w[0] + ((5 - w[1]) * w[1] - 2) * w[1], -29 + w[0] + ((w[1] + 1) * w[1] - 14) * w[1]]),
        [0.5, -2],
        (0.0, 48.98425368),
    ),
    (
        "Powell badly scaled",
        lambda w: np.array([1e4 * w[0] * w[1] - 1, np.exp(-w[0]) + np.exp(-w[1]) - 1.0001]),
        [0, 1],
        (0.0,),
    ),
    ("Brown badly scaled", lambda w: np.array([w[0] - 1e6, w[1] - 2e-6, w[0] * w[1] - 2]), [1, 1], (0.0,)),
    (
        "Beale",
        lambda w: np.array([1.5, 2.25, 2.625]) - w[0] * (1 - np.array([w[1], w[1] ** 2, w[1] ** 3])),
        [1, 1],
        (0.0,),
    ),
    ("Jennrich and Sampson", _jennrich, [0.3, 0.4], (124.3621824,)),
    ("helical valley", _helical, [-1, 0, 0], (0.0,)),
    (
        "Bard",
        lambda w: _numbers(_BARD) - w[0] - _I15 / ((16 - _I15) * w[1] + np.minimum(_I15, 16 - _I15) * w[2]),
        [1, 1, 1],
        (8.214877307e-3, 17.42869333),
    ),
    (
        "Gaussian",
        lambda w: w[0] * np.exp(-w[1] * (_T15 - w[2]) ** 2 / 2) - _numbers(_GAUSS),
        [0.4, 1, 0],
        (1.12793277e-8,),
    ),
    ("Meyer", lambda w: w[0] * np.exp(w[1] / (_T16 + w[2])) - _numbers(_MEYER), [0.02, 4000, 250], (87.94585517,)),
    ("Gulf", _gulf, [5, 2.5, 0.15], (0.0,)),
    (
        "Box",
        lambda w: np.exp(-_T10 * w[0]) - np.exp(-_T10 * w[1]) - w[2] * (np.exp(-_T10) - np.exp(-10 * _T10)),
        [0, 10, 20],
        (0.0,),
    ),
    ("Powell singular", powell_singular, [3, -1, 0, 1], (0.0,)),
    ("Wood", _wood, [-3, -1, -3, -1], (0.0,)),
    (
        "Kowalik and Osborne",
        lambda w: _numbers(_KOWALIK) - w[0] * (_U**2 + _U * w[1]) / (_U**2 + _U * w[2] + w[3]),
        [0.25, 0.39, 0.415, 0.39],
        (3.075056039e-4, 1.02734e-3),
    ),
    (
        "Brown and Dennis",
        lambda w: (w[0] + _T20 * w[1] - np.exp(_T20)) ** 2 + (w[2] + w[3] * np.sin(_T20) - np.cos(_T20)) ** 2,
        [25, 5, -5, -1],
        (85822.20163,),
    ),
    (
        "Osborne 1",
        lambda w: _numbers(_OSBORNE1) - (w[0] + w[1] * np.exp(-_T33 * w[3]) + w[2] * np.exp(-_T33 * w[4])),
        [0.5, 1.5, -1, 0.01, 0.02],
        (5.464894697e-5,),
    ),
    ("Biggs EXP6", _biggs, [1, 2, 1, 1, 1, 1], (0.0, 5.65565e-3)),
    ("Osborne 2", _osborne2, [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5], (4.013773629e-2,)),
    ("Watson 6", _watson, np.zeros(6), (2.287670054e-3,)),
    ("Watson 9", _watson, np.zeros(9), (1.399760138e-6,)),
    ("Watson 12", _watson, np.zeros(12), (4.722381079e-10,)),
    (
        "extended Rosenbrock",
        lambda w: np.array([10 * (w[1::2] - w[::2] ** 2), 1 - w[::2]]).T.ravel(),
        np.tile([-1.2, 1], 5),
        (0.0,),
    ),
    ("extended Powell singular", powell_singular, np.tile([3, -1, 0, 1], 3), (0.0,)),
    (
        "penalty I",
        lambda w: np.concatenate([np.sqrt(1e-5) * (w - 1), [np.sum(w**2) - 0.25]]),
        np.arange(1, 11),
        (7.087651467e-5,),
    ),
    ("penalty II", _penalty2, np.full(10, 0.5), (2.936605374e-4,)),
    ("variably dimensioned", _variably_dimensioned, 1 - np.arange(1, 11) / 10, (0.0,)),
    ("trigonometric", _trigonometric, np.full(10, 0.1), (0.0, 2.795056e-5)),
    ("Brown almost linear 10", _almost_linear, np.full(10, 0.5), (0.0, 1.0)),
    ("Brown almost linear 40", _almost_linear, np.full(40, 0.5), (0.0, 1.0)),
    ("boundary value", _boundary_value, _GRID * (_GRID - 1), (0.0,)),
    ("integral equation", _integral, _GRID * (_GRID - 1), (0.0,)),
    (
        "Broyden tridiagonal",
        broyden_tridiagonal,
        -np.ones(10),
        (0.0,),
    ),
    ("Broyden banded", _banded, -np.ones(10), (0.0,)),
    ("linear, full rank", _linear(10), np.ones(5), (5.0,)),
    ("linear, rank one", _rank_one(10), np.ones(5), (90 / 42,)),
    ("linear, rank one, zeros", _rank_one_zero(10), np.ones(5), (124 / 34,)),
    ("Chebyquad 8", _chebyquad, np.arange(1, 9) / 9, (3.516873726e-3,)),
    ("Chebyquad 9", _chebyquad, np.arange(1, 10) / 10, (0.0,)),
    ("Chebyquad 10", _chebyquad, _GRID, (4.772713e-3, 6.503954e-3)),
]


def problems() -> list[Classic]:
    """The problems, in the order of the source.

    Returns
    -------
    list of Classic
        Forty of them.
    """
    return [Classic(name=name, F=F, start=np.array(s, dtype=float), minima=low) for name, F, s, low in _LISTED]
