"""Bad arguments of what results, networks, operators and the systems of `plsolve.testing` offer."""

from functools import cache
from importlib.util import find_spec

import numpy as np
import scipy.sparse as sps

from benchmarks.checks.bad_values import (
    CHOICE,
    DEVIATIONS,
    NO_COUNT,
    NO_NUMBER,
    REFUSE,
    SEED,
    A,
    F,
    M,
    W,
    X,
    Y,
    jac,
    masked,
    numbers,
    refused,
    taken,
    those,
    with_entry,
)

INDEX = [
    *refused(
        "abc", 1.5, [0.5], None, {}, print, 1j, [[0, 1]], M, -M - 1, [0, M], [True], [None], object(), [[0], [0, 1]]
    ),
    *refused(np.array([0, 10**6]), (0, 1.0), slice("a", None), np.ma.array([0, 1], mask=[0, 1])),
    *taken(0, -1, [0, 2], np.array([1]), slice(None), slice(0, 2), (0, 1), np.int8(2), [], [True, False, True]),
]
COUNTED = [*NO_COUNT, *refused(0)]
AXES = refused(3, "abc", [], {}, np.ones(2), print, object())
ROWS = [
    *refused("abc", 1.5, [0.5], {}, print, 1j, [[0, 1]], [-1], [10**6], [None], [True], 0, [[0], [0, 1]]),
    *taken([0, 1], np.array([2], np.int16), []),
]
NAMES = [*refused(3, "abc", ["a"], {}, 1.5, print, ["a"] * (M + 1)), *taken(["a", "b", "c"], ("x", 1, None))]
MATRICES = [
    *refused("abc", 1j, {}, print, [None] * M, np.ones((2, M + 1)), np.ones((2, 2, M)), A * 1j, sps.csr_array(A * 1j)),
    *refused([[1.0], [1.0, 2.0]], np.full((2, M), None)),
    (REFUSE, lambda rng: with_entry(A, np.nan, rng)),
    (REFUSE, lambda rng: sps.csr_array(with_entry(A, np.inf, rng))),
    (REFUSE, lambda rng: masked(A, rng)),
    *taken(np.ones(M), [1.0, 2.0, 3.0], sps.csr_array(A), A.astype(np.float32)),
]
CHANGES = [*those(REFUSE, numbers(Y)), *refused(np.ones(M + 1), 3.0), *taken(np.ones((M, 2)), Y.tolist())]
WEIGHTS = [
    *those(REFUSE, numbers(np.ones(M))),
    *refused(-np.ones(M), 3.0, np.full(M, np.inf)),
    *taken(np.zeros(M), [1, 2, 3]),
]
FACTOR = [*NO_NUMBER, *refused(np.inf), *taken(0.5, 3)]


def without_nan(entries):
    """The entries without NaN, of which a function of numbers may make NaN."""
    values = [(entry, entry[1](np.random.default_rng(0))) for entry in entries]
    return [e for e, v in values if not (isinstance(v, np.ndarray) and v.dtype == float and np.isnan(v).any())]


def finite(value, given):
    """Whether all numbers of a result are finite."""
    return bool(np.isfinite(np.asarray(value, float)).all())


def anything(value, given):
    return value is not None


