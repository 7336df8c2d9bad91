"""The Result agrees with itself and with the functions, on random smooth systems of any shape and scale."""

import copy
import gc
import pickle
import tracemalloc
from dataclasses import dataclass

import naive
import numpy as np
import problems
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import OptimizeResult

import plsolve
from plsolve import Status, solve

METHODS = ["gauss-newton", "gd", "sgd"]
MODES = ["analytic", "both", None, "2-point", "3-point"]
LAZY = ["history", "jac", "grad", "optimality", "kernel", "certificate"]
DOCUMENTED = "x success status message fun cost jac grad optimality nit nfev njev nfev_jac method method_reason history"


@dataclass(frozen=True)
class System:
    """F = A w + c sin(B w) - b with random matrices: smooth, J bounded, any shape, sometimes without a solution."""

    n: int
    m: int
    seed: int
    c: float

    def __iter__(self):
        n, m, c = self.n, self.m, self.c
        rng = np.random.default_rng(self.seed)
        A, B = rng.normal(size=(2, n, m))
        b, w0, y = rng.normal(size=n), rng.normal(size=m), rng.normal(size=n)

        def F(w):
            return A @ w + c * np.sin(B @ w) - b

        def jac(w):
            return A + c * np.cos(B @ w)[:, None] * B

        return iter((F, jac, w0, y))


systems = st.builds(
    System, st.integers(1, 7), st.integers(1, 12), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.3, 1.0])
)


def consistent(sol, F, jac, y, exact=True):
    """Every field that is a function of x is that function of x."""
    r = F(sol.x) - y
    size = np.linalg.norm(F(sol.x)) + np.linalg.norm(y)
    np.testing.assert_allclose(sol.fun, r, rtol=1e-12, atol=1e-13 * size)
    np.testing.assert_allclose(sol.cost, naive.loss(sol.fun), rtol=1e-12)
    J = jac(sol.x)
    rtol = 1e-12 if exact else 2e-5
    np.testing.assert_allclose(sol.jac, J, rtol=rtol, atol=rtol * np.linalg.norm(J))
    np.testing.assert_allclose(
        sol.grad, np.asarray(sol.jac).T @ sol.fun, rtol=1e-10, atol=1e-13 * size * np.abs(J).max()
    )
    np.testing.assert_allclose(sol.optimality, np.max(np.abs(sol.grad)), rtol=1e-10)
    assert sol.success is (sol.status > 0)
    assert sol.x.dtype == sol.fun.dtype == np.float64


@pytest.mark.parametrize("method", METHODS)
@given(system=systems)
@settings(max_examples=25)
def test_fields_agree(method, system):
    F, jac, w0, y = system
    sol = solve(F, jac, w0, y, method=method, max_iter=None if method == "gauss-newton" else 60, rng=0)
    consistent(sol, F, jac, y)
    if sol.status == Status.RESIDUAL:
        u = np.finfo(float).eps / 2
        rounding = np.linalg.norm(F(sol.x)) + np.linalg.norm(y) + np.linalg.norm(np.abs(jac(sol.x)) @ np.abs(sol.x))
        bound = max(1e-10 * max(np.linalg.norm(y), np.linalg.norm(F(w0))), 4 * u * rounding)
        assert np.linalg.norm(sol.fun) <= 1.01 * bound
    assert sol.cost <= naive.loss(F(w0) - y)


@pytest.mark.parametrize("mode", [None, "2-point", "3-point"])
@given(system=systems)
@settings(max_examples=15)
def test_fields_agree_by_differences(mode, system):
    F, jac, w0, y = system
    sol = solve(F, mode, w0, y, tol=1e-7, max_iter=30)
    consistent(sol, F, jac, y, exact=False)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("method", METHODS)
@given(system=systems)
@settings(max_examples=10)
def test_counts_are_the_calls(method, mode, system):
    F, jac, w0, y = system
    F_, jac_ = naive.Recorded((lambda w: (F(w), jac(w))) if mode == "both" else F), naive.Recorded(jac)
    given_jac = {"analytic": jac_, "both": True}.get(mode, mode)
    sol = solve(F_, given_jac, w0, y, method=method, max_iter=12, tol=1e-8, rng=0)

    assert sol.nfev + sol.nfev_jac == F_.calls
    if mode == "analytic":
        assert sol.njev == jac_.calls
    if mode in {"analytic", "both"}:
        assert sol.nfev_jac == 0
    else:
        m = len(w0)
        assert m * (1 + (mode == "3-point")) * sol.njev <= sol.nfev_jac <= 4 * m * sol.njev
    counts = sol.nfev, sol.njev, sol.nfev_jac
    for name in LAZY:
        assert sol[name] is not None
        assert (sol.nfev, sol.njev, sol.nfev_jac) == counts, name


def not_rising(loss, slack=0.0):
    """Up to the last bits of a sum of squares, and of F where F was called again."""
    return np.all(np.diff(loss) <= 4 * np.finfo(float).eps * np.asarray(loss[:-1]) + slack)


