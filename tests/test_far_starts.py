"""Far starts: the watchdog over Gauss-Newton's steps, first steps that do not leap, one route behind every door."""

import numpy as np
import problems
import pytest
from scipy.sparse import csr_array

from benchmarks.checks.far_starts import BEFORE
from benchmarks.far_families import FAMILIES, NONE
from plsolve import Status, least_squares, root, solve, testing


class Counted:
    """F - y and J of a family's system, with the number of calls and the best point."""

    def __init__(self, case):
        self._F, self._jac, self.w0, self._y = case
        self.calls, self.least = [0, 0], np.inf

    def F(self, w):
        self.calls[0] += 1
        r = self._F(w) - self._y
        self.least = min(self.least, np.linalg.norm(r))
        return r

    def jac(self, w):
        self.calls[1] += 1
        return self._jac(w)


@pytest.mark.parametrize("form", ["array", "csr_array", "operator", "gram_operator"])
@pytest.mark.parametrize("name", ["sine 10x20 c3", "sine 30x120 c5"])
def test_far_starts_are_solved_whatever_kind_jacobians_are(name, form):
    wrap = problems.FORMS.get(form, np.asarray)
    solved = 0
    for seed in range(200, 206):
        case = Counted(FAMILIES[name](seed))
        sol = solve(case.F, lambda w, c=case: wrap(c.jac(w)), case.w0)
        solved += sol.success
        assert sol.success == (np.linalg.norm(case.F(sol.x)) <= 1e-9 * sol.history.loss[0] ** 0.5)
        assert np.all(np.diff(sol.history.nit) > 0)
        assert np.all(sol.history.loss <= sol.history.loss[0])
    assert solved >= 5


@pytest.mark.parametrize("jac", [None, "2-point"])
def test_far_starts_with_differences_and_bounds(jac):
    solved = 0
    for seed in range(4):
        F, _, w0, y = FAMILIES["sine 10x20 c3"](seed)
        bounds = w0 - 12.0, w0 + 12.0

        def inside(w, F=F, bounds=bounds):
            assert np.all((bounds[0] <= w) & (w <= bounds[1]))
            return F(w)

        solved += solve(inside, jac, w0, y, bounds=bounds).success
    assert solved >= 3


@pytest.mark.parametrize("name", sorted(NONE))
def test_without_a_solution_a_run_ends_with_its_verdict(name):
    """No success, and x is the best point."""
    for seed in range(3):
        case = Counted(NONE[name](seed))
        with np.errstate(over="ignore"):  # of exp, at trial points
            sol = solve(case.F, case.jac, case.w0, max_iter=400)
        assert sol.status in {Status.STALLED, Status.STATIONARY, Status.MAX_ITER}, sol.message
        assert np.linalg.norm(sol.fun) <= case.least * (1 + 1e-5)
        assert case.calls == [sol.nfev, sol.njev]


@pytest.mark.parametrize("name", sorted(NONE))
def test_without_a_solution_a_run_ends_soon(name):
    """Next to a minimum that is not zero: after three times the Jacobians of a monotone run (rounding tips some)."""
    with np.errstate(over="ignore"):  # of exp, at trial points
        njev = [solve(*NONE[name](seed), max_iter=400, compiled=False).njev for seed in range(20)]
    assert np.median(njev) <= 3.2 * BEFORE[name]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("name", "seeds"), [("sine 10x100 c20", [100, 104, 107, 108]), ("sine 3x6 c8", [109]), ("sine 10x20 c8", [100])]
)
def test_where_the_gradient_is_steep_a_run_goes_on(name, seeds, scaled):
    """Stuck in a fold, with a way on: what that is does not depend on the units of w."""
    for seed in seeds:
        case = Counted(FAMILIES[name](seed))
        d = 2.0 ** np.random.default_rng(seed).integers(-8, 9, case.w0.size) if scaled else np.ones(case.w0.size)

        def F(v, F=case.F, d=d):
            return F(d * v)

        def jac(v, jac=case.jac, d=d):
            return jac(d * v) * d

        sol = solve(F, jac, case.w0 / d, max_iter=400, x_scale=1 / d, compiled=False)
        assert sol.success
        assert case.least <= 1e-9 * np.linalg.norm(case.F(case.w0))


def test_arms_whose_steps_end_at_a_minimum_reach_their_targets():
    """Kicks lead out of a minimum, and one that falls back to it is given up as soon as its residual tells."""
    arms = pytest.importorskip("benchmarks.checks.arms")  # in numba
    goals, njev = arms.reachable(900, 0), []
    for k in (7, 17, 133, 196, 241, 277, 347, 412, 486, 517, 522, 682, 863, 880):
        common = {"tol": 1e-11, "certify": False, "compiled": False}
        sol = solve(arms.pose, arms.pose_jac, arms.READY, args=(goals[k],), **common)
        assert sol.success == (np.linalg.norm(arms.pose(sol.x, goals[k])) <= 1e-10)
        njev.append(sol.njev if sol.success else 200)
    assert np.sum(np.array(njev) < 70) >= 10


def test_what_converges_is_left_alone():
    """The watchdog never comes in where the residual falls."""
    for name in ("net 30x120", "quad 10x20 s3", "truss 18 of 24", "phase 20x40"):
        F, jac, w0, y = FAMILIES[name](0)
        sol = solve(F, jac, w0, y)
        assert sol.success
        assert np.all(np.diff(sol.history.loss) <= 0)