@cache
def results():
    """A solution, a fit with its uncertainty, a network, and Axes to draw in."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    from plsolve import infer, solve
    from plsolve.networks import WideNetwork

    fit = infer(F, jac, np.zeros(M), Y, noise=0.1)
    sol = solve(F, jac, np.zeros(M), Y)
    return sol, fit, fit.uncertainty(), WideNetwork(X[:, None], (4, 3)), plt.subplots()[1]


def of_results():
    sol, fit, u, _, ax = results()
    noise = {"noise": those(REFUSE, DEVIATIONS), "prior": those(REFUSE, DEVIATIONS)}
    yield sol.uncertainty, {"noise": 0.1}, noise, lambda u, given: finite(u.std(), given)
    yield sol.report, {"noise": 0.1}, noise | {"names": NAMES}, anything
    yield fit.report, {}, noise | {"names": NAMES}, anything
    for what in ("run", "spectrum", "landscape"):
        yield sol.plot, {"what": what, "ax": ax}, {"what": CHOICE, "ax": AXES}, anything
    yield fit.plot, {"what": "uncertainty", "ax": ax}, {"what": CHOICE, "ax": AXES}, anything
    yield sol.kernel.plot, {}, {"ax": AXES}, anything
    yield u.plot, {}, {"ax": AXES}, anything
    yield u.std, {}, {"index": [entry for entry in INDEX if entry[1](None) is not None]}, finite
    yield u.covariance, {"index": 0}, {"index": INDEX}, finite
    yield u.resolution, {"index": 0}, {"index": INDEX}, finite
    yield u.predict, {"J_new": A}, {"J_new": MATRICES}, finite
    yield u.sample, {"k": 2, "rng": 0}, {"k": COUNTED, "rng": SEED}, finite
    yield u.null_space, {"k": 1}, {"k": [*COUNTED, *refused(M + 1)]}, finite
    for of in (u, sol.uncertainty(0.1)):
        yield of.sensitivity, {"dF": Y}, {"dF": CHANGES}, finite


def of_networks():
    net = results()[3]
    w = net.init(0)
    weights = without_nan(those(REFUSE, numbers(w))) + taken(w.tolist(), w.astype(np.float32))
    inputs = [*those(REFUSE, numbers(X[:, None])), *refused(np.ones((2, 3)), np.ones(3)), *taken([[0.5]])]
    yield net.init, {"rng": 0}, {"rng": SEED, "first": FACTOR}, finite
    yield net.F, {"w": w}, {"w": weights, "rows": ROWS}, finite
    yield net.jac, {"w": w}, {"w": weights, "rows": ROWS}, lambda J, given: finite(J.row_squares(), given)
    yield net.predict, {"w": w, "X": X[:, None]}, {"w": weights, "X": inputs}, finite
    J = net.jac(w)
    of_weights = [*those(REFUSE, numbers(np.ones(net.m))), *refused(-np.ones(net.m), 3.0), *taken(np.ones(net.m), None)]
    yield J.gram, {}, {"d2": of_weights}, finite
    yield J.cross, {"other": J}, {"other": refused(3, "abc", None, A, print, {}, sps.csr_array(A))}, finite


def of_size(least, most=None):
    """Sizes of a system that must be at least so large."""
    return [*NO_COUNT, *refused(*range(least)), *(refused(most + 1) if most is not None else [])]


def known(system, given):
    """Whether a system of `plsolve.testing` is whole."""
    f = system.F(system.w0)
    J = system.jac(system.w0)
    return f.shape == system.y.shape and J.shape == (system.n, system.m) and np.isfinite(f).all()


def of_systems():
    from plsolve import testing

    plain = {"n": of_size(1), "m": of_size(1), "seed": SEED}
    wide = plain | {"n": [*of_size(1), *refused(7)]}
    share = [*NO_NUMBER, *refused(-0.1, 1.0, np.inf, 2.0)]
    positive = [*NO_NUMBER, *refused(0.0, -1.0, np.inf)]
    kappa = [*NO_NUMBER, *refused(0.5, -1.0, np.inf)]
    size, far = {"n": 3, "m": 6}, {"distance": positive}
    yield testing.prescribed_spectrum, size | {"kappa": 10.0}, plain | far | {"kappa": kappa, "e": share}, known
    yield testing.smooth_kernel, size, wide | {"kappa_jac": kappa, "e": share}, known
    yield testing.quadratic, size, plain | far | {"curvature": positive}, known
    yield testing.singular_start, size, plain | {"n": of_size(2)}, known
    yield testing.no_solution, size, wide | {"gap": positive}, known
    yield testing.repeated_equations, size, plain | {"n": of_size(2), "gap": FACTOR}, known
    yield testing.tanh_system, size, wide, known
    yield testing.planar_arm, {}, {"joints": of_size(1), "seed": SEED}, known
    yield testing.chandrasekhar, {"n": 5}, {"n": of_size(1), "c": [*NO_NUMBER, *refused(-0.1, 1.1, np.inf)]}, known
    yield testing.broyden_tridiagonal, {"n": 5}, {"n": of_size(1)}, known
    yield testing.powell_singular, {}, {}, known
    net = {"X": X[:, None], "y": X, "width": 4}
    data = {"X": [*those(REFUSE, numbers(X[:, None])), *refused(np.ones(3))], "y": those(REFUSE, numbers(X))}
    kinds = data | {"width": of_size(1), "seed": SEED}
    yield testing.first_layer_tanh, net, kinds, known
    yield testing.two_layer_tanh, net, kinds | {"scale": positive}, known
    kinds = {"n": of_size(2), "width": of_size(1), "seed": SEED, "scale": [*positive[:-3], *refused(0.0, -1.0, np.inf)]}
    yield testing.collocation, {"n": 5, "width": 4}, kinds, known
    classic = testing.more_garbow_hillstrom.problems()[0]
    yield testing.more_garbow_hillstrom.problems, {}, {}, anything
    yield classic.jac, {"w": np.ones(2)}, {"w": those(REFUSE, numbers(np.ones(2)))}, finite
    yield classic.scaled, {"factor": 10.0}, {"factor": FACTOR}, finite


def vectors(good):
    """The same in the place of a vector, of another size too: F raises an exception then, which is a status."""
    return [*those(REFUSE, numbers(good[:-1]))[:-1], *taken(np.ones(M + 4))]


def of_compiled():
    if find_spec("numba") is None:
        return
    from numba import njit

    from plsolve.jit import gauss_newton

    AA = A.copy()
    f, j = njit(lambda w: AA @ w + 0.1 * np.sin(w)), njit(lambda w: AA + np.diag(0.1 * np.cos(w)))
    no_function = refused(3, "sin", [], np.ones(2), {"f": 1}, 1j, F, np.sin, print)
    kinds = {"F": no_function, "jac": no_function, "w0": vectors(W), "y": vectors(Y)}
    kinds |= {"tol": [*NO_NUMBER, *refused(-1.0, np.inf)], "max_iter": NO_COUNT}

    def right(s, given):
        return not s.success or np.allclose(s.x, W, rtol=1e-4, atol=1e-4)

    yield gauss_newton, {"F": f, "jac": j, "w0": np.zeros(M), "y": Y}, kinds, right


def of_the_rest():
    for some in (of_results, of_networks, of_systems, of_compiled):
        yield from some()
