"""Phases, kicks and stages of Gauss-Newton: what a run tells of itself, and its limits."""

import math

import numpy as np
import pytest
from scipy.sparse.linalg import aslinearoperator

from plsolve import least_squares, root, solve
from plsolve._problem import Problem
from plsolve.methods.ending import at_rounding_level
from plsolve.methods.quadratic import Spectrum, in_ball


def system(seed, n, m, weak=0.1):
    """sin(A w) + weak B w = c: far from the start there are many points where J loses rank."""
    rng = np.random.default_rng(seed)
    A, B, c = rng.standard_normal((n, m)), rng.standard_normal((n, m)), rng.standard_normal(n)
    w0 = 5.0 * rng.standard_normal(m)
    return (lambda w: np.sin(A @ w) + weak * B @ w - c), (lambda w: np.cos(A @ w)[:, None] * A + weak * B), w0


def unsolvable(seed, n, m):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m))
    return (lambda w: (A @ w) ** 2 + 1.0), (lambda w: 2.0 * (A @ w)[:, None] * A), rng.standard_normal(m)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("make", "n", "m"), [(system, 9, 30), (system, 2, 3), (unsolvable, 2, 3), (unsolvable, 1, 5)])
def test_the_pl_ratios_are_those_of_their_points(make, n, m, seed):
    F, J, w0 = make(seed, n, m)
    points = {0: w0}

    def keep(intermediate_result):
        points[intermediate_result.nit] = intermediate_result.x

    history = solve(F, J, w0, callback=keep, compiled=False).history
    assert (np.diff(history.nit) > 0).all()
    for nit, pl in zip(history.nit, history.pl, strict=True):
        r = F(points[nit])
        ratio = (np.linalg.norm(J(points[nit]).T @ r) / np.linalg.norm(r)) ** 2
        assert np.isnan(pl) or pl == pytest.approx(ratio, rel=1e-6, abs=1e-12)


def test_a_phase_whose_direction_is_not_finite_leaves_no_trace():
    F, J, w0 = system(0, 9, 30, 0.01)
    sizes = []

    def watched(w):
        assert np.isfinite(w).all()
        return F(w)

    def jac(w):
        sizes.append(np.linalg.norm(F(w)))
        return aslinearoperator(J(w) if sizes[-1] <= min(sizes) else 1e160 * J(w))

    with np.errstate(all="ignore"):
        sol = solve(watched, jac, w0, compiled=False, options={"linear_solver": "cg"})
    assert max(sizes[1:]) > min(sizes)
    assert np.linalg.norm(sol.fun) <= min(sizes)


def test_a_jacobian_that_is_not_finite_in_a_phase_costs_no_more_than_the_phase():
    F, J, w0 = system(3, 9, 30, 0.01)

    def run(verbose):
        sizes = []

        def jac(w):
            sizes.append(np.linalg.norm(F(w)))
            return J(w) if sizes[-1] <= min(sizes) else np.nan * J(w)  # the loss rises in phases alone

        sol = least_squares(F, w0, jac, verbose=verbose, max_nfev=300)
        assert max(sizes[1:]) > sizes[0] / 2.0
        assert np.linalg.norm(sol.fun) <= min(sizes)
        return sol.x

    assert np.array_equal(run(0), run(2))  # 2 asks for J itself


def test_a_worse_point_does_not_settle_a_run():
    worse = 0
    for seed in range(40):
        F, J, w0 = system(seed, 10, 10)
        seen = []
        sol = least_squares(
            F, w0, J, callback=lambda intermediate_result, seen=seen: seen.append(intermediate_result.x)
        )
        worse += np.linalg.norm(sol.fun) > min(np.linalg.norm(F(x)) for x in seen) * (1.0 + 1e-12)
    assert worse == 0


def test_no_call_beyond_the_limit_asks_whether_a_jacobian_is_right():
    A, w = np.array([[1.0, 3.0]]), np.array([1.0, 1.0 / 9.0])
    problem = Problem(lambda w: A @ w, lambda w: A, w, [4.0 / 3.0 + 2e-16], max_nfev=1)
    assert not at_rounding_level(problem, w, problem.r0, problem.linearise(w, problem.r0, True))
    assert problem.system.nfev == 1
    problem.system.max_nfev = 2
    assert at_rounding_level(problem, w, problem.r0, problem.linearise(w, problem.r0, True))


def test_a_step_too_short_for_its_square():
    e = np.array([-1e250, 1e250])
    assert np.isfinite(in_ball(Spectrum(e, np.eye(2), np.array([1e-150, 1e-150])), 1.0).q).all()


@pytest.mark.parametrize("size", [5e-324, 1e-320, 1e-310])
@pytest.mark.parametrize("e", [[-1.0, 4.0], [0.0, 4.0], [0.0, 1e300], [-1e300, 1e300]])
def test_a_gradient_whose_quotient_by_the_curvature_underflows(e, size):
    q = in_ball(Spectrum(np.array(e), np.eye(2), np.full(2, size)), math.inf).q
    assert np.abs(q).max() <= 1e-300


@pytest.mark.parametrize("run", [lambda F, w, J: root(F, w, jac=J), least_squares])
def test_what_is_raised_after_the_run_carries_the_best_point(run):
    calls = []

    def jac(w):
        calls.append(w)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return np.array([[2.0 * w[0], 0.0], [-1.0, 1.0]])

    def F(w):
        return np.array([w[0] ** 2 - 2.0, w[1] - w[0]])

    stop = -1
    run(F, [1.0, 3.0], jac)
    for stop in range(1, len(calls) + 1):  # noqa: B007 - jac reads it
        calls.clear()
        with pytest.raises(KeyboardInterrupt) as caught:
            run(F, [1.0, 3.0], jac)
        assert np.isfinite(caught.value.best).all()


def test_root_with_a_jacobian_that_is_not_finite_in_the_end():
    calls = []

    def jac(w):
        calls.append(w)
        return np.diag(2.0 * w) * (np.nan if len(calls) > 3 else 1.0)

    sol = root(lambda w: w**2 + 1.0, [3.0, 2.0], jac=jac)
    assert not sol.success


def test_kicks_end_where_no_step_follows():
    """Powell's badly scaled function from far away: a Jacobian of 1e-48 ends every try before its first step."""
    calls = [0]

    def F(w):
        calls[0] += 1
        return np.array([1e4 * w[0] * w[1] - 1.0, np.exp(np.minimum(-w, 300.0)).sum() - 1.0001])

    def jac(w):
        return np.array([[1e4 * w[1], 1e4 * w[0]], -np.exp(np.minimum(-w, 300.0))])

    for start in (10.0, 100.0, 1000.0):
        calls[0] = 0
        sol = solve(F, jac, [0.0, start], max_iter=100)
        assert sol.nit <= 100
        assert calls[0] < 50_000
