"""SGD: the protocol of `rows`, the batches and their seed, and convergence under interpolation."""

import functools

import naive
import numpy as np
import problems
import pytest
from scipy import sparse

from plsolve import Status, solve

N, M = 20, 40
A, Y = problems.matrix(N, M, spread=2.0), problems.vector(N)
MISSING = object()
WANTED = naive.least_norm(A, Y, np.zeros(M))


class Rows:
    """F and jac that know about rows and keep the indices they were asked for; None stands for a call without rows."""

    def __init__(self, A=A):
        self.A, self.asked, self.asked_jac = A, [], []

    def F(self, w, rows=MISSING):
        self.asked.append(None if rows is MISSING else rows)
        return self.A @ w if rows is MISSING else self.A[rows] @ w

    def jac(self, w, rows=MISSING):
        self.asked_jac.append(None if rows is MISSING else rows)
        return self.A if rows is MISSING else self.A[rows]

    def F_needs(self, w, rows):
        self.asked.append(rows)
        return self.A[rows] @ w

    def jac_needs(self, w, rows):
        self.asked_jac.append(rows)
        return self.A[rows]

    @property
    def batches(self):
        return [rows for rows in self.asked if rows is not None and len(rows) < N]

    @property
    def full(self):
        return [rows for rows in self.asked if rows is None or len(rows) >= N]


def run(F, jac, w0=None, y=Y, **kwargs):
    return solve(F, jac, np.zeros(M) if w0 is None else w0, y, method="sgd", **({"rng": 0} | kwargs))


def test_indices_are_what_the_contract_says():
    s = Rows()
    sol = run(s.F, s.jac, options={"batch_size": 5})
    assert sol.success, sol.message
    assert len(s.batches) >= sol.nit > 0
    for rows in [*s.batches, *(r for r in s.asked_jac if r is not None)]:
        assert type(rows) is np.ndarray
        assert rows.dtype == np.int64
        assert rows.ndim == 1
        assert np.all((rows >= 0) & (rows < N))
    assert {len(rows) for rows in s.batches} == {5}
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)


def test_F_and_jac_get_the_same_rows():
    s = Rows()
    run(s.F, s.jac, options={"batch_size": 3}, max_iter=50)
    of_jac = [rows for rows in s.asked_jac if rows is not None and len(rows) < N]
    assert len(of_jac) == len(s.batches) == 50
    for left, right in zip(s.batches, of_jac, strict=True):
        np.testing.assert_array_equal(left, right)


def test_every_equation_gets_its_turn():
    s = Rows()
    run(s.F, s.jac, options={"batch_size": 2}, max_iter=400, tol=0.0)
    counts = np.bincount(np.concatenate(s.batches), minlength=N)
    assert len(s.batches) == 400
    assert np.all(counts > 10)  # 40 on average
    assert np.all(counts < 90)


def test_rows_without_default_get_all_indices_for_a_full_evaluation():
    s = Rows()
    sol = run(s.F_needs, s.jac_needs, options={"batch_size": 5})
    assert sol.success, sol.message
    assert s.full
    for rows in [*s.full, *(r for r in s.asked_jac if len(r) >= N)]:
        assert rows.dtype == np.int64
        np.testing.assert_array_equal(rows, np.arange(N))
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
def test_rows_without_default_need_y(method):
    s = Rows()
    with pytest.raises((ValueError, TypeError), match=r"\by\b"):
        solve(s.F_needs, s.jac_needs, np.zeros(M), method=method)


@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_other_methods_leave_rows_alone(method):
    s = Rows()
    sol = solve(s.F, s.jac, np.zeros(M), Y, method=method)
    assert sol.success, sol.message
    assert all(rows is None for rows in s.asked + s.asked_jac)
    s = Rows()
    sol = solve(s.F_needs, s.jac_needs, np.zeros(M), Y, method=method)
    assert sol.success, sol.message
    for rows in s.asked + s.asked_jac:
        np.testing.assert_array_equal(rows, np.arange(N))


def test_keyword_only_rows_behind_args():
    def F(w, B, *, rows=None):
        return (B if rows is None else B[rows]) @ w

    def jac(w, B, *, rows=None):
        return B if rows is None else B[rows]

    np.testing.assert_allclose(run(F, jac, args=(A,)).x, WANTED, atol=1e-6)


def test_a_parameter_called_rows_that_args_fill_is_the_users_own():
    seen = []

    def F(w, rows):
        seen.append(rows)
        return A @ w

    sol = run(F, lambda w, rows: A, args=("mine",))
    assert sol.success, sol.message
    assert set(seen) == {"mine"}


