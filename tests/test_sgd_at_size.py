"""SGD by rows: neither J nor more than a sample of its rows is ever made, whatever is asked for and looked at."""

import tracemalloc

import naive
import numpy as np
import problems
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from benchmarks.checks import sgd_at_size
from plsolve import Status, _system, networks, solve
from plsolve._tangent import rows
from plsolve.methods import batches, spectrum

N, M, SAMPLE = 60, 150, 12
A, Y = problems.matrix(N, M, spread=2.0), problems.vector(N)
WANTED = naive.least_norm(A, Y, np.zeros(M))
OPTIONS = [
    {},
    {"batch_size": 4},
    {"batch_size": "auto"},
    {"rows": "shuffled", "batch_size": 7},
    {"rows": "cyclic"},
    {"step_size": "polyak"},
    {"step_size": "kaczmarz"},
    {"step_size": "kaczmarz", "batch_size": 8},
    {"step_size": "kaczmarz", "batch_size": 8, "rows": "uniform", "damping": 1e-2},
    {"step_size": "kaczmarz", "batch_size": 1},
    {"rows": "max", "batch_size": 5},
    {"rows": "residual", "batch_size": 5},
    {"momentum": "mass", "batch_size": 5},
]


@pytest.fixture(autouse=True)
def by_rows(monkeypatch):
    """Small systems are handled as large ones are, with samples of twelve rows."""
    monkeypatch.setattr(_system, "PIECE_NUMBERS", 10 * M)
    monkeypatch.setattr(rows, "PIECE_NUMBERS", 10 * M)
    monkeypatch.setattr(rows, "PIECE_ROWS", 15)
    monkeypatch.setattr(_system, "PIECE_ROWS", 25)
    monkeypatch.setattr(spectrum, "NUMBERS", SAMPLE * M)
    monkeypatch.setattr(spectrum, "ROWS", SAMPLE)
    monkeypatch.setattr(batches, "MOST", SAMPLE)


class System:
    """z + e sin z, z = A w, by rows; keeps what it was asked for, and refuses to be evaluated whole."""

    def __init__(self, form="C", e=0.0, A=A):
        self.A, self.e, self.wrap = A, e, problems.FORMS[form]
        self.F_rows, self.J_rows = [], []

    def F(self, w, rows):
        self.F_rows.append(rows)
        z = self.A[rows] @ w
        return z + self.e * np.sin(z)

    def jac(self, w, rows):
        self.J_rows.append(rows)
        return self.wrap((1 + self.e * np.cos(self.A[rows] @ w))[:, None] * self.A[rows])

    def both(self, w, rows):
        z = self.A[rows] @ w
        self.J_rows.append(rows)
        return z + self.e * np.sin(z), (1 + self.e * np.cos(z))[:, None] * self.A[rows]

    def most(self):
        return max(len(rows) for rows in self.J_rows)


def run(s, y=Y, jac=None, **settings):
    return solve(s.F, jac or s.jac, np.zeros(s.A.shape[1]), y, method="sgd", **({"rng": 0, "tol": 1e-8} | settings))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", ["C", "csr_array", "operator"])
@pytest.mark.parametrize("e", [0.0, 0.3])
def test_every_kind_of_step_arrives_without_J(options, form, e):
    s = System(form, e)
    sol = run(s, options=options)
    assert sol.status == Status.RESIDUAL, sol.message
    assert s.most() <= max(SAMPLE, N // 2)
    assert max(map(len, s.F_rows)) <= max(25, SAMPLE, N // 2)
    z = A @ sol.x
    assert np.linalg.norm(z + e * np.sin(z) - Y) <= 1e-8 * np.linalg.norm(Y)
    if e == 0.0:
        np.testing.assert_allclose(sol.x, WANTED, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"step_size": "kaczmarz", "batch_size": 8}], ids=str)
def test_F_may_return_both(options):
    s = System()
    sol = solve(s.both, True, np.zeros(M), Y, method="sgd", rng=0, tol=1e-8, options=options)
    assert sol.success, sol.message
    assert s.most() <= 25
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-5)


@pytest.mark.parametrize("value", [lambda z: z, lambda z: (z,), lambda z: (z, z, z), lambda z: 1.0])
def test_F_that_does_not_return_both_is_refused_by_name(value):
    s = System()
    with pytest.raises(ValueError, match="`jac=True` means"):
        solve(lambda w, rows: value(s.F(w, rows)), True, np.zeros(M), Y, method="sgd")


