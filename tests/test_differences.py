"""Jacobians by differences: their accuracy where parameters differ by many decades, and what they cost."""

import naive
import numpy as np
import problems
import pytest
from scipy.sparse import csr_array, diags_array

from plsolve import solve
from plsolve._differences import RELATIVE, Sparsity, parabola, sparse_jacobian

UNITS = np.array([1e-7, 1e7, 1e-3, 3.0])
ACCURACY = {None: 1e-6, "2-point": 1e-6, "3-point": 1e-9, "cs": 1e-13}


@pytest.mark.parametrize("mode", ACCURACY)
def test_steps_are_relative_to_each_parameter(mode):
    """Two decays whose rates are 1e7 and 3 and whose weights are 1e-7 and 1e-3: each column to the same digits."""
    p = problems.exponential_fit()
    w0 = UNITS * np.array([1.3, 0.7, 2.0, 0.4])
    sol = solve(lambda w: p.F(w / UNITS), mode, w0, max_iter=0)
    J = p.jac(w0 / UNITS) / UNITS
    error = np.linalg.norm(sol.jac - J, axis=0) / np.linalg.norm(J, axis=0)
    assert np.max(error) <= ACCURACY[mode]


@pytest.mark.parametrize("mode", ACCURACY)
def test_at_zero(mode):
    sol = solve(lambda w: np.sin(w) + 1, mode, np.zeros(3), max_iter=0)
    np.testing.assert_allclose(sol.jac, np.eye(3), atol=1e-6)


@pytest.mark.parametrize("mode", ACCURACY)
def test_negative_parameters(mode):
    w0 = np.array([-2.0, -0.3, -30.0])
    sol = solve(lambda w: w**3, mode, w0, max_iter=0)
    np.testing.assert_allclose(np.diag(sol.jac), 3 * w0**2, rtol=1e-6)


@pytest.mark.parametrize("mode", ACCURACY)
def test_equations_in_different_units(mode):
    """One equation in units 1e-8, one in 1e8: what is rounding to one is signal to the other."""
    units = np.array([1e-8, 1e8])
    w0 = np.array([2e-4, 3e-4])
    sol = solve(lambda w: units * np.stack([w[0] ** 2, w[1] ** 2]), mode, w0, max_iter=0)
    np.testing.assert_allclose(np.diag(sol.jac), 2 * units * w0, rtol=1e-6)


@pytest.mark.parametrize(("mode", "calls"), [("2-point", 9), ("3-point", 18), ("cs", 9)])
def test_cost_of_one_jacobian(mode, calls):
    p = problems.tanh_system(4, 9)
    F = naive.Recorded(p.F)
    sol = solve(F, mode, p.w0, max_iter=0)
    assert sol.grad.shape == (9,)
    assert F.calls == 1 + calls
    assert (sol.nfev, sol.njev, sol.nfev_jac) == (1, 0, 0)  # of the run


def test_chosen_by_us_is_exact_enough_near_the_end():
    """jac=None: one-sided first, central near the end, so that tol = 1e-10 is reached and the last slope is good."""
    p = problems.tanh_system(6, 6)
    sol = solve(p.F, None, p.w0, tol=1e-10)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.jac, p.jac(sol.x), rtol=1e-6, atol=1e-7)


def test_fit_with_a_residual_keeps_its_digits():
    """With a residual the accuracy of J decides that of w: central differences near the end give six digits."""
    p = problems.exponential_fit()
    exact = solve(p.F, p.jac, p.w0, method="gauss-newton")
    by_differences = solve(p.F, None, p.w0, method="gauss-newton")
    np.testing.assert_allclose(by_differences.x, exact.x, rtol=1e-5)


def test_complex_step_needs_a_complex_F():
    """F sees complex w, and only then."""
    kinds = []

    def F(w):
        kinds.append(np.iscomplexobj(w))
        return np.exp(w) - 2

    sol = solve(F, "cs", np.zeros(2))
    np.testing.assert_allclose(sol.x, np.log(2), rtol=1e-9)
    assert any(kinds)
    assert not kinds[0]