class Callable:
    def __init__(self, f):
        self.f = f

    def __call__(self, w, rows=MISSING):
        return self.f(w, rows=rows)


def wrapped(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return f(*args, **kwargs)

    return wrapper


GUISES = {
    "partial": functools.partial,
    "callable object": Callable,
    "wrapped": wrapped,
    "wrapped twice": lambda f: wrapped(wrapped(f)),
    "wrapped partial": lambda f: wrapped(functools.partial(f)),
    "partial of wrapped": lambda f: functools.partial(wrapped(f)),
    "method of callable": lambda f: Callable(f).__call__,
}


@pytest.mark.parametrize("guise", GUISES)
def test_rows_are_seen_in_every_guise(guise):
    s = Rows()
    sol = solve(GUISES[guise](s.F), GUISES[guise](s.jac), np.zeros(M), Y, method="sgd", max_iter=20, rng=0)
    assert sol.nit == 20
    assert s.batches
    assert any(rows is not None for rows in s.asked_jac)


@pytest.mark.parametrize("guise", [g for g in GUISES if g not in {"callable object", "method of callable"}])
def test_no_rows_are_seen_where_there_are_none(guise):
    sol = solve(GUISES[guise](lambda w: A @ w), GUISES[guise](lambda w: A), np.zeros(M), Y, method="sgd", max_iter=9)
    assert sol.nit == 9


@pytest.mark.parametrize("who", ["F", "jac", "neither"])
def test_whoever_lacks_rows_is_evaluated_whole(who):
    s = Rows()
    F = s.F if who == "F" else lambda w: A @ w
    jac = s.jac if who == "jac" else lambda w: A
    sol = run(F, jac, options={"batch_size": 4})
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)
    both = run(Rows().F, Rows().jac, options={"batch_size": 4})
    np.testing.assert_allclose(sol.x, both.x, atol=1e-7)


def test_both_from_one_function():
    def F(w, rows=None):
        B = A if rows is None else A[rows]
        return B @ w, B

    np.testing.assert_allclose(run(F, True, options={"batch_size": 4}).x, WANTED, atol=1e-6)


@pytest.mark.parametrize("form", ["csr_array", "csr_matrix", "operator"])
def test_sparse_rows_and_operators(form):
    wrap = problems.FORMS[form]
    s = Rows()
    sol = run(s.F, lambda w, rows=None: wrap(A if rows is None else A[rows]), options={"batch_size": 4})
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)


def test_differences_of_some_rows():
    s = Rows()
    sol = run(s.F, "2-point", options={"batch_size": 4}, tol=1e-6)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-4)


@pytest.mark.parametrize("change", ["F", "jac"])
def test_wrong_number_of_rows_is_refused(change):
    def F(w, rows=None):
        return A @ w if rows is None or change == "F" else A[rows] @ w

    def jac(w, rows=None):
        return A if rows is None or change == "jac" else A[rows]

    with pytest.raises(ValueError, match=rf"\b{change}\b"):
        run(F, jac, options={"batch_size": 4})


# Batches -------------------------------------------------------------------------------------------------------------


def test_full_residual_once_an_epoch():
    """50 batches of 4 out of 20 equations are ten epochs."""
    s = Rows()
    sol = run(s.F, s.jac, options={"batch_size": 4}, max_iter=50, tol=0.0)
    assert sol.nit == 50
    assert 10 <= len(s.full) <= 14
    assert sol.nfev == len(s.asked)
    assert sol.njev == len(s.asked_jac)


def test_batch_of_all_equations_and_more():
    for size in (N, 3 * N):
        sol = run(lambda w: A @ w, lambda w: A, options={"batch_size": size})
        assert sol.success, sol.message
        np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)


def test_auto_takes_the_critical_batch():
    """s* = 1 + n Kmax / lambda_max (theory 5.1), at most n."""
    B = A.copy()
    B[0] *= 4
    K = B @ B.T
    critical = 1 + N * np.max(np.diag(K)) / np.linalg.eigvalsh(K)[-1]
    sizes = {}
    for name, matrix in (("long row", B), ("one direction", np.ones((N, M)) + 1e-3 * A)):
        s = Rows(matrix)
        run(s.F, s.jac, y=matrix @ np.ones(M), options={"batch_size": "auto"}, max_iter=30)
        assert len({len(rows) for rows in s.batches}) <= 1
        sizes[name] = len(s.batches[0]) if s.batches else N
    assert sizes["long row"] == pytest.approx(min(critical, N), rel=0.25, abs=1.5)
    assert sizes["one direction"] in {1, 2, 3}  # Kmax = 40, lambda_max = 800: s* = 2


