"""Every way in which a run can end, and that only the solved ones are called success."""

import time

import naive
import numpy as np
import problems
import pytest

import plsolve
from plsolve import Status, solve

METHODS = ["gauss-newton", "gd", "sgd"]
A, Y, W0 = problems.matrix(6, 15), problems.vector(6), problems.vector(15, seed=5)


def F(w):
    return A @ w


def jac(w):
    return A


def test_numbers_and_their_sign():
    expected = {"RESIDUAL": 1, "EPSILON": 3, "MAX_ITER": 0, "MAX_TIME": -1}
    expected |= {"CALLBACK": -2, "STALLED": -3, "STATIONARY": -4}
    found = {s.name: s.value for s in plsolve.Status}
    assert found.items() >= expected.items()
    assert found.keys() <= expected.keys() | {"DISTANCE", "CONVERGED"}


def check(sol, status):
    assert isinstance(sol.status, Status)
    assert sol.status == status, sol.message
    assert sol.success is (int(sol.status) > 0)
    assert isinstance(sol.message, str)
    assert sol.message


@pytest.mark.parametrize("method", METHODS)
def test_residual(method):
    sol = solve(F, jac, W0, Y, method=method, rng=0)
    check(sol, Status.RESIDUAL)
    assert np.linalg.norm(A @ sol.x - Y) <= 1e-10 * max(np.linalg.norm(Y), np.linalg.norm(A @ W0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("target", ["y", "F"])
def test_residual_is_relative_to_the_larger_of_y_and_the_first_F(method, target):
    """A loose tol: the run stops at the first full residual that is small enough, measured by the right yardstick."""
    w0, y = (np.zeros(15), Y) if target == "y" else (W0, None)
    tol = 1e-3
    bound = tol * np.linalg.norm(Y if target == "y" else A @ W0)
    seen = []
    options = {"step_size": 0.02} if method == "gd" else {}
    sol = solve(F, jac, w0, y, method=method, tol=tol, rng=0, options=options, callback=lambda w: seen.append(w.copy()))
    check(sol, Status.RESIDUAL)
    y = np.zeros(6) if y is None else y
    assert np.linalg.norm(A @ sol.x - y) <= bound
    if method == "gd":
        assert all(np.linalg.norm(A @ w - y) > bound for w in seen[:-1])
        assert len(seen) > 20


@pytest.mark.parametrize("method", METHODS)
def test_epsilon(method):
    """A system that the method does not solve at one blow: eps comes before tol."""
    p, eps = problems.tanh_system(6, 15), 1e-3
    if method == "gauss-newton":
        p, eps = problems.kowalik_osborne(), 2e-4
    sol = solve(p.F, p.jac, p.w0, method=method, tol=1e-14, eps=eps, rng=0)
    check(sol, Status.EPSILON)
    assert naive.loss(p.F(sol.x)) <= eps < naive.loss(p.F(p.w0))


@pytest.mark.parametrize("method", METHODS)
def test_epsilon_on_a_system_without_solution(method):
    tall = problems.matrix(15, 6)
    y = problems.vector(15)
    least = naive.loss(tall @ naive.least_norm(tall, y, np.zeros(6)) - y)
    sol = solve(lambda w: tall @ w, lambda w: tall, np.zeros(6), y, method=method, eps=1.2 * least, rng=0)
    check(sol, Status.EPSILON)
    assert sol.cost <= 1.2 * least


def test_epsilon_already_at_the_start():
    sol = solve(F, jac, W0, Y, eps=1e6)
    check(sol, Status.EPSILON)
    assert sol.nit == 0
    np.testing.assert_array_equal(sol.x, W0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2, 7])
def test_max_iter(method, k):
    p = problems.kowalik_osborne() if method == "gauss-newton" else problems.tanh_system(6, 15)
    options = {"gd": {"step_size": 1e-3}, "sgd": {"step_size": 1e-3, "batch_size": 2}}.get(method)
    sol = solve(p.F, p.jac, p.w0, method=method, max_iter=k, tol=1e-14, rng=0, options=options)
    check(sol, Status.MAX_ITER)
    assert sol.nit == k
    assert sol.cost <= naive.loss(p.F(p.w0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac_", [jac, None, "3-point"], ids=["analytic", "None", "3-point"])
def test_max_iter_zero_returns_the_start(method, jac_):
    sol = solve(F, jac_, W0, Y, method=method, max_iter=0, rng=0)
    check(sol, Status.MAX_ITER)
    assert sol.nit == 0
    np.testing.assert_array_equal(sol.x, W0)
    np.testing.assert_allclose(sol.fun, A @ W0 - Y)
    np.testing.assert_allclose(sol.grad, A.T @ (A @ W0 - Y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sol.history.loss, [naive.loss(A @ W0 - Y)])


@pytest.mark.parametrize("method", METHODS)
def test_max_time(method):
    def slow(w):
        time.sleep(0.01)
        return A @ w

    options = {"step_size": 1e-4} if method != "gauss-newton" else None
    p = problems.kowalik_osborne()

    def slow_fit(w):
        time.sleep(0.02)
        return p.F(w)

    start = time.perf_counter()
    if method == "gauss-newton":
        sol = solve(slow_fit, p.jac, p.w0, method=method, max_time=0.05, tol=0.0)
    else:
        sol = solve(slow, jac, W0, Y, method=method, max_time=0.1, rng=0, options=options)
    assert time.perf_counter() - start < 3
    check(sol, Status.MAX_TIME)


@pytest.mark.parametrize("method", METHODS)
def test_no_time_at_all(method):
    sol = solve(F, jac, W0, Y, method=method, max_time=0.0, rng=0)
    check(sol, Status.MAX_TIME)
    assert np.all(np.isfinite(sol.x))


@pytest.mark.parametrize("method", METHODS)
def test_endless_limits_are_no_limits(method):
    check(solve(F, jac, W0, Y, method=method, max_time=np.inf, rng=0), Status.RESIDUAL)


@pytest.mark.parametrize("method", METHODS)
def test_callback(method):
    def stop(w):
        raise StopIteration

    options = {"step_size": 1e-4} if method != "gauss-newton" else None
    p = problems.powell_singular()
    sol = solve(p.F, p.jac, p.w0, method=method, callback=stop, rng=0, options=options)
    check(sol, Status.CALLBACK)
    assert sol.nit <= 1


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_stalled_when_the_jacobian_points_the_wrong_way(method):
    """gd stays at w0; a kick of Gauss-Newton's watchdog may meet a better point, and then that is returned."""
    sol = solve(F, lambda w: -A, W0, Y, method=method)
    check(sol, Status.STALLED)
    np.testing.assert_array_equal(sol.fun, F(sol.x) - Y)
    assert np.array_equal(sol.x, W0) or (method == "gauss-newton" and sol.cost < sol.history.loss[0])


def test_stalled_at_the_noise_of_F():
    """F in single precision cannot come nearer than about 1e-8, and its derivative knows nothing of that."""
    sol = solve(lambda w: (A @ w).astype(np.float32).astype(float), jac, W0, Y, method="gauss-newton", tol=1e-13)
    check(sol, Status.STALLED)
    assert np.linalg.norm(A @ sol.x - Y) <= 1e-6 * np.linalg.norm(Y)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_stationary_where_no_solution_is_near(method):
    """w^2 + 1 has its least loss at 0, where the Gauss-Newton step does not exist."""
    sol = solve(lambda w: w**2 + 1, lambda w: np.diag(2 * w), np.array([1.0]), method=method)
    assert sol.status in {Status.STATIONARY, Status.STALLED}, sol.message
    assert not sol.success
    np.testing.assert_allclose(sol.cost, 0.5, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_stationary_at_the_start(method):
    """The gradient is zero at w0 = 0, and nowhere near it: Gauss-Newton looks around, the first-order methods end."""
    sol = solve(lambda w: w**2 - 1, lambda w: np.diag(2 * w), np.zeros(3), method=method, rng=0)
    assert sol.nfev < 100
    if method == "gauss-newton":
        check(sol, Status.RESIDUAL)
        np.testing.assert_allclose(np.abs(sol.x), 1.0)
    else:
        check(sol, Status.STATIONARY)
        np.testing.assert_array_equal(sol.x, np.zeros(3))


# Near the rounding level ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_tol_zero_means_the_rounding_level(method):
    sol = solve(F, jac, W0, Y, method=method, tol=0.0, rng=0)
    check(sol, Status.RESIDUAL)
    assert "round" in sol.message.lower()
    r = np.linalg.norm(A @ sol.x - Y)
    u = np.finfo(float).eps / 2
    top = np.linalg.norm(A @ sol.x) + np.linalg.norm(Y) + np.linalg.norm(np.abs(A) @ np.abs(sol.x))
    assert r <= 5 * u * top


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("inside", [False, True], ids=["y given", "y inside F"])
def test_warm_start_solves(method, inside):
    """tol is relative to the first residual, which here is nothing but rounding."""
    p = problems.tanh_system(6, 15)
    shift = np.full(6, 1e3)
    f, y = (p.F, None) if inside else (lambda w: p.F(w) + shift, shift)
    first = solve(f, p.jac, p.w0, y, tol=0.0, method="gauss-newton")
    assert first.success
    sol = solve(f, p.jac, first.x, y, method=method, rng=0)
    check(sol, Status.RESIDUAL)
    if inside:
        assert "round" in sol.message.lower()
    if sol.nit == 0:  # the best point of the trials may be another, to rounding
        np.testing.assert_allclose(sol.x, first.x, rtol=1e-12)
    else:  # rounding had left a step that makes the residual less
        assert sol.nit == 1
        assert np.linalg.norm(sol.fun) < np.linalg.norm(first.fun)


@pytest.mark.parametrize("p", [p for p in problems.SOLVABLE if "Powell" not in p.name], ids=str)
def test_warm_start_at_a_point_solved_to_tol(p):
    first = solve(p.F, p.jac, p.w0, method="gauss-newton")
    sol = solve(p.F, p.jac, first.x, method="gauss-newton")
    check(sol, Status.RESIDUAL)
    assert sol.nit <= 12  # one to the rounding level, and some there: how many is rounding's affair


@pytest.mark.parametrize("method", METHODS)
def test_start_at_the_exact_solution(method):
    sol = solve(lambda w: w - 1, lambda w: np.eye(3), np.ones(3), method=method, rng=0)
    check(sol, Status.RESIDUAL)
    assert sol.nit == 0
    np.testing.assert_array_equal(sol.x, np.ones(3))


def test_everything_zero():
    sol = solve(lambda w: 0 * w, lambda w: np.zeros((3, 3)), np.zeros(3), tol=0.0)
    check(sol, Status.RESIDUAL)


def test_methods_are_named_with_a_reason():
    for method in ["auto", *METHODS]:
        sol = solve(F, jac, W0, Y, method=method, rng=0)
        assert sol.method in METHODS
        assert method in {"auto", sol.method}
        assert isinstance(sol.method_reason, str)
        assert sol.method_reason
        assert "\n" not in sol.method_reason


def test_auto_does_not_take_sgd_without_rows():
    for n, m in [(6, 15), (8, 8), (15, 6), (300, 3)]:
        M = problems.matrix(n, m)
        assert solve(lambda w, M=M: M @ w, lambda w, M=M: M, np.zeros(m), np.ones(n)).method != "sgd"


# -- what "solved" means -----------------------------------------------------------------------------------------------


def promised(sol, F, jac, w0, y, tol=1e-10):
    """Whether the residual is within tol of what F was at w0, and small beside its terms at x."""
    terms = abs(jac(sol.x)) @ (np.abs(sol.x) + np.abs(sol.x - w0))
    size, size_y = np.linalg.norm(F(sol.x) - y), np.linalg.norm(y)
    start = max(size_y, np.linalg.norm(F(w0)))
    return size <= 1.01 * min(tol * start, 1e-6 * max(size_y, np.linalg.norm(terms)))


def diode(v):
    """A diode (1e-14 A, 25.85 mV) behind 1 kOhm at 5 V: balance of currents in ampere; 0.69249 V."""
    return (5.0 - v) / 1e3 - 1e-14 * np.expm1(v / 0.02585)


def diode_slope(v):
    return np.atleast_2d(-1e-3 - 1e-14 / 0.02585 * np.exp(v / 0.02585))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("start", [0.0, 1.2, 1.5, 2.0, 5.0])
def test_a_huge_residual_at_the_start_proves_nothing(method, exact, start):
    sol = solve(diode, diode_slope if exact else None, [start], method=method, rng=0, max_iter=500)
    assert not sol.success or abs(sol.x[0] - 0.692490382) < 1e-6, sol
    if method == "gauss-newton":
        assert sol.success


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 3), (2, 2), (3, 7), (5, 4)])
@pytest.mark.parametrize("power", [5, 20])
def test_powers_and_exponentials_from_afar(n, m, power):
    solved = 0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        B, w0 = rng.standard_normal((n, m)), 10.0 ** rng.uniform(0, 3) * rng.standard_normal(m)
        for G, slope in (
            (lambda z: z**power, lambda z: power * z ** (power - 1)),
            (lambda z: np.exp(np.minimum(z, 300.0)), lambda z: np.where(z < 300.0, np.exp(np.minimum(z, 300.0)), 0.0)),
        ):
            y = np.ones(n)
            F = lambda w, G=G, B=B: G(B @ w)  # noqa: E731
            jac = lambda w, slope=slope, B=B: slope(B @ w)[:, None] * B  # noqa: E731
            if not np.linalg.norm(F(w0)) < 1e150:
                continue
            sol = solve(F, jac, w0, y)
            solved += sol.success
            assert not sol.success or promised(sol, F, jac, w0, y), (seed, sol)
    assert solved > 0


@pytest.mark.parametrize("start", [1e5, 1e10, 1e20, -1e15])
def test_a_way_from_afar_is_no_measure_of_the_end(start):
    """Newton's steps take a third off w each for long: w - w0 is all that r is small beside."""
    sol = solve(lambda w: w + 0.1 * w**3 - 1.0, lambda w: [[1.0 + 0.3 * w[0] ** 2]], [start])
    assert sol.success
    assert sol.x[0] == pytest.approx(0.921698991, rel=1e-7)


def test_solved_at_the_origin_and_at_the_start():
    sol = solve(lambda w: np.sinh(w[:2] + w[2:]), None, [3.0, 1.0, 1.0, -0.5])
    assert sol.success
    assert solve(lambda w: w**2, None, [0.0, 0.0]).nit == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("n", "m"), [(20, 200), (5, 8), (60, 20)])
@pytest.mark.parametrize("exact", [False, True])
def test_single_precision_is_judged_as_such(method, n, m, exact):
    rng = np.random.default_rng(n)
    A = np.linalg.qr(rng.standard_normal((max(n, m), min(n, m))))[0].astype(np.float32)
    A = A if n > m else np.ascontiguousarray(A.T)

    def F(w):
        z = A @ w.astype(np.float32)
        return np.tanh(z) + z

    def jac(w):
        return (2.0 - np.tanh(A @ w.astype(np.float32)) ** 2)[:, None] * A

    y = F(rng.standard_normal(m))
    exact = exact or method == "gd"  # whose steps are lost in the differences of such an F
    sol = solve(F, jac if exact else None, np.zeros(m), y, method=method, rng=0)
    check(sol, Status.RESIDUAL)
    assert "double precision" in sol.message
    assert np.linalg.norm(sol.fun) <= 1e-5 * np.linalg.norm(y)
    loose = solve(F, jac, np.zeros(m), y, method=method, rng=0, tol=1e-3)
    assert loose.message == "Solved: the residual is within `tol`."


def test_a_jacobian_that_is_not_finite_late():
    """Neither solved by the tolerances of scipy, nor by those of this library."""
    p = problems.rosenbrock()
    for at in range(2, 7):
        calls = [0]

        def jac(w, calls=calls, at=at):
            calls[0] += 1
            return p.jac(w) * (np.nan if calls[0] == at else 1.0)

        for run in (
            lambda: plsolve.least_squares(p.F, p.w0, jac=jac),
            lambda: plsolve.root(p.F, p.w0, jac=jac),
            lambda: solve(p.F, jac, p.w0),
        ):
            calls[0] = 0
            sol = run()
            assert not sol.success or np.abs(sol.x - 1.0).max() < 1e-8
            assert sol.success or "not finite" in sol.message or "progress" in sol.message


# -- the best point of all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"momentum": "heavy-ball"}, {"momentum": "nesterov"}, {"step_size": "cauchy"}])
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 50])
def test_x_is_the_best_point_seen(options, limit):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, m = [(1, 2), (2, 3), (2, 4), (3, 3), (4, 2)][seed % 5]
        A, seen = rng.standard_normal((n, m)), []
        y = np.sinh(A @ rng.standard_normal(m))

        def F(w, A=A, y=y, seen=seen):
            f = np.sinh(np.clip(A @ w, -300.0, 300.0))
            seen.append(np.linalg.norm(f - y))
            return f

        def jac(w, A=A):
            return np.cosh(np.clip(A @ w, -300.0, 300.0))[:, None] * A

        for method in ("gd",) if options else ("gd", "gauss-newton"):
            seen.clear()
            sol = solve(F, jac, np.zeros(m), y, method=method, options=options, max_iter=limit)
            assert np.linalg.norm(sol.fun) <= min(seen) * (1.0 + 1e-8)
            assert np.array_equal(F(sol.x) - y, sol.fun)
