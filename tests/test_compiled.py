"""Compiled runs of Gauss-Newton agree with interpreted ones."""

import numpy as np
import pytest
from jitted import (
    decay,
    decay_jac,
    decays,
    hand,
    hand_jac,
    valley,
    valley_jac,
    wavy,
    wavy_jac,
    wavy_rows,
    wavy_rows_jac,
)
from numba import njit

from plsolve import solve, solve_batch

A = np.random.default_rng(0).standard_normal((6, 25)) / 5
B = np.random.default_rng(1).standard_normal((12, 4))

PROBLEMS = {
    "hand": (hand, hand_jac, np.full(7, 0.1), None, ()),
    "wavy": (wavy, wavy_jac, np.zeros(25), None, (A, 0.3)),
    "valley": (valley, valley_jac, np.array([-1.2, 1.0]), None, ()),
    "overdetermined": (wavy, wavy_jac, np.ones(4), None, (B, 0.2)),
    "rows": (wavy_rows, wavy_rows_jac, np.zeros(25), np.full(6, 0.5), (A, 0.3)),
}


def both(name, jac=True, **settings):
    F, J, w0, y, args = PROBLEMS[name]
    runs = []
    for compiled in (True, False):
        run = solve(F, J if jac else None, w0, y, args=args, compiled=compiled, **settings)
        assert run.compiled is compiled
        runs.append(run)
    return runs


def agree(one, two, rtol, last=0):
    """last: how many of the last steps are judged by rounding alone, so that one mode may take them, the other not."""
    assert one.status == two.status
    assert one.message == two.message
    assert abs(one.nit - two.nit) <= last
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=rtol * (np.linalg.norm(two.x) or 1))
    if last == 0:
        assert (one.nfev, one.nfev_jac) == (two.nfev, two.nfev_jac)
        assert one.njev == two.njev
        np.testing.assert_array_equal(one.history.nit, two.history.nit)


@pytest.mark.parametrize("bounds", [None, (-5.0, 5.0)], ids=["free", "wide bounds"])
def test_chord_steps_are_the_same(bounds):
    """From eight equations on Gauss-Newton keeps its factor for more than one step, in a box too."""
    C = np.random.default_rng(2).standard_normal((12, 30)) / 5
    one, two = (
        solve(wavy, wavy_jac, np.zeros(30), args=(C, 0.3), bounds=bounds, method="gauss-newton", compiled=compiled)
        for compiled in (True, False)
    )
    agree(one, two, 1e-8)
    assert two.nfev > two.njev + 2


@njit
def far(w, A, B, y):
    return np.tanh(A @ w) + B @ np.sin(w) - y


@njit
def far_jac(w, A, B, y):
    return (1.0 - np.tanh(A @ w) ** 2).reshape(-1, 1) * A + B * np.cos(w)


@pytest.mark.parametrize(("n", "m"), [(1, 3), (4, 9), (5, 5), (9, 12), (20, 60)])
@pytest.mark.parametrize(
    "settings",
    [{}, {"bounds": (-4.0, 4.0)}, {"x_scale": "jac"}, {"x_scale": 1e-3}],
    ids=["", "bounds", "scaled by J", "small units"],
)
def test_far_starts_end_alike(n, m, settings):
    """The two sources of Gauss-Newton agree, but where rounding decides after many steps."""
    solved, differ, other, distances = 0, 0, 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        A, B = rng.standard_normal((n, m)), 0.3 * rng.standard_normal((n, m))
        start, goal = rng.standard_normal(m), rng.standard_normal(m)
        args = A, B, np.tanh(A @ goal) + B @ np.sin(goal)
        one, two = (
            solve(far, far_jac, start, args=args, method="gauss-newton", certify=False, compiled=compiled, **settings)
            for compiled in (True, False)
        )
        assert one.compiled
        assert not one.success or np.linalg.norm(one.fun) <= 1e-9 * max(1.0, np.linalg.norm(args[2]))
        solved += two.success
        differ += one.success != two.success
        other += one.status != two.status
        if one.success and two.success:
            distances.append(np.linalg.norm(one.x - start) - np.linalg.norm(two.x - start))
    assert solved >= 3
    assert differ <= 1 + (n >= 9)  # and whether it finds something after some hundred
    assert other <= 1 + 2 * (n >= 9)  # why a run ends that finds nothing within some hundred steps
    assert np.median(np.abs(distances)) < 1e-6


@njit
def raised_squares(w, A, least):
    return (A @ w) ** 2 + least