@given(system=systems)
def test_gauss_newton_never_raises_the_loss_above_that_of_the_start(system):
    """Within a phase of the watchdog it may rise, but no higher, and the best point of all is returned."""
    F, jac, w0, y = system
    steps = [w0]
    sol = solve(F, jac, w0, y, method="gauss-newton", callback=lambda w: steps.append(w.copy()))
    steps = np.array([naive.loss(F(w) - y) for w in [*steps, sol.x]])
    rounding = 1e-12 * steps[0]
    assert np.all(steps <= steps[0] + rounding)
    assert steps[-1] <= steps.min() * (1 + 1e-5) + rounding
    assert sol.status in {Status.RESIDUAL, Status.STATIONARY, Status.STALLED}, sol.message


@given(system=systems)
def test_default_gradient_descent_never_raises_the_loss(system):
    F, jac, w0, y = system
    steps = [w0]
    sol = solve(F, jac, w0, y, method="gd", max_iter=150, callback=lambda w: steps.append(w.copy()))
    steps = [naive.loss(F(w) - y) for w in steps]
    assert not_rising(sol.history.loss)
    assert not_rising(steps, 1e-12 * steps[0])


@given(system=systems)
@settings(max_examples=25)
def test_gauss_newton_ends_at_a_stationary_point_of_the_loss(system):
    """Where it says STATIONARY, no linear model of F promises less loss; all else is solved."""
    F, jac, w0, y = system
    sol = solve(F, jac, w0, y, method="gauss-newton", max_iter=500)
    if sol.status == Status.STATIONARY:
        J = jac(sol.x)
        left = sol.fun - J @ np.linalg.lstsq(J, sol.fun)[0]
        assert np.linalg.norm(sol.fun - left) <= 1e-3 * np.linalg.norm(sol.fun)
    else:
        assert sol.status == Status.RESIDUAL, sol.message


@pytest.mark.parametrize("method", METHODS)
def test_history_starts_at_w0_and_ends_at_x(method):
    p = problems.tanh_system(4, 9)
    sol = solve(p.F, p.jac, p.w0, method=method, rng=0, tol=1e-6)
    loss = sol.history.loss
    assert isinstance(loss, np.ndarray)
    assert loss.dtype == np.float64
    assert loss.ndim == 1
    np.testing.assert_allclose(loss[0], naive.loss(p.F(p.w0)), rtol=1e-12)
    np.testing.assert_allclose(np.min(loss), sol.cost, rtol=1e-12)
    if method == "gd":
        assert len(loss) == sol.nit + 1
    assert len(loss) <= max(sol.nfev, sol.nit + 1)


# Scales --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("of_w", [1e-8, 1e-3, 1.0, 1e8])
@pytest.mark.parametrize("of_F", [1e-8, 1.0, 1e4, 1e8])
@pytest.mark.parametrize(("n", "m"), [(4, 9), (4, 4)])
def test_units_do_not_matter(n, m, of_F, of_w, method):
    """a F(w / b) = 0 is the same system for every a and b."""
    p = problems.tanh_system(n, m)
    sol = solve(lambda w: of_F * p.F(w / of_w), lambda w: of_F / of_w * p.jac(w / of_w), of_w * p.w0, method=method)
    plain = solve(p.F, p.jac, p.w0, method=method)
    assert sol.status == Status.RESIDUAL, sol.message
    assert abs(sol.nit - plain.nit) <= 1 + 0.1 * plain.nit
    np.testing.assert_allclose(sol.x / of_w, plain.x, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("mode", [None, "2-point", "3-point", "cs"])
@pytest.mark.parametrize("of_w", [1e-8, 1e8])
@pytest.mark.parametrize("of_F", [1e-8, 1e8])
def test_units_do_not_matter_to_differences(of_F, of_w, mode):
    p = problems.tanh_system(4, 4)
    sol = solve(lambda w: of_F * p.F(w / of_w), mode, of_w * p.w0, tol=1e-8, method="gauss-newton")
    plain = solve(p.F, p.jac, p.w0, tol=1e-8, method="gauss-newton")
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x / of_w, plain.x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-160, 1e-100, 1e100, 1e150])
def test_squares_that_leave_the_range_of_floats_are_no_success(scale):
    """||r||^2 under- or overflows at 1e-162 and 1e154; before that it must work, after that not lie."""
    A, y = problems.matrix(3, 6), problems.vector(3)
    sol = solve(lambda w: scale * (A @ w), lambda w: scale * A, np.zeros(6), scale * y, method="gauss-newton")
    solved = np.linalg.norm(A @ sol.x - y) <= 1e-8 * np.linalg.norm(y)
    assert sol.success == solved
    if 1e-120 < scale < 1e120:
        assert solved, sol.message


# The object ----------------------------------------------------------------------------------------------------------


def a_result(method="gauss-newton", form="C"):
    p = problems.tanh_system(4, 9)
    wrap = problems.FORMS[form]
    return solve(p.F, lambda w: wrap(p.jac(w)), p.w0, method=method, rng=0), p


