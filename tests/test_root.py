"""root: scipy's signature and fields, any number of equations."""

import numpy as np
import problems
import pytest
import scipy.optimize
import scipy.sparse as sps

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


@pytest.mark.parametrize("size", [1e4, 1e7, 1e10, 1e14])
@pytest.mark.parametrize("method", ["hybr", "lm", "gauss-newton"])
@pytest.mark.parametrize("form", [np.asarray, sps.csr_array])
def test_no_equation_hides_behind_a_larger_one(size, method, form):
    """The second has no real solution, however large the first one's numbers are."""
    for gap in (0.1, 1e-4, 1e-6):
        sol = root(
            lambda w, gap=gap: np.array([size * (w[0] - 1.0), w[1] ** 2 + gap]),
            [3.0, 1.0],
            jac=lambda w: form(np.array([[size, 0.0], [0.0, 2.0 * w[1]]])),
            method=method,
        )
        assert not sol.success
        solved = root(lambda w, gap=gap: np.array([size * (w[0] - 1.0), w[1] ** 2 - gap]), [3.0, 1.0], method=method)
        assert solved.success
        assert solved.x == pytest.approx([1.0, np.sqrt(gap)], rel=1e-7)


@pytest.mark.parametrize("method", ["hybr", "lm", "gauss-newton"])
def test_success_keeps_xtol_at_multiple_roots_and_any_scale_of_the_function(method):
    for power in (2, 3, 5):
        sol = root(lambda x, power=power: x**power, 1.0, method=method)
        assert not sol.success or abs(sol.x[0]) <= 1.5e-8
    p = problems.rosenbrock()
    for scale in (1e-100, 1e-40, 1.0, 1e40, 1e100):
        sol = root(lambda w, c=scale: c * p.F(w), p.w0, method=method)
        assert sol.success
        assert sol.x == pytest.approx([1.0, 1.0], rel=1.5e-8)