def test_what_is_looked_at_afterwards_reads_rows_too():
    s = System("csr_array", 0.2)
    sol = run(s, options={"batch_size": 6})
    J = (1 + 0.2 * np.cos(A @ sol.x))[:, None] * A
    assert isinstance(sol.jac, LinearOperator)
    np.testing.assert_allclose(sol.jac @ np.ones(M), J @ np.ones(M), rtol=1e-12)
    np.testing.assert_allclose(sol.grad, J.T @ sol.fun, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(sol.kernel.mu, np.linalg.eigvalsh(J @ J.T)[0], rtol=1e-6)
    assert sol.certificate is None
    assert "No certificate" in sol.message
    assert s.most() <= 40


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_first_step_is_made_after_two_passes(options):
    s = System()
    run(s, options=options, max_iter=1)
    assert sum(map(len, s.J_rows)) <= 2 * N + max(SAMPLE, N // 2)


def test_constants_that_are_given_cost_nothing():
    s = System()
    top = np.linalg.norm(A, 2)
    options = {"lipschitz": top, "row_smoothness": top**2, "batch_size": 4}
    sol = run(s, options=options, max_iter=30)
    assert sol.nit == 30
    assert {len(rows) for rows in s.J_rows[:30]} == {4}
    assert len(s.J_rows) <= 31  # and a sample for the forecast


@pytest.mark.parametrize("factor", [1e1, 1e2])
@pytest.mark.parametrize("options", [{"batch_size": 1}, {"batch_size": "auto"}, {"batch_size": 6}], ids=str)
def test_a_large_row_that_no_sample_has_seen_does_no_harm(factor, options):
    seen = np.random.default_rng(0).choice(N, SAMPLE, replace=False)
    B = A.copy()
    B[next(i for i in range(N) if i not in seen)] *= factor
    sol = run(System(A=B), B @ WANTED, options=options)
    assert sol.success, sol.message


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_rows_without_entries_in_a_sample_say_nothing_of_the_others(options):
    seen = np.random.default_rng(0).choice(N, SAMPLE, replace=False)
    B = A.copy()
    B[seen] = 0.0
    sol = run(System(A=B), B @ WANTED, options=options)
    assert sol.success, sol.message


def test_all_unknowns_that_rows_do_not_need():
    """A gradient that vanishes in all rows, and a start that solves the system."""
    s = System(A=np.zeros((N, M)))
    assert run(s).status == Status.STATIONARY
    assert run(s, np.zeros(N)).status == Status.RESIDUAL
    assert run(System(), np.zeros(N)).nit == 0


def test_a_system_without_solution_is_no_success():
    B = problems.matrix(200, 5)
    s = System(A=B)
    for options in ({"batch_size": 20}, {"step_size": "kaczmarz", "batch_size": 20}):
        sol = run(s, problems.vector(200), options=options, max_iter=3000)
        assert not sol.success
        np.testing.assert_allclose(sol.cost, naive.loss(B @ sol.x - problems.vector(200)))


# Batches -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 20, N])
@pytest.mark.parametrize("step", ["kaczmarz", 1e-3])
def test_an_epoch_of_shuffled_rows_reads_each_row_once(size, step):
    s = System()
    options = {"batch_size": size, "rows": "shuffled", "step_size": step}
    epoch = -(-N // size)
    run(s, options=options, max_iter=3 * epoch, tol=0.0)
    asked = [rows for rows in s.J_rows if np.all(np.diff(rows) > 0)]  # samples are in random order
    assert len(asked) == 3 * epoch
    for k in range(3):
        rows = np.concatenate(asked[k * epoch : (k + 1) * epoch])
        np.testing.assert_array_equal(np.sort(rows), np.arange(N))
    assert size == N or not np.array_equal(asked[0], asked[epoch])


def test_progress_is_noted_without_another_pass():
    """All of F is evaluated at w0, after 1, 4 and 16 epochs and at the end."""
    s, seen = System(e=0.3), []
    sol = run(s, options={"step_size": "kaczmarz", "batch_size": 3, "damping": 30.0}, max_iter=20 * 20, tol=0.0,
              callback=lambda intermediate_result: seen.append(intermediate_result))  # fmt: skip
    assert sol.nit == 400
    assert [state.nit for state in seen] == list(range(20, 401, 20))
    passes = sum(len(rows) for rows in s.F_rows if len(rows) > 3) / N
    assert passes == 5
    assert np.all(np.isfinite(sol.history.loss))
    np.testing.assert_allclose(sol.cost, naive.loss(A @ sol.x + 0.3 * np.sin(A @ sol.x) - Y), rtol=1e-8)
    assert sol.history.loss[-1] < 0.5 * sol.history.loss[0]


def test_a_solved_system_is_noticed_within_an_epoch():
    B = problems.matrix(2000, 5)
    s = System(A=B)
    sol = run(s, B @ np.ones(5), options={"step_size": "kaczmarz", "batch_size": 20, "damping": 1e-12})
    assert sol.success
    assert sol.nit < 50  # of 100 in an epoch


@pytest.mark.parametrize("form", ["C", "csr_array", "operator"])
@pytest.mark.parametrize("scale", [1.0, np.linspace(0.5, 2.0, M)], ids=["plain", "scaled"])
@pytest.mark.parametrize("damping", [1e-3, 1.0])
def test_a_block_step_is_damped_gauss_newton(form, scale, damping):
    s = System(form)
    options = {"step_size": "kaczmarz", "batch_size": 9, "rows": "cyclic", "damping": damping}
    sol = run(s, options=options, max_iter=1, x_scale=scale)
    B = A[:9] * scale
    K = B @ B.T
    K += damping * np.trace(K) / 9 * np.eye(9)
    np.testing.assert_allclose(sol.x, scale * (B.T @ np.linalg.solve(K, Y[:9])), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("form", ["C", "csr_array"])
def test_the_same_where_a_batch_has_more_rows_than_unknowns(form):
    B = problems.matrix(80, 6)
    y = B @ np.arange(6.0)
    options = {"step_size": "kaczmarz", "batch_size": 40, "rows": "cyclic", "damping": 0.1}
    sol = run(System(form, A=B), y, options=options, max_iter=1)
    K = B[:40].T @ B[:40] + 0.1 * np.sum(B[:40] ** 2) / 40 * np.eye(6)
    np.testing.assert_allclose(sol.x, np.linalg.solve(K, B[:40].T @ y[:40]), rtol=1e-9)


def test_bounds_hold_in_blocks():
    s = System(e=0.3)
    sol = run(s, options={"step_size": "kaczmarz", "batch_size": 9}, bounds=(-0.05, 0.1), max_iter=200)
    assert np.all(sol.x >= -0.05)
    assert np.all(sol.x <= 0.1)


@pytest.mark.parametrize("options", [{"damping": 0.1}, {"damping": -1.0, "step_size": "kaczmarz"}], ids=str)
def test_damping_is_refused_where_it_says_nothing(options):
    with pytest.raises(ValueError, match="damping"):
        run(System(), options=options)


# The choice ----------------------------------------------------------------------------------------------------------


def test_the_kind_of_step_is_chosen_by_what_rows_leave_of_each_other(monkeypatch):
    monkeypatch.setattr(spectrum, "NUMBERS", 1 << 24)
    monkeypatch.setattr(batches, "MOST", 256)
    n, rng = 1100, np.random.default_rng(0)
    low = rng.standard_normal((n, 40)) @ rng.standard_normal((40, 1200))
    alike = run(System(A=low), low @ np.ones(1200), max_iter=400)
    assert alike.success
    assert "Gauss-Newton on batches" in alike.method_reason
    apart = sparse.random_array((n, 10 * n), density=1.0 / n, format="csr", rng=rng) + sparse.eye_array(n, 10 * n)
    s = System("csr_array", A=apart.toarray())
    sol = run(s, np.ones(n), max_iter=10)
    assert "Gradient steps" in sol.method_reason


def test_a_network_needs_no_J_at_all():
    x = np.linspace(-1, 1, 1100)[:, None]
    net = networks.WideNetwork(3 * x, (200,))
    sol = solve(net.F, net.jac, net.init(0), np.abs(x[:, 0]), method="sgd", rng=0, tol=3e-2)
    assert sol.success, sol.message
    assert "Gauss-Newton on batches" in sol.method_reason


def test_memory_is_that_of_a_batch(monkeypatch):
    monkeypatch.undo()
    n, m = 30_000, 700  # J would have 168 MB
    rng = np.random.default_rng(0)
    U, V = rng.standard_normal((n, 8)), rng.standard_normal((8, m))

    def F(w, rows):
        return U[rows] @ (V @ w)

    def jac(w, rows):
        return U[rows] @ V

    monkeypatch.setattr(spectrum, "NUMBERS", 1 << 20)
    y = U @ (V @ np.ones(m))
    tracemalloc.start()
    for options in ({}, {"batch_size": 100}, {"step_size": "kaczmarz", "batch_size": 100}, {"rows": "max"}):
        sol = solve(F, jac, np.zeros(m), y, method="sgd", rng=0, tol=1e-6, max_iter=300, options=options)
        sol.grad, sol.optimality  # noqa: B018
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * n * m / 2


def test_the_check_of_a_million_rows_at_small_size(monkeypatch, capsys):
    monkeypatch.undo()
    times = sgd_at_size.million(20_000)[:2]
    assert all(np.isfinite(value) for _, value, _ in times), "not solved"
    assert "Gauss-Newton on batches of 4000 rows" in capsys.readouterr().out
