"""Bounds: F is never called outside them, and the ends are those of the bounded least-squares problem.

Equal bounds fix a parameter: scipy.optimize.least_squares refuses them, scipy.optimize.minimize accepts them, and so
does solve.
"""

import naive
import numpy as np
import problems
import pytest
from scipy.optimize import Bounds, least_squares, lsq_linear

import plsolve
from benchmarks.checks import bounded_fits
from plsolve import Status, solve, testing
from plsolve._tangent import tangent
from plsolve.methods.box import boxed

METHODS = ["gauss-newton", "gd", "sgd"]
MODES = [None, "2-point", "3-point", "cs"]
A, Y = problems.matrix(6, 15), problems.vector(6)


def kkt(sol, A, y, lb, ub, rtol=1e-6):
    g = A.T @ (A @ sol.x - y)
    free = naive.projected_gradient(g, sol.x, lb, ub)
    assert np.linalg.norm(free) <= rtol * np.linalg.norm(A, 2) * np.linalg.norm(A @ sol.x - y)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", [lambda w: A, *MODES], ids=["analytic", *map(str, MODES)])
@pytest.mark.parametrize("width", [0.4, 0.2])
def test_never_called_outside(method, jac, width):
    """The solution nearest to w0 lies outside this box; others lie inside (0.4), or none (0.2)."""
    lb, ub = np.full(15, -width), np.full(15, width)
    F = naive.Recorded(lambda w: A @ w, lb, ub)
    record = naive.Recorded(jac, lb, ub) if callable(jac) else jac
    w0 = width * np.linspace(-1, 1, 15)
    assert np.any(np.abs(naive.least_norm(A, Y, w0)) > width)
    sol = solve(F, record, w0, Y, method=method, bounds=(lb, ub), tol=1e-7, rng=0, max_iter=300)
    assert F.calls > 1
    assert np.all((lb <= sol.x) & (sol.x <= ub))
    assert sol.cost <= naive.loss(A @ w0 - Y)
    best = lsq_linear(A, Y, (lb, ub), method="bvls")
    assert (best.cost < 1e-12) == (width == 0.4)
    if method == "gauss-newton":
        np.testing.assert_allclose(sol.cost, best.cost, rtol=1e-4, atol=1e-10)
        assert sol.success == (width == 0.4), sol.message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", ["analytic", *MODES])