@pytest.mark.parametrize("mode", [None, "2-point", "3-point"])
def test_kink_at_the_start_does_not_stop_the_run(mode):
    sol = solve(lambda w: w + np.abs(w) / 2 - 3, mode, np.zeros(2), tol=1e-7)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 2, rtol=1e-6)


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("mode", [None, "2-point", "3-point", "cs"])
def test_all_methods(method, mode):
    p = problems.tanh_system(4, 9)
    sol = solve(p.F, mode, p.w0, method=method, tol=1e-7, rng=0)
    assert sol.success, sol.message
    assert naive.loss(p.F(sol.x)) <= 1e-14 * naive.loss(p.F(p.w0))


@pytest.mark.parametrize("distance", [1e-4, 1e-6, 3e-7])
def test_close_to_an_end_of_F(distance):
    """log(1 + w) just above w = -1: the usual central step would bring it to the end, or beyond."""
    w0 = np.array([-1.0 + distance])
    sol = solve(lambda w: np.array([np.log(1 + w[0]), w[0]]), "3-point", w0, max_iter=0)
    with np.errstate(invalid="ignore"):
        assert sol.jac[0, 0] == pytest.approx(1 / (1 + w0[0]), rel=2e-3)


def test_slopes_from_tiny_steps():
    """The squares of such steps would be zero."""
    for h in (1e-170, 1e-300):
        for b in (-h, 2 * h):
            np.testing.assert_allclose(parabola(h, np.array([3 * h]), b, np.array([3 * b])), [3.0], rtol=1e-12)
    np.testing.assert_allclose(parabola(0.0, np.zeros(1), 0.5, np.array([1.5])), [3.0])


@pytest.mark.parametrize("kind", ["2-point", "3-point", "cs"])
@pytest.mark.parametrize("share", [0.1, 0.4, 1.0])
def test_sparse_differences_inside_a_box(kind, share):
    """Every entry is as right as truncation and rounding let it be; no point lies outside."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, m = rng.integers(1, 12, 2)
        A = rng.normal(size=(n, m)) * (rng.random((n, m)) < share)
        w = rng.normal(size=m) * 10.0 ** rng.integers(-3, 3) * (rng.random(m) < 0.9)
        lower, upper = w - 10.0 ** rng.integers(-9, 2, m), w + 10.0 ** rng.integers(-9, 2, m)
        lower = np.where(rng.random(m) < 0.3, w, lower)

        def values(points, count, A=A, lower=lower, upper=upper):
            for z in points:
                assert ((lower <= z.real) & (z.real <= upper)).all()
                yield A @ (np.sin(z) + z**2)

        f = next(values([w], 1))
        J = sparse_jacobian(values, w, f, kind, RELATIVE[kind], Sparsity(A), (lower, upper)).toarray()
        h = RELATIVE[kind] * np.where(w == 0.0, 1.0, np.abs(w))
        h = h if kind == "cs" else np.minimum(h, np.maximum(upper - w, w - lower) / 2)
        size = np.abs(A).max() * m * (1 + np.abs(w).max()) ** 2
        truncation = {"2-point": h, "3-point": h * h, "cs": 0.0}[kind]
        rounding = 1e-15 * size if kind == "cs" else 4e-16 * size / h
        assert (np.abs(J - A * (np.cos(w) + 2 * w)) <= 3 * np.abs(A).max() * truncation + 4 * rounding).all()


def test_groups_of_columns_share_no_row():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        S = rng.random(rng.integers(1, 30, 2)) < rng.choice([0.02, 0.1, 0.5])
        group = Sparsity(csr_array(S) if seed % 2 else S.astype(float)).group
        for number in range(group.max() + 1):
            assert (S[:, group == number].sum(axis=1) <= 1).all()
    band = diags_array([np.ones(49), np.ones(50), np.ones(49)], offsets=[-1, 0, 1])
    assert Sparsity(band).group.max() + 1 == 3
    explicit = csr_array((np.zeros(6), ([0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2])))  # stored, but zero
    assert Sparsity(explicit).group.max() == 0