@pytest.mark.parametrize("method", METHODS)
def test_is_an_optimize_result(method):
    sol, _ = a_result(method)
    assert isinstance(sol, plsolve.Result)
    assert isinstance(sol, OptimizeResult)
    for name in DOCUMENTED.split():
        assert getattr(sol, name) is not None, name
        assert name in sol, name
        assert name in dir(sol), name
        if name not in {"history"}:
            np.testing.assert_equal(sol[name], getattr(sol, name))
    assert set(DOCUMENTED.split()) <= set(sol.keys())
    for name in ("nit", "nfev", "njev", "nfev_jac"):
        assert isinstance(getattr(sol, name), (int, np.integer))
    assert isinstance(sol.cost, float)
    assert isinstance(sol.success, bool)
    assert sol.message in repr(sol)


def test_unknown_field():
    sol, _ = a_result()
    with pytest.raises(AttributeError):
        sol.misspelt  # noqa: B018
    with pytest.raises(KeyError):
        sol["misspelt"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["C", "csr_array"])
@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
@pytest.mark.parametrize("touched", [False, True], ids=["fresh", "after a look at grad"])
def test_copies_are_whole(how, form, method, touched):
    """F and jac are local functions, which cannot be pickled: what was not computed before is not in the pickle."""
    sol, p = a_result(method, form)
    if touched:
        assert sol.grad is not None
    twin = how(sol)
    twin, unpickled = (pickle.loads(twin), True) if isinstance(twin, bytes) else (twin, False)
    assert type(twin) is type(sol)
    assert twin.status is sol.status
    assert isinstance(twin.status, Status)
    assert twin.message == sol.message
    np.testing.assert_array_equal(twin.x, sol.x)
    np.testing.assert_array_equal(twin.history.loss, sol.history.loss)
    if unpickled and not touched:
        assert "jac" not in twin
        assert "jac" not in dir(twin)
        assert twin.get("grad") is None
        with pytest.raises(AttributeError, match=r"jac.*pickled"):
            _ = twin.jac
        return
    np.testing.assert_array_equal(twin.grad, sol.grad)
    dense = twin.jac.toarray() if form == "csr_array" else twin.jac
    np.testing.assert_allclose(dense, p.jac(sol.x))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("beta", [None, 1.0])
@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_copying_calls_nothing(how, method, beta):
    p = problems.tanh_system(4, 9)
    F, jac = naive.Recorded(p.F), naive.Recorded(p.jac)
    sol = solve(F, jac, p.w0, method=method, beta=beta, rng=0)
    calls = F.calls, jac.calls
    twin = how(sol)
    assert (F.calls, jac.calls) == calls
    if how is copy.deepcopy:
        assert not np.shares_memory(twin.x, sol.x)
    if how is not pickle.dumps:
        np.testing.assert_array_equal(twin.jac, sol.jac)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "m"), [(20, 20_000), (2000, 20)])
def test_a_kept_result_holds_no_jacobian_that_it_does_not_show(n, m, method, both):
    """Memory after the run, in Jacobians of 3.2 MB: none without a certificate, one once it was read, none again."""
    A = np.random.default_rng(0).normal(size=(n, m)) / np.sqrt(n + m)
    y = np.full(n, 0.1) if n < m else A @ np.full(m, 0.1)

    def jac(w):
        return A * (1 + 0.1 * np.cos(A @ w))[:, None]

    def F(w):
        f = A @ w + 0.1 * np.sin(A @ w)
        return (f, jac(w)) if both else f

    def held():
        gc.collect()
        return round((tracemalloc.get_traced_memory()[0] - before) / (8 * n * m), 1)

    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        options = {"method": method, "max_iter": 20, "rng": 0, "certify": False}
        sol = solve(F, True if both else jac, np.zeros(m), y, **options)
        assert held() < 0.4
        assert sol.jac.shape == (n, m)
        assert sol.kernel is not None
        assert 0.9 < held() < 1.4
        del sol.jac, sol.kernel
        assert held() < 0.4
        assert sol.jac.shape == (n, m)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "operator", "gram_operator"])
def test_jacobian_keeps_its_form(form):
    sol, p = a_result(form=form)
    assert not isinstance(sol.jac, np.ndarray)
    assert sol.jac.shape == (4, 9)
    np.testing.assert_allclose(sol.jac @ np.ones(9), p.jac(sol.x) @ np.ones(9))
    np.testing.assert_allclose(sol.grad, p.jac(sol.x).T @ sol.fun, atol=1e-15)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["C", "csr_array", "operator"])
def test_the_same_call_gives_the_same_bits(method, form):
    first, _ = a_result(method, form)
    second, _ = a_result(method, form)
    assert first.x.tobytes() == second.x.tobytes()
    assert first.history.loss.tobytes() == second.history.loss.tobytes()
    assert first.nfev == second.nfev


def test_results_do_not_share_their_arrays():
    first, _ = a_result()
    x = first.x.copy()
    a_result()
    np.testing.assert_array_equal(first.x, x)
    assert not np.shares_memory(first.x, first.fun)