def test_never_called_outside_on_a_curved_path(method, jac):
    """Steps of Rosenbrock's valley overshoot the wall at w_1 = 1.05."""
    p = problems.rosenbrock()
    lb, ub = np.array([-1.2, -0.5]), np.array([1.05, 1.1])
    F = naive.Recorded(p.F, lb, ub)
    sol = solve(
        F, p.jac if jac == "analytic" else jac, p.w0, method=method, bounds=(lb, ub), tol=1e-6, rng=0, max_iter=200
    )
    assert np.all((lb <= sol.x) & (sol.x <= ub))
    if method == "gauss-newton":
        assert sol.success, sol.message
        np.testing.assert_allclose(sol.x, [1, 1], atol=1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("corner", [0, 1])
def test_differences_from_a_corner_of_a_tiny_box(mode, corner):
    """The box is narrower than any difference step for |w| = 1: steps shrink, they do not leave."""
    lb = np.ones(3)
    ub = lb + 1e-9
    F = naive.Recorded(lambda w: 2 * w, lb, ub)
    sol = solve(F, mode, (lb, ub)[corner].copy(), bounds=(lb, ub), max_iter=20)
    assert F.calls >= 1
    assert np.all((lb <= sol.x) & (sol.x <= ub))


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize("active", [0, 1, 2, 3])
@pytest.mark.parametrize("side", [-1, 1])
def test_solution_on_face_edge_corner(active, side, method):
    """min ||w - t|| over a cube, t outside it in `active` directions."""
    t = np.array([0.1, -0.2, 0.3])
    t[:active] = 3 * side
    sol = solve(lambda w: w - t, lambda w: np.eye(3), np.full(3, 0.05), bounds=(-1, 1), method=method)
    np.testing.assert_allclose(sol.x, np.clip(t, -1, 1), atol=1e-7)
    np.testing.assert_array_equal(sol.x[:active], side)
    assert sol.status == (Status.STATIONARY if active else Status.RESIDUAL), sol.message


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize(("n", "m"), [(15, 6), (8, 8), (6, 9)])
@pytest.mark.parametrize("seed", range(4))
def test_linear_least_squares_in_a_box(seed, n, m, method):
    B, y = problems.matrix(n, m, seed), 3 * problems.vector(n, seed)
    lb, ub = np.full(m, -0.4), np.full(m, 0.3)
    best = lsq_linear(B, y, (lb, ub), method="bvls", tol=1e-14)
    sol = solve(lambda w: B @ w, lambda w: B, np.zeros(m), y, bounds=(lb, ub), method=method)
    assert best.cost > 0.01
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_allclose(sol.cost, best.cost, rtol=1e-8)
    kkt(sol, B, y, lb, ub)
    if n >= m:
        np.testing.assert_allclose(sol.x, best.x, atol=1e-5)


def test_bounds_are_met_to_the_last_bit():
    """A parameter that comes to its bound stands on it, not one rounding error before it: else the end is not seen."""
    ended = []
    for seed in range(30):
        B, y = problems.matrix(15, 6, seed, spread=10.0), 3 * problems.vector(15, seed)
        sol = solve(lambda w, B=B: B @ w, lambda w, B=B: B, np.zeros(6), y, bounds=(-0.4, 0.3), method="gauss-newton")
        near = np.minimum(sol.x + 0.4, 0.3 - sol.x) < 1e-12
        assert np.all((sol.x[near] == -0.4) | (sol.x[near] == 0.3))
        ended.append(sol.status)
    assert set(ended) == {Status.STATIONARY}


@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_printed_when_no_parameter_is_free(method, capfd):
    """LAPACK complains on stderr about systems of size zero."""
    solve(lambda w: w + 5, lambda w: np.eye(2), np.ones(2), bounds=(0, 9), method=method, rng=0, max_iter=50)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_start_on_a_bound_is_free_to_leave_it(method):
    lb, ub = np.zeros(15), np.full(15, np.inf)
    w_true = np.abs(problems.vector(15, seed=3)) + 0.1
    sol = solve(lambda w: A @ w, lambda w: A, lb, A @ w_true, bounds=(lb, ub), method=method)
    assert sol.success, sol.message
    assert np.all(sol.x >= 0)


@pytest.mark.parametrize("method", METHODS)
def test_start_on_a_bound_that_holds_it(method):
    """Both coordinates want to leave through the wall they stand at."""
    sol = solve(lambda w: w + 5, lambda w: np.eye(2), np.zeros(2), bounds=(0, 9), method=method, rng=0, max_iter=500)
    np.testing.assert_array_equal(sol.x, [0, 0])
    assert not sol.success
    if method != "sgd":
        assert sol.status == Status.STATIONARY, sol.message


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", ["analytic", *MODES])
def test_equal_bounds_fix_a_parameter(method, jac):
    lb, ub = np.full(15, -np.inf), np.full(15, np.inf)
    lb[4] = ub[4] = 0.25
    w0 = np.zeros(15)
    w0[4] = 0.25
    F = naive.Recorded(lambda w: A @ w, lb, ub)
    sol = solve(F, (lambda w: A) if jac == "analytic" else jac, w0, Y, bounds=(lb, ub), method=method, tol=1e-8, rng=0)
    assert sol.success, sol.message
    free = np.arange(15) != 4
    np.testing.assert_allclose(sol.x[free], naive.least_norm(A[:, free], Y - 0.25 * A[:, 4], w0[free]), atol=1e-5)
    assert sol.x[4] == 0.25


def test_all_parameters_fixed():
    sol = solve(lambda w: w - 2, lambda w: np.eye(2), np.ones(2), bounds=(np.ones(2), np.ones(2)))
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_array_equal(sol.x, [1, 1])


@pytest.mark.parametrize(
    "bounds",
    [
        (-0.4, 0.4),
        ([-0.4] * 15, 0.4),
        (np.full(15, -0.4), np.full(15, 0.4)),
        [-0.4, [0.4] * 15],
        Bounds(-0.4, 0.4),
        Bounds(np.full(15, -0.4), np.full(15, 0.4)),
    ],
    ids=["scalars", "mixed", "arrays", "list", "Bounds scalars", "Bounds arrays"],
)
def test_spellings_of_the_same_box(bounds):
    sol = solve(lambda w: A @ w, lambda w: A, np.zeros(15), Y, bounds=bounds, method="gauss-newton")
    plain = solve(
        lambda w: A @ w, lambda w: A, np.zeros(15), Y, bounds=([-0.4] * 15, [0.4] * 15), method="gauss-newton"
    )
    assert np.any(np.abs(naive.least_norm(A, Y, np.zeros(15))) > 0.4)
    assert np.max(np.abs(sol.x)) <= 0.4
    np.testing.assert_array_equal(sol.x, plain.x)


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), Bounds(), (np.full(15, -np.inf), np.full(15, np.inf))])
def test_infinite_bounds_change_nothing(bounds):
    free = solve(lambda w: A @ w, lambda w: A, np.ones(15), Y, method="gauss-newton")
    sol = solve(lambda w: A @ w, lambda w: A, np.ones(15), Y, bounds=bounds, method="gauss-newton")
    np.testing.assert_allclose(sol.x, free.x, rtol=1e-12)
    assert sol.status == free.status