@pytest.mark.parametrize("size", [1, 3, "auto"])
@pytest.mark.parametrize("step", ["polyak", "kaczmarz"])
def test_interpolating_systems_are_solved(step, size):
    s = Rows()
    sol = run(s.F, s.jac, options={"batch_size": size, "step_size": step})
    assert sol.status == Status.RESIDUAL, sol.message
    assert np.linalg.norm(A @ sol.x - Y) <= 1e-10 * np.linalg.norm(Y)
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-7)


@pytest.mark.parametrize("step", ["polyak", "kaczmarz"])
def test_nonlinear_interpolation(step):
    p = problems.tanh_system(10, 40)
    sol = run(p.F, p.jac, p.w0, None, options={"step_size": step}, tol=1e-8)
    assert sol.success, sol.message


def test_kaczmarz_meets_the_equation_it_takes():
    """Orthonormal equations, one at a time: each step solves its own for good, so few steps solve all."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(M, N)))[0].T
    s = Rows(Q)
    run(s.F, s.jac, options={"batch_size": 1, "step_size": "kaczmarz"}, max_iter=N)
    assert {len(rows) for rows in s.batches} == {1}
    taken = np.unique(np.concatenate(s.batches))
    s = Rows(Q)
    sol = run(s.F, s.jac, options={"batch_size": 1, "step_size": "kaczmarz"}, max_iter=N)
    np.testing.assert_allclose(sol.fun[taken], 0, atol=1e-13)
    left = np.setdiff1d(np.arange(N), taken)
    np.testing.assert_allclose(sol.fun[left], -Y[left])


def test_a_number_is_the_step():
    """w - eta (n/s) sum over the batch (theory 5.1), on orthonormal equations so that the step lowers the loss."""
    Q = np.linalg.qr(np.random.default_rng(0).normal(size=(M, N)))[0].T
    s = Rows(Q)
    sol = run(s.F, s.jac, options={"batch_size": 2, "step_size": 0.01}, max_iter=1)
    rows = s.batches[0]
    np.testing.assert_allclose(sol.x, 0.01 * (N / 2) * Q[rows].T @ Y[rows], rtol=1e-10, atol=1e-14)


def test_more_equations_than_unknowns_that_agree():
    B = problems.matrix(60, 5)
    w = problems.vector(5)
    sol = run(lambda w: B @ w, lambda w: B, np.zeros(5), B @ w)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, w, atol=1e-7)


def test_no_solution_is_no_success():
    B = problems.matrix(60, 5)
    sol = run(lambda w: B @ w, lambda w: B, np.zeros(5), problems.vector(60), max_iter=2000)
    assert not sol.success
    assert sol.cost <= naive.loss(problems.vector(60))
    np.testing.assert_allclose(sol.cost, naive.loss(B @ sol.x - problems.vector(60)))


# Seeds ---------------------------------------------------------------------------------------------------------------


def bits(rng):
    s = Rows()
    sol = run(s.F, s.jac, rng=rng, options={"batch_size": 3}, max_iter=70, tol=0.0)
    return sol.x.tobytes(), [rows.tolist() for rows in s.batches]


def test_same_seed_same_bits():
    assert bits(7) == bits(7)
    assert bits(np.random.default_rng(7)) == bits(np.random.default_rng(7))
    assert bits(7) == bits(np.random.default_rng(7))


def test_other_seed_other_batches():
    assert bits(7)[1] != bits(8)[1]
    assert bits(None)[1] != bits(8)[1]


def test_a_generator_moves_on():
    rng = np.random.default_rng(7)
    assert bits(rng)[1] != bits(rng)[1]


def test_seed_does_not_touch_the_other_methods():
    for method in ("gauss-newton", "gd"):
        left, right = (solve(lambda w: A @ w, lambda w: A, np.zeros(M), Y, method=method, rng=k) for k in (1, 2))
        np.testing.assert_array_equal(left.x, right.x)


def test_batches_of_a_sparse_jacobian_stay_sparse():
    n = 3000
    J = sparse.diags_array([np.full(n, 2.0), np.full(n - 1, 0.5)], offsets=[0, 1], format="csr")
    y = np.cos(np.arange(n))
    sol = run(lambda w: J @ w, lambda w: J, np.zeros(n), y, options={"batch_size": 100}, tol=1e-3)
    assert sol.success, sol.message
