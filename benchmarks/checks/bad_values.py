"""Values for every kind of argument, with the verdict that each deserves."""

import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sps

M = 3
C = np.array([1.0, -2.0, 0.5])
W = np.array([0.3, -0.4, 0.2])  # the solution
A = np.array([[2.0, 0.5, 0.0], [0.3, 3.0, -0.4], [0.0, 0.2, 2.5]])
X = np.linspace(0.0, 1.0, 6)


class MemoryLostError(RuntimeError):
    """What a device raises that has no memory left."""


class WrongSizeError(Exception):
    """What the user's functions raise of a vector that is not theirs."""


class Lost:
    """An array that cannot be fetched."""

    shape, ndim = (M,), 1

    def __array__(self, *args, **kwargs):
        raise MemoryLostError


class Tensor:
    """Numbers as torch has them, that must be detached before they are an array."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)

    def detach(self):
        return self

    def numpy(self, *, force=False):
        if not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")
        return self.numbers

    def __array__(self, *args, **kwargs):
        return self.numpy()


def F(w, *args):
    if w.shape != (M,) or args:
        raise WrongSizeError
    return A @ w + 0.1 * np.sin(w)


def jac(w):
    if w.shape != (M,):
        raise WrongSizeError
    return A + np.diag(0.1 * np.cos(w))


Y = F(W)


def residual(x):
    return F(x) - Y


def model(x, a, b=None, *more):
    if b is None or more:
        raise WrongSizeError
    return a * x + b * x**2


# Each: whether it must be refused, may be taken, or raises an error of its own that must pass; and what makes it.
REFUSE, EITHER, PASS = "refuse", "either", "pass"


def refused(*values):
    return [(REFUSE, lambda rng, value=value: value) for value in values]


def taken(*values):
    return [(EITHER, lambda rng, value=value: value) for value in values]


def those(verdict, entries):
    return [entry for entry in entries if entry[0] == verdict]


def with_entry(value, entry, rng):
    """A float copy with one entry replaced."""
    array = np.array(value, dtype=float)
    array[tuple(rng.integers(0, array.shape))] = entry
    return array


def masked(value, rng):
    array = np.ma.array(value, dtype=float)
    array[tuple(rng.integers(0, array.shape))] = np.ma.masked
    return array


def numbers(good):
    """Values in the place of an array of real numbers."""
    good = np.asarray(good, dtype=float)
    return [
        *refused("abc", b"abc", ["1"] * good.size, {"a": 1.0}, {1.0, 2.0}, object(), print, good + 1j),
        *refused([None] * good.size, np.full(good.shape, None), [[1.0], [1.0, 2.0]], np.empty(0)),
        *refused(np.ones((2, 3, 2))),
        *refused(np.full(good.shape, "2020-01-01", dtype="datetime64[D]"), [10**400] * good.size),
        *refused(sps.csr_array(np.atleast_2d(good))),
        (REFUSE, lambda rng: with_entry(good, np.nan, rng)),
        (REFUSE, lambda rng: masked(good, rng)),
        (REFUSE, lambda rng: list(masked(good, rng))),
        (REFUSE, lambda rng: np.ones(good.size + int(rng.integers(2, 9)))),
        (PASS, lambda rng: Lost()),
        (EITHER, lambda rng: with_entry(good, np.inf, rng)),
        *taken(good.astype(np.float32), good.astype(np.longdouble), good.tolist(), good.astype(object), Tensor(good)),
        *taken(np.ma.array(good, mask=False), good[..., None], np.round(good).astype(np.int8)),
    ]


START = np.array([0.1, -0.2, 0.4])
STARTS = numbers(START)
NO_FUNCTION = refused(3, "sin", [], np.ones(2), {"f": 1}, 1j)


def returning(call):
    """The function, with the results that it should not have."""

    def changed(make):
        return lambda *args, **kwargs: make(call(*args, **kwargs))

    broken = (
        lambda f: None,
        lambda f: "abc",
        lambda f: f + 1j,
        lambda f: np.full(np.shape(f), None),
        lambda f: np.empty(0),
        lambda f: np.asarray(f)[..., None, None],
        lambda f: np.ma.masked_less(f, np.max(f)),
        lambda f: [[1.0], [1.0, 2.0]],
        lambda f: {"f": f},
        lambda f: np.asarray(f) * np.nan,
    )
    right = (lambda f: np.asarray(f).tolist(), Tensor, lambda f: np.asarray(f).astype(object))
    lost = [(PASS, lambda rng: changed(lambda f: Lost()))]
    return refused(*map(changed, broken)) + taken(*map(changed, right)) + lost


def functions(call):
    return NO_FUNCTION + returning(call)


HUGE = (REFUSE, lambda rng: 10 ** int(rng.integers(320, 5000)))
NEGATIVE = (REFUSE, lambda rng: -float(rng.uniform(0.1, 9.0)))
NO_NUMBER = refused("small", 1j, [1e-3], np.nan, {}, True, np.full(2, 1e-3), np.ma.masked, print)
TOLERANCE = [*NO_NUMBER, NEGATIVE, HUGE, *refused(np.inf), *taken(np.float32(1e-6), 0)]
OFF = [*NO_NUMBER, HUGE, *refused(np.inf), *taken(-1.0, None, np.float32(1e-6))]  # scipy's, that may be switched off
SECONDS = [*NO_NUMBER, NEGATIVE, *taken(np.inf, 10**400, None)]
NO_COUNT = [*NO_NUMBER, (REFUSE, lambda rng: -int(rng.integers(1, 9))), *refused(1.5, -(10**400))]
COUNT = [*NO_COUNT, *taken(10**400, np.int16(50))]
LIMIT = [*NO_COUNT, *taken(10**400, 50.0, None)]  # scipy's, also as 1e4
NO_FLAG = refused("abc", "", 2, -1, [], [True], 1.5, {}, np.ones(2), print, np.nan)
FLAG = [*NO_FLAG, *taken(np.bool_(True))]
CHOICE = refused("abc", "", 3, b"gd", ["gd"], {}, np.array(["gd", "sgd"]), 1.5, True)
MAPPING = refused(3, "abc", ["a"], [("a", 1)], 1.5, np.ones(2), {3: 1}, print)
SEED = [
    *refused("abc", "123", b"1", -1, 1.5, True, [1.5], ["a"], {}, np.nan, print),
    *taken([1, 2], np.random.SeedSequence(3), np.uint8(3)),
]
CALLBACK = [*refused(3, "print", [], {}, np.ones(2)), *taken(max, np.sum, str, lambda w: None)]
SCALE = [
    *refused("rows", 0.0, -1.0, np.nan, np.inf, 1j, {}, [1.0, -1.0, 1.0], [None] * M, np.ones((M, 1))),
    (REFUSE, lambda rng: rng.uniform(1.0, 2.0, int(rng.integers(4, 9)))),
    (REFUSE, lambda rng: masked(np.ones(M), rng)),
    (EITHER, lambda rng: rng.uniform(1.0, 2.0, M)),
    *taken(Tensor(np.ones(M)), "jac"),
]
BETA = [*refused("abc", -1.0, np.nan, np.inf, 1j, {}, [None] * M, np.ones(7), np.ones((M, 1))), *taken([0.1] * M)]
DEVIATIONS = [
    *refused("abc", 0.0, -1.0, np.nan, np.inf, 1j, {}, print, [None] * M, np.ones(7), np.ones((M, 2)), -np.eye(M)),
    *refused(np.zeros(M), np.triu(np.ones((M, M))), np.full((M, M), np.nan), 10**400),
    (REFUSE, lambda rng: masked(np.ones(M), rng)),
    *taken(np.ones(M), [0.5] * M, np.float32(0.5), np.diag([1.0, 2.0, 3.0])),
]
NO_BOUNDS = [
    *refused(3, "01", (0, 1, 2), (2, -2), (np.nan, 5), (1j, 5), ("a", "b"), {}, print, (-5.0,), (None, None), 1j),
    (REFUSE, lambda rng: (masked(np.full(2, -5.0), rng), 5.0)),
    (REFUSE, lambda rng: (-5.0, masked(np.full(2, 5.0), rng))),
    *refused(([[1.0], [1.0, 2.0]], 5.0)),
    (PASS, lambda rng: (Lost(), 5.0)),
]
BOUNDS = [
    *NO_BOUNDS,
    *refused(([-5.0], [5.0] * 4), (5, 6), (-6, -5), (np.full((M, 1), -5.0), 5.0)),
    *taken((-(10**400), 10**400), [-5, 5], np.array([-5.0, 5.0]), (-np.inf, 5.0)),
]
STRUCTURE = [
    *refused("abc", 1j, {}, print, [[1.0], [1.0, 2.0]], np.ones((2, 3, 2))),
    (REFUSE, lambda rng: np.ones((M, int(rng.integers(4, 9))))),
    (REFUSE, lambda rng: masked(np.ones((M, M)), rng)),
    *taken(np.ones((M, M)), sps.csc_matrix(np.ones((M, M)))),
]
JACOBIAN = [
    *refused(3, "4-point", A, {}, 1.5),
    (REFUSE, lambda rng: lambda *args: np.ones((M, M + int(rng.integers(1, 4))))),
    (REFUSE, lambda rng: lambda *args: np.ones((M + int(rng.integers(1, 4)), M + 1))),
    *refused(lambda *args: sps.csr_array(jac(W) * 1j)),
    *taken(lambda w, *args: sps.csr_array(jac(w))),
    *returning(jac),
]
WORKERS = [*refused(0, -2, 2.5, "2", True, 10**9, [2], {}, np.nan, 10**400), *taken(map, 1)]
SIGMA = [
    *refused("abc", 1j, 0.0, np.nan, {}, [None] * X.size, -np.eye(X.size), np.eye(X.size) + np.eye(X.size, k=1) / 9),
    (REFUSE, lambda rng: masked(np.ones(X.size), rng)),
    (REFUSE, lambda rng: np.ones(int(rng.integers(7, 12)))),
    (REFUSE, lambda rng: with_entry(np.ones(X.size), np.nan, rng)),
    *taken(Tensor(np.ones(X.size))),
]
WIDTHS = [
    *refused(2.5, "12", b"1", None, {}, [], (), 0, -3, [4, 0], [2.5, 1], True, [4, "3"], 1j, np.nan, [[4]], print),
    *refused(np.ones(2), 10**400),
    *taken(np.array([4, 3]), 5, range(3, 5)),
]
FOLDER = tempfile.TemporaryDirectory()
PLACE = [
    *refused(3, 1.5, True, b"run.npz", "", [], {}, print, np.ones(2), np.nan, "a\0b", FOLDER.name),
    *refused("no such folder/run.npz", Path("no such folder", "run.npz")),
    *taken(str(Path(FOLDER.name, "run.npz")), Path(FOLDER.name, "another.npz"), None),
]