def test_bounds_that_do_not_bind_give_the_least_norm_solution():
    sol = solve(lambda w: A @ w, lambda w: A, np.zeros(15), Y, bounds=(-10, 10), method="gauss-newton")
    np.testing.assert_allclose(sol.x, naive.least_norm(A, Y, np.zeros(15)), atol=1e-8)


@pytest.mark.parametrize("form", ["csr_array", "operator", "gram_operator"])
@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
@pytest.mark.parametrize(("n", "m"), [(15, 6), (6, 9)])
def test_sparse_and_operators_in_a_box(n, m, method, form):
    B, y = problems.matrix(n, m), 3 * problems.vector(n)
    best = lsq_linear(B, y, (-0.4, 0.3), method="bvls", tol=1e-14)
    J = problems.FORMS[form](B)
    sol = solve(lambda w: B @ w, lambda w: J, np.zeros(m), y, bounds=(-0.4, 0.3), method=method)
    np.testing.assert_allclose(sol.cost, best.cost, rtol=1e-6)


@pytest.mark.parametrize(
    ("p", "lb", "ub"),
    [
        (problems.rosenbrock(), [-1.5, -2.0], [0.5, 2.0]),
        (problems.rosenbrock(), [-1.5, 0.5], [2.0, 1.0]),
        (problems.beale(), [0.6, 0.5], [10.0, 100.0]),
        (problems.helical_valley(), [-2.0, -2.0, -2.0], [0.8, 2.0, 2.0]),
        (problems.bard(), [0.1, 0.0, 0.0], [50.0, 100.0, 50.0]),
        (problems.exponential_fit(), [0.0, 0.0, 0.0, 0.0], [2.5, 4.0, 9.0, 4.0]),
    ],
    ids=str,
)
def test_nonlinear_problems_as_scipy_ends_them(p, lb, ub):
    lb, ub = np.array(lb), np.array(ub)
    w0 = np.clip(p.w0, lb, ub)
    inside = np.clip(p.w0, lb + 1e-3, ub - 1e-3)
    best = least_squares(p.F, inside, p.jac, (lb, ub), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000)
    F = naive.Recorded(p.F, lb, ub)
    sol = solve(F, p.jac, w0, bounds=(lb, ub), method="gauss-newton")
    assert sol.cost <= best.cost * (1 + 1e-5) + 1e-15
    assert sol.status in {Status.RESIDUAL, Status.STATIONARY}, sol.message


def test_logarithm_with_its_domain_as_bounds():
    F = naive.Recorded(np.log, lb=1e-12)
    sol = solve(F, lambda w: np.diag(1 / w), np.array([30.0, 0.01]), bounds=(1e-12, np.inf), method="gauss-newton")
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 1, rtol=1e-8)


SHAPES = [(1, 2), (2, 2), (3, 6), (5, 12), (30, 30), (20, 100), (50, 300)]