@njit
def raised_squares_jac(w, A, least):
    return 2.0 * (A @ w).reshape(-1, 1) * A


@pytest.mark.parametrize(("n", "m"), [(1, 2), (1, 5), (3, 3), (5, 10), (10, 10), (10, 40)])
@pytest.mark.parametrize(
    "settings", [{}, {"bounds": (-4.0, 6.0)}, {"x_scale": "jac"}, {"max_iter": 20}], ids=["", "bounds", "scaled", "few"]
)
def test_systems_without_a_solution_cost_as_much(n, m, settings):
    """Phases and kicks are granted the same number of Jacobians, and end for the same reasons."""
    alike = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        A, least, w0 = rng.standard_normal((n, m)) / np.sqrt(m), rng.uniform(0.5, 2.0, n), 3.0 * rng.standard_normal(m)
        one, two = (
            solve(raised_squares, raised_squares_jac, np.clip(w0, -4.0, 6.0), args=(A, least), certify=False,
                  compiled=compiled, **settings)
            for compiled in (True, False)
        )  # fmt: skip
        assert one.compiled
        assert not one.success
        assert one.status == two.status
        alike += (one.njev, one.nit) == (two.njev, two.nit)
    assert alike >= 7  # of 8: rounding


@njit
def steep(w):
    return w + 0.1 * w**3 - 1.0


@njit
def steep_jac(w):
    return np.array([[1.0 + 0.3 * w[0] ** 2]])


@pytest.mark.parametrize("start", [1.0, 1e5, -1e10, 1e20])
@pytest.mark.parametrize("jac", [steep_jac, None], ids=["jac", "differences"])
def test_from_afar_the_end_is_as_near(start, jac):
    for compiled in (True, False):
        sol = solve(steep, jac, np.array([start]), compiled=compiled)
        assert sol.success
        assert sol.x[0] == pytest.approx(0.921698991, rel=1e-7)


@njit
def powell(w):
    return np.array([1e4 * w[0] * w[1] - 1.0, np.exp(np.minimum(-w, 300.0)).sum() - 1.0001])


@njit
def powell_jac(w):
    e = np.exp(np.minimum(-w, 300.0))
    return np.array([[1e4 * w[1], 1e4 * w[0]], [-e[0], -e[1]]])


@pytest.mark.parametrize("start", [10.0, 100.0, 1000.0])
def test_kicks_end_where_no_step_follows(start):
    sol = solve(powell, powell_jac, np.array([0.0, start]), max_iter=100, compiled=True)
    assert sol.nit <= 100
    assert sol.nfev < 50_000


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("jac", [True, False], ids=["jac", "differences"])
@pytest.mark.parametrize(
    "settings", [{}, {"x_scale": "jac"}, {"options": {"nearest": True}}], ids=["", "scaled", "nearest"]
)
def test_gauss_newton_ends_at_the_same_point(name, jac, settings):
    if name == "overdetermined":  # the method for such systems is interpreted, unless a linear solver is asked for
        settings = {**settings, "options": {"linear_solver": "cholesky", **settings.get("options", {})}}
    one, two = both(name, jac, method="gauss-newton", **settings)
    last = 2 if name == "overdetermined" or "options" in settings else 0
    noise = 1e-6
    if (
        not jac and "x_scale" in settings
    ):  # unknowns near zero: steps of 1e-10 leave J six digits, and one call more or less
        last, noise = max(last, 1), 1e-5
    agree(one, two, 1e-8 if jac else noise, last)


@pytest.mark.parametrize("name", ["hand", "wavy", "valley"])
def test_within_bounds(name):
    start = PROBLEMS[name][2]
    box = (start - 0.4, start + 0.3)
    one, two = both(name, bounds=box, max_iter=100)
    unsolved = name == "hand"  # a minimum of the residual, known to half the digits
    agree(one, two, 1e-7 if unsolved else 1e-10, last=2 * unsolved)
    assert (one.x >= box[0]).all()
    assert (one.x <= box[1]).all()


@njit
def affine(w, A, b):
    return A @ w - b


@njit
def affine_jac(w, A, b):
    return A


@pytest.mark.parametrize(
    ("n", "m", "rank"), [(6, 9, 4), (5, 5, 3), (9, 4, 2), (9, 4, 4), (30, 50, 10), (60, 20, 19), (4, 7, 0), (1, 1, 1)]
)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_rank_deficient_systems_take_the_shortest_step(n, m, rank, scale):
    rng = np.random.default_rng(n + m + rank)
    A = scale * rng.standard_normal((n, rank)) @ rng.standard_normal((rank, m))
    b = A @ rng.standard_normal(m)
    sol = solve(affine, affine_jac, np.zeros(m), args=(A, b), compiled=True)
    assert sol.compiled
    assert sol.success
    np.testing.assert_allclose(sol.x, np.linalg.pinv(A, rcond=1e-12) @ b, rtol=0, atol=1e-7)


