"""root: scipy's signature and fields, any number of equations."""

import numpy as np
import pytest
import scipy.optimize

from plsolve import root


def square(x):
    return np.array([x[0] + 0.5 * (x[0] - x[1]) ** 3 - 1.0, 0.5 * (x[1] - x[0]) ** 3 + x[1]])


def slope(x):
    d = 1.5 * (x[0] - x[1]) ** 2
    return np.array([[1 + d, -d], [-d, 1 + d]])


@pytest.mark.parametrize("method", ["hybr", "lm", "HYBR"])
@pytest.mark.parametrize("jac", [None, False, slope, True])
def test_agrees_with_scipy(method, jac):
    fun = (lambda x: (square(x), slope(x))) if jac is True else square
    sol = root(fun, [0.0, 0.0], jac=jac, method=method)
    theirs = scipy.optimize.root(fun, [0.0, 0.0], jac=jac, method=method)
    assert sol.success
    assert sol.x == pytest.approx([0.8411639019140097, 0.15883609808599036], rel=1e-12)
    assert set(sol) >= set(theirs) - {"njev"}
    assert sol.method == method.lower()
    assert np.abs(sol.fun).max() < 1e-12


@pytest.mark.parametrize(("n", "m"), [(2, 6), (3, 3), (6, 2)])
@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_any_shape(n, m, method):
    A = np.random.default_rng(0).standard_normal((n, m))
    w = np.linspace(-1, 1, m)
    sol = root(lambda x: np.sinh(A @ x) - np.sinh(A @ w), np.zeros(m), method=method)
    assert sol.success
    assert np.abs(sol.fun).max() < 1e-10


@pytest.mark.parametrize("fun", [lambda x: x**2 + 1, lambda x: [x[0] + x[1], x[0] + x[1] - 1]])
@pytest.mark.parametrize("method", ["hybr", "lm"])
def test_no_solution_is_no_success(fun, method):
    sol = root(fun, [0.7, 0.3], method=method)
    assert not sol.success
    assert np.linalg.norm(sol.fun) > 0.5


def test_unknown_methods_and_options():
    with pytest.raises(ValueError, match="known are: hybr, lm"):
        root(square, [0.0, 0.0], method="krylov")
    with pytest.warns(scipy.optimize.OptimizeWarning, match="nonsense"):
        root(square, [0.0, 0.0], options={"nonsense": 1})
    with pytest.warns(RuntimeWarning, match="does not accept callback"):
        root(square, [0.0, 0.0], callback=print)


def test_limits_and_tolerance():
    sol = root(lambda x: np.exp(x) - 1e-3, [9.0], options={"maxfev": 3})
    assert not sol.success
    assert sol.status == 2
    loose = root(lambda x: x**3 - 1, [1.1, 1.1], tol=0.5)
    tight = root(lambda x: x**3 - 1, [1.1, 1.1], tol=1e-4)
    assert loose.success
    assert tight.success
    assert np.abs(tight.fun).max() <= np.abs(loose.fun).max()
    singular = root(lambda x: x**2, [1.0, 2.0])
    assert singular.success