def linear_in_a_box(n, m, kind, feasible, seed=0):
    """A, y, a box and a start; half of the unknowns of a solution are at bounds, where there is one."""
    rng = np.random.default_rng([seed, n, m])
    B, lb, ub = rng.standard_normal((n, m)), -rng.uniform(0, 1, m), rng.uniform(0, 1, m)
    if kind == "nonnegative":
        lb, ub = np.zeros(m), np.full(m, np.inf)
    if kind == "degenerate":  # columns that are equal, and rows
        B[:, m // 2 :] = B[:, : m - m // 2]
        B[-1] = B[0]
    top = np.minimum(ub, 1.0)
    side = rng.uniform(size=m)
    x = np.where(side < 0.25, lb, np.where((side > 0.75) & (ub < np.inf), ub, lb + (top - lb) * rng.uniform(size=m)))
    y = B @ x
    if not feasible:
        B, y = (
            (np.abs(B), -np.abs(y) - 1)
            if kind == "nonnegative"
            else (B, rng.choice([-2, 2], n) * np.abs(B).sum(axis=1))
        )
    inside, vertex = lb + (top - lb) * rng.uniform(size=m), np.where(rng.uniform(size=m) < 0.5, lb, top)
    return B, y, (lb, ub), vertex if seed % 2 else inside


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ["box", "nonnegative", "degenerate"])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_feasible_linear_systems_are_solved(n, m, kind, scaled, seed):
    B, y, bounds, w0 = linear_in_a_box(n, m, kind, True, seed)
    scale = 10.0 ** np.random.default_rng(seed).uniform(-2, 2, m) if scaled else 1.0
    F = naive.Recorded(lambda w: B @ w, *bounds)
    sol = solve(F, lambda w: B, w0, y, bounds=bounds, x_scale=scale)
    assert sol.success, sol.message
    assert sol.njev <= 20


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["box", "nonnegative", "degenerate"])
@pytest.mark.parametrize(("n", "m"), SHAPES)
def test_infeasible_linear_systems_end_at_the_least_squares(n, m, kind, seed):
    B, y, bounds, w0 = linear_in_a_box(n, m, kind, False, seed)
    best = lsq_linear(B, y, bounds, method="bvls", tol=1e-15)
    assert best.cost > 1e-3
    sol = solve(lambda w: B @ w, lambda w: B, w0, y, bounds=bounds)
    assert sol.status == Status.STATIONARY, sol.message
    np.testing.assert_allclose(sol.cost, best.cost, rtol=1e-8)
    kkt(sol, B, y, *bounds)


@pytest.mark.parametrize("form", ["csr_array", "operator", "gram_operator"])
@pytest.mark.parametrize("feasible", [True, False])
@pytest.mark.parametrize(("n", "m"), [(5, 12), (60, 300)])
@pytest.mark.parametrize("seed", range(2))
def test_linear_systems_of_other_kinds_in_a_box(n, m, feasible, form, seed):
    B, y, bounds, w0 = linear_in_a_box(n, m, "box", feasible, seed)
    J = problems.FORMS[form](B)
    sol = solve(lambda w: B @ w, lambda w: J, w0, y, bounds=bounds)
    assert sol.status == (Status.RESIDUAL if feasible else Status.STATIONARY), sol.message
    if not feasible:
        np.testing.assert_allclose(sol.cost, lsq_linear(B, y, bounds, method="bvls", tol=1e-15).cost, rtol=1e-7)