def test_three_point_differences():
    runs = [solve(hand, "3-point", np.full(7, 0.1), compiled=c) for c in (True, False)]
    agree(*runs, 1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("jac", [decay_jac, None], ids=["jac", "differences"])
@pytest.mark.parametrize("bounds", [None, ((0.0, 0.0, -2.0), (5.0, 2.0, 2.0))], ids=["free", "bounds"])
def test_more_equations_than_unknowns(noise, jac, bounds):
    x, Y = decays(8, noise)
    for y in Y:
        one, two = (
            solve(decay, jac, [1.0, 1.0, 0.0], args=(x, y), bounds=bounds, compiled=compiled)
            for compiled in (True, False)
        )
        assert one.compiled
        assert one.success == two.success
        np.testing.assert_allclose(one.cost, two.cost, rtol=1e-6, atol=1e-16)
        np.testing.assert_allclose(one.x, two.x, rtol=0, atol=3e-4 if noise else 1e-6)


def test_a_residual_that_curves_is_left_to_the_method_that_knows_of_it():
    """The Jacobian alone leads to and fro here (Brown and Dennis)."""

    def F(w):
        t = np.arange(1, 21) / 5.0
        return (w[0] + t * w[1] - np.exp(t)) ** 2 + (w[2] + w[3] * np.sin(t) - np.cos(t)) ** 2

    start = [25.0, 5.0, -5.0, -1.0]
    one, two = (solve(F, None, start, compiled=compiled) for compiled in (True, False))
    assert one.compiled
    assert one.status == two.status
    np.testing.assert_allclose(one.cost, two.cost, rtol=1e-8)
    batch = solve_batch(F, None, np.array([start] * 3), compiled=True)
    np.testing.assert_allclose(batch.x[2], two.x, rtol=1e-3)


@pytest.mark.parametrize("xtol", [1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("beta", [None, 5.0])
def test_calls_of_the_test_of_xtol_are_counted(xtol, beta):
    """It asks for F and J between the steps of the kernel, which does not know of these calls."""

    @njit
    def F(w, counts):
        counts[0] += 1
        return np.array([w[0] ** 2 + w[1] - 2.0, np.sin(w[1]) + w[2]])

    @njit
    def jac(w, counts):
        counts[1] += 1
        return np.array([[2 * w[0], 1.0, 0.0], [0.0, np.cos(w[1]), 1.0]])

    for start in ([3.0, 1.0, 2.0], [-9.0, 4.0, 0.5], [0.1, 30.0, -7.0]):
        counts = np.zeros(2, np.int64)
        sol = solve(F, jac, start, args=(counts,), xtol=xtol, beta=beta, compiled=True)
        assert sol.success
        assert (sol.nfev, sol.njev) == tuple(counts)


@njit
def bent(w, A, B, b):
    """A w, and far away one more slope in the first unknown."""
    f = A @ w
    f[0] += 0.3 * b * np.log1p(np.exp(10.0 * (w[0] - 3.0)))
    return f


@njit
def bent_jac(w, A, B, b):
    J = B.copy()
    J[0, 0] += 3.0 * b / (1.0 + np.exp(-10.0 * (w[0] - 3.0)))
    return J


@pytest.mark.parametrize("compiled", [True, False])
def test_steps_that_contradict_beta_and_steps_that_are_rounded(compiled):
    A = np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-14]])
    weak = np.linalg.svd(A)[2][-1]
    for signs in ([[1, -1], [-1, 1]], [[-1, 1], [1, -1]], [[1, 1], [-1, -1]]):  # J as inaccurate as it may be
        args = A, A * (1.0 + 8.0 * 2.0**-53 * np.array(signs)), 0.0
        for length in (1.0, 1e3):
            sol = solve(bent, bent_jac, np.zeros(2), A @ (length * weak), args=args, beta=0.0, compiled=compiled)
            assert sol.certificate.rigorous  # a warning is an error
    sol = solve(bent, bent_jac, [3.2, 0.0], [0.5, 0.1], args=(np.eye(2), np.eye(2), 1.0), beta=1e-3, compiled=compiled)
    assert sol.success
    with pytest.warns(RuntimeWarning, match="contradicted"):
        assert not sol.certificate.rigorous