def test_a_phase_that_meets_a_jacobian_that_is_not_finite_is_over():
    F, jac, w0, y = FAMILIES["sine 30x60 c5"](100)
    calls = []

    def broken(w):
        calls.append(w)
        return np.full((30, 60), np.nan) if len(calls) == 12 else jac(w)

    sol = solve(F, broken, w0, y, max_iter=60)
    assert len(calls) > 12
    assert sol.history.loss.min() == sol.cost


@pytest.mark.parametrize("size", [1e-1, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_first_steps_near_a_singular_start_do_not_leap(n, size):
    """An arm that is nearly stretched out: gn is some 1/size long, a solution is a radian away."""
    arm = testing.planar_arm(n)
    for jac in (arm.jac, None):
        sol = solve(arm.F, jac, np.full(n, size), [0.75 * n, 0.3])
        assert sol.success, sol.message
        assert np.abs(sol.x).max() < 4.0


def helical(v):
    """The orbit of a well-known exercise: three equations, solved by (3, 3, 2)."""
    a, r, h = v
    y = 1 + h
    return np.array(
        [
            -0.5 * a * (a + 1) * r * h * h + a * r * h - r * (1 - y**-a) + 56.8888888888,
            -a * (a + 1) * r * h * h + a * r * h * (1 - y ** -(a + 1)) + 126.222222222,
            -a * (a + 1) * r * h * h * (1 - y ** -(a + 2)) + 143.407407407,
        ]
    )


def powers(n):
    """Sums of powers, from a start where all unknowns are equal and J has rank one."""
    roots = np.arange(1, n + 1) / n
    target = np.array([np.sum(roots ** (k + 1)) for k in range(n)])
    return (
        lambda w: np.array([np.sum(w ** (k + 1)) for k in range(n)]) - target,
        lambda w: np.array([(k + 1) * w**k for k in range(n)]),
        np.full(n, 0.6),
    )


@pytest.mark.parametrize("bounds", [None, ([-np.inf, -np.inf, -0.5], np.inf)])
def test_every_door_solves_a_square_system_in_a_valley(bounds):
    start = [1.0, 0.0, 1.0]
    free = (-np.inf, np.inf) if bounds is None else bounds
    runs = [solve(helical, "3-point", start, bounds=bounds), least_squares(helical, start, "3-point", free)]
    runs += [root(helical, start)] if bounds is None else []
    for sol in runs:
        assert sol.success, sol.message
        assert np.linalg.norm(helical(sol.x)) < 1e-8
        assert sol.nit <= 25


@pytest.mark.parametrize("n", [4, 5])
def test_a_symmetric_start_is_left(n):
    F, jac, w0 = powers(n)
    for sol in (solve(F, jac, w0), root(F, w0, jac=jac)):
        assert sol.success, sol.message


@pytest.mark.parametrize("name", ["chem 12 of 12", "planar 3 pose", "quad 10x10"])
def test_every_door_takes_the_same_way(name):
    """solve, root and least_squares see the same points of a square system until the first of them is satisfied."""
    for seed in range(4):
        ways = []
        for door in ("solve", "root", "least_squares"):
            F, jac, w0, y = FAMILIES[name](seed)
            points = []

            def watched(w, jac=jac, points=points):
                points.append(w.copy())
                return jac(w)

            def r(w, F=F, y=y):
                return F(w) - y

            if door == "solve":
                solve(r, watched, w0, tol=0.0, certify=False)
            elif door == "root":
                root(r, w0, jac=watched)
            else:
                least_squares(r, w0, watched)
            ways.append(points)
        shared = min(map(len, ways)) - 1
        assert shared >= 3
        for other in ways[1:]:
            np.testing.assert_allclose(other[:shared], ways[0][:shared], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("spread", [6, 8, 12, 50, 150])
def test_any_given_scale_solves_what_is_easy(spread):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        A, w = rng.standard_normal((3, 3)), 0.3 * rng.standard_normal(3)

        def F(v, A=A):
            return np.tanh(A @ v) + A @ v

        scale = 10.0 ** rng.uniform(-spread, spread, 3)

        def jac(v, A=A):
            return (2 - np.tanh(A @ v) ** 2)[:, None] * A

        runs = [solve(F, jac, np.zeros(3), F(w), x_scale=scale)]
        runs += [least_squares(lambda v, F=F, w=w: F(v) - F(w), np.zeros(3), jac, x_scale=scale)]
        for sol in runs:
            assert sol.success, sol.message
            np.testing.assert_allclose(F(sol.x), F(w), atol=1e-8)


def test_sparse_square_systems_too():
    F, jac, w0, y = FAMILIES["planar 3 pose"](1)
    sol = solve(F, lambda w: csr_array(jac(w)), w0, y)
    assert sol.success, sol.message


@pytest.mark.parametrize("name", ["sine 10x20 c3", "sine 30x60 c5", "pendulum 4 of 16"])
def test_least_squares_takes_no_phase_for_the_end(name):
    """A phase of the watchdog begins or ends without a step: that is not a step that was small."""
    for seed in range(100, 105):
        F, jac, w0, y = FAMILIES[name](seed)
        res = least_squares(lambda w, F=F, y=y: F(w) - y, w0, jac, max_nfev=400)
        if res.status in (1, 2, 4):
            cosine = np.abs(jac(res.x).T @ res.fun).max() / np.linalg.norm(jac(res.x)) / np.linalg.norm(res.fun)
            assert np.linalg.norm(res.fun) < 1e-8 or cosine < 1e-4