@pytest.mark.parametrize("corner", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_balanced_mixtures(seed, corner):
    """Shares that sum up to one, and slacks, all >= 0; rows of 1 and of 100. At the corner no slack seems to matter."""
    rng = np.random.default_rng(seed)
    k, n = int(rng.integers(3, 9)), int(rng.integers(2, 12))
    B, x = 100 * rng.standard_normal((n, k)), rng.uniform(0, 1, k) * (np.arange(k) % 2 == 0)
    s = B @ (x / x.sum())
    B[s < 0] *= -1
    M = np.block([[np.ones((1, k)), np.zeros((1, n))], [B, -np.eye(n)]])
    w0 = np.zeros(k + n) if corner else np.abs(rng.standard_normal(k + n))
    sol = solve(lambda w: M @ w, lambda w: M, w0, np.eye(n + 1)[0], bounds=(0, np.inf))
    assert sol.success, sol.message
    assert sol.njev <= 3


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("seed", range(6))
def test_the_step_is_that_of_bounded_least_squares(n, m, seed):
    B, y, bounds, w0 = linear_in_a_box(n, m, "box", seed % 3 != 0, seed)
    low, high = bounds[0] - w0, bounds[1] - w0
    r, T = B @ w0 - y, tangent(B, np.empty(0))
    H = T.inverse(np.empty(0, np.bool_), True)
    p, Jp, _ = boxed(T, H, r, -H.solve(r), np.empty(0, np.bool_), low, high)
    assert np.all((low <= p) & (p <= high))
    best = lsq_linear(B, -r, (low, high), method="bvls", tol=1e-15)
    np.testing.assert_allclose(Jp, B @ p, atol=1e-12 * np.linalg.norm(r))
    assert naive.loss(r + B @ p) <= best.cost * (1 + 1e-9) + 1e-16 * naive.loss(r)


def test_a_step_within_the_box_is_left_alone():
    T, r = tangent(A, np.empty(0)), -Y
    H = T.inverse(np.empty(0, np.bool_), False)
    gn = -H.solve(r)
    p, _, same = boxed(T, H, r, gn, np.empty(0, np.bool_), np.full(15, -10.0), np.full(15, 10.0))
    np.testing.assert_array_equal(p, gn)
    assert same is H


def test_joint_limits():
    """An arm of four links in the plane, position and direction of its hand: not fewer targets than scipy's trf."""

    arm = testing.planar_arm(4)

    def pose(w):
        return np.append(arm.F(w), w.sum())

    def jac(w):
        return np.vstack([arm.jac(w), np.ones(4)])

    limit, rng = np.array([2.0, 1.5, 1.5, 1.0]), np.random.default_rng(0)
    solved = {"plsolve": 0, "trf": 0}
    for w in rng.uniform(-limit, limit, (60, 4)):
        target = pose(w)
        sol = solve(pose, jac, 0.1 * limit, target, bounds=(-limit, limit))
        tight = {"bounds": (-limit, limit), "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        trf = least_squares(lambda w, target=target: pose(w) - target, 0.1 * limit, jac, **tight)
        solved["plsolve"] += sol.success
        solved["trf"] += np.linalg.norm(trf.fun) < 1e-8
        assert np.all(np.abs(sol.x) <= limit)
    assert solved["plsolve"] >= solved["trf"] > 30, solved


def test_bounds_are_not_modified():
    lb, ub = np.full(15, -0.5), np.full(15, 0.5)
    solve(lambda w: A @ w, lambda w: A, np.zeros(15), Y, bounds=(lb, ub))
    np.testing.assert_array_equal(lb, -0.5)
    np.testing.assert_array_equal(ub, 0.5)


@pytest.mark.parametrize("name", bounded_fits.MODELS)
def test_bounds_that_are_not_active_do_not_catch_a_fit(name):
    """The best minimum from perturbed starts as often as scipy's trf, but for two of 20."""
    methods = {"trf": least_squares, "least_squares": plsolve.least_squares, "solve": bounded_fits.solved}
    with np.errstate(all="ignore"):
        rows = bounded_fits.table(name, "all", methods, starts=20)[:, :, 0]
    reached = (rows <= (1 + 1e-6) * rows.min()).sum(axis=0)
    assert reached[1:].min() >= reached[0] - 2


@pytest.mark.parametrize("n", [6, 9, 40])
@pytest.mark.parametrize("seed", range(6))
def test_curved_fits_end_exactly_on_their_active_bounds(n, seed):
    B = problems.matrix(n, 6, seed)
    y = np.arctan(B @ np.linspace(-2, 2, 6))
    res = plsolve.least_squares(lambda w: np.arctan(B @ w) - y, np.zeros(6), bounds=(-1.0, 1.3))
    tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    ref = least_squares(lambda w: np.arctan(B @ w) - y, np.zeros(6), bounds=(-1.0, 1.3), **tight)
    assert res.success
    assert res.cost <= ref.cost * (1 + 1e-6)
    near = np.minimum(res.x + 1.0, 1.3 - res.x) < 1e-6
    assert near.any()
    assert np.isin(res.x[near], [-1.0, 1.3]).all()
