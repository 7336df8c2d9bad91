"""options={"nearest": True}: min ||w - w0|| subject to F(w) = y, checked by its KKT conditions (theory 7.9)."""

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve


def kkt(p, sol, y=0.0, rtol=1e-6):
    """F(w) = y, and w - w0 is a combination of the rows of J(w)."""
    J = np.asarray(p.jac(sol.x))
    assert np.linalg.norm(p.F(sol.x) - y) <= 1e-9 * np.linalg.norm(p.F(p.w0))
    d = sol.x - p.w0
    assert np.linalg.norm(naive.off_row_space(J, d)) <= rtol * np.linalg.norm(d)


@pytest.mark.parametrize(
    "p", [problems.tanh_system(5, 20), problems.tanh_system(1, 5), problems.tanh_system(20, 200)], ids=str
)
def test_kkt_conditions(p):
    sol = solve(p.F, p.jac, p.w0, method="gauss-newton", options={"nearest": True})
    assert sol.status == Status.RESIDUAL, sol.message
    kkt(p, sol)
    plain = solve(p.F, p.jac, p.w0, method="gauss-newton")
    assert np.linalg.norm(sol.x - p.w0) <= np.linalg.norm(plain.x - p.w0) * (1 + 1e-9)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_point_of_a_sphere(n):
    """The point of ||w|| = 1 nearest to w0 is w0 / ||w0||."""
    w0 = np.arange(1.0, n + 1)
    sol = solve(
        lambda w: np.array([w @ w]), lambda w: 2 * w[None], w0, [1.0], method="gauss-newton", options={"nearest": True}
    )
    np.testing.assert_allclose(sol.x, w0 / np.linalg.norm(w0), rtol=1e-7)


def test_point_of_an_ellipse():
    """Plain Gauss-Newton ends elsewhere: here the option must do something."""
    q = np.array([1.0, 4.0])
    w0 = np.array([1.5, 0.6])

    def F(w):
        return np.array([q @ w**2])

    def jac(w):
        return (2 * q * w)[None]

    t = np.linspace(0, np.pi / 2, 2_000_001)
    ellipse = np.stack([np.cos(t), np.sin(t) / 2])
    k = np.argmin(np.sum((ellipse - w0[:, None]) ** 2, axis=0))
    sol = solve(F, jac, w0, [1.0], method="gauss-newton", options={"nearest": True})
    np.testing.assert_allclose(sol.x, ellipse[:, k], atol=1e-5)
    plain = solve(F, jac, w0, [1.0], method="gauss-newton")
    assert np.linalg.norm(plain.x - sol.x) > 1e-4


def test_arm_moves_least():
    p = problems.planar_arm()
    target = np.array([2.0, 1.0])
    sol = solve(p.F, p.jac, p.w0, target, method="gauss-newton", options={"nearest": True})
    assert sol.status == Status.RESIDUAL, sol.message
    kkt(p, sol, target)


def test_linear_system_needs_no_more_than_plain():
    A, y, w0 = problems.matrix(6, 15), problems.vector(6), problems.vector(15)
    sol = solve(lambda w: A @ w, lambda w: A, w0, y, method="gauss-newton", options={"nearest": True})
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, naive.least_norm(A, y, w0), atol=1e-8)
    assert sol.nit <= 3


@pytest.mark.parametrize("form", ["csr_array", "operator", "gram_operator"])
def test_other_forms_of_jacobian(form):
    p = problems.tanh_system(5, 20)
    wrap = problems.FORMS[form]
    sol = solve(p.F, lambda w: wrap(p.jac(w)), p.w0, method="gauss-newton", options={"nearest": True})
    kkt(p, sol)


def test_false_is_the_default():
    p = problems.tanh_system(5, 20)
    off = solve(p.F, p.jac, p.w0, method="gauss-newton", options={"nearest": False})
    plain = solve(p.F, p.jac, p.w0, method="gauss-newton")
    np.testing.assert_array_equal(off.x, plain.x)


@pytest.mark.parametrize("tol", [1e-11, 1e-14])
def test_rounding_does_not_hide_that_it_is_reached(tol):
    """The kernel of an arm is as ill-conditioned as its target is near a singular pose: here kappa(J) is 8 to 2700."""
    arms = pytest.importorskip("benchmarks.checks.arms")  # in numba
    common = {"tol": tol, "options": {"nearest": True}, "compiled": False, "certify": False}
    for goal in [*arms.reachable(12, 0), arms.reachable(148, 0)[-1]]:
        sol = solve(arms.pose, arms.pose_jac, arms.READY, args=(goal,), **common)
        if sol.success:
            assert "nearest" not in sol.message
            d = sol.x - arms.READY
            assert np.linalg.norm(naive.off_row_space(arms.pose_jac(sol.x, goal), d)) <= 1e-5 * np.linalg.norm(d)


@pytest.mark.parametrize("w0", [(3.0, 0.1), (3.0, 0.7), (2.0, -0.5)])
def test_a_corner_is_nearest_but_no_kkt_point(w0):
    """The solutions w[0] = 1 - |w[1]| end in a corner, where d does not vanish: that has to be said."""
    sol = solve(
        lambda w: np.array([w[0] + abs(w[1]) - 1]),
        lambda w: np.array([[1.0, np.copysign(1.0, w[1])]]),
        w0,
        options={"nearest": True},
        method="gauss-newton",
    )
    assert sol.success
    assert "was not reached (STALLED)" in sol.message
    np.testing.assert_allclose(sol.x, [1.0, 0.0], atol=1e-6)
