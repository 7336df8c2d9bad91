"""Hostile systems: no success that is none, no internal warning, nothing lost (warnings are errors here)."""

import functools
import pickle

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from plsolve import Status, least_squares, root, solve

METHODS = ("gauss-newton", "gd", "sgd")


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_a_wall_of_inf_is_no_solution(jac):
    def F(w):
        return np.where(w > 1, np.inf, w - 3.0)

    assert not solve(F, jac, [0.0]).success
    assert not solve(F, jac, [0.0, 0.5]).success


@pytest.mark.parametrize("method", METHODS)
def test_a_huge_wrong_jacobian_is_no_solution(method):
    sol = solve(lambda w: w**3 - 8, lambda w: np.diag(3e18 * w**2), [5.0], method=method, rng=0, max_iter=50)
    assert not sol.success


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("scale", [1e-200, 1e160, 1e200])
def test_scales_beyond_the_range_of_squares(method, scale):
    A = np.random.default_rng(0).standard_normal((3, 6))

    def F(w):
        return scale * (A @ (w - 3.0))

    sol = solve(F, lambda w: scale * A, np.ones(6), method=method, rng=0, max_iter=50)
    assert sol.status == Status.STALLED
    assert "rescale" in sol.message


@pytest.mark.parametrize("scale", [1e-100, 1e100])
def test_scales_within_the_range_of_squares(scale):
    A = np.random.default_rng(0).standard_normal((3, 6))
    assert solve(lambda w: scale * (A @ (w - 3.0)), lambda w: scale * A, np.ones(6)).success


@pytest.mark.parametrize("step", ["polyak", "cauchy"])
def test_a_verdict_on_another_point_is_not_the_result(step):
    def F(w):
        return np.sin(w) + 6

    sol = solve(F, lambda w: np.diag(np.cos(w)), [-np.pi / 2], method="gd", options={"step_size": step}, max_iter=99)
    assert not sol.success


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", [np.array, csr_array])
def test_a_jacobian_that_turns_infinite(method, kind):
    A = np.random.default_rng(1).standard_normal((2, 5))
    w0 = np.ones(5)

    def jac(w):
        return kind((2 - np.tanh(A @ w) ** 2)[:, None] * A if (w == w0).all() else np.full((2, 5), np.inf))

    sol = solve(lambda w: np.tanh(A @ w) + A @ w - 9, jac, w0, method=method, rng=0, options=None)
    assert sol.status == Status.STALLED
    assert method == "sgd" or "jac is not finite" in sol.message  # sgd saw it as a step that blew up
    repr(sol)


def test_differences_stay_inside_by_the_last_bit():
    w, low, high = 3.868329986613797e-14, -1.7565562060255902e-14, 8.631789223498866e-14

    def F(x):
        assert low <= x[0] <= high
        return x + 5.0

    for jac in ("2-point", "3-point", None):
        solve(F, jac, [w], bounds=(low, high))


@pytest.mark.parametrize("jac", [None, "2-point", "3-point"])
def test_differences_at_the_edge_of_the_domain(jac):
    sol = solve(lambda w: np.where(w > 1, np.nan, w), jac, [1.0])
    assert sol.success
    sol = solve(lambda w: np.where(w < 1, np.nan, w - 2.0), jac, [1.0])
    assert sol.success
    with pytest.raises(ValueError, match=r"`jac`: F must be finite around w0"):
        solve(lambda w: np.where(w == 1, w, np.nan), jac, [1.0])


def test_printing_costs_nothing():
    A = np.random.default_rng(0).standard_normal((3, 9))
    sol = solve(lambda w: A @ w - 1, lambda w: A, np.zeros(9))
    before = sol.nfev, sol.njev
    assert "eigenvalues" not in repr(sol)
    assert (sol.nfev, sol.njev) == before
    assert "jac" in sol
    np.testing.assert_array_equal(sol.get("jac"), A)
    assert sol.get("nothing", 7) == 7


def test_results_with_operators_are_pickled_without_them():
    A = np.random.default_rng(0).standard_normal((3, 9))
    jac = LinearOperator((3, 9), matvec=lambda v: A @ v, rmatvec=lambda z: A.T @ z, dtype=float)
    sol = solve(lambda w: A @ w - 1, lambda w: jac, np.zeros(9))
    assert sol.kernel.n == 3
    again = pickle.loads(pickle.dumps(sol))
    np.testing.assert_array_equal(again.x, sol.x)
    np.testing.assert_allclose(again.kernel.matrix, A @ A.T)


@pytest.mark.parametrize("method", METHODS)
def test_a_failing_callback_gets_the_point_it_saw(method):
    A = np.random.default_rng(0).standard_normal((4, 9))

    def callback(w):
        raise RuntimeError(np.linalg.norm(np.tanh(A @ w) + A @ w - 1))

    with pytest.raises(RuntimeError) as caught:
        solve(
            lambda w: np.tanh(A @ w) + A @ w - 1,
            lambda w: (2 - np.tanh(A @ w) ** 2)[:, None] * A,
            np.zeros(9),
            method=method,
            callback=callback,
            rng=0,
        )
    best = caught.value.best
    assert np.linalg.norm(np.tanh(A @ best) + A @ best - 1) <= caught.value.args[0]


def test_the_best_point_inside_a_step_is_kept():
    A = np.random.default_rng(3).standard_normal((20, 100)) / 10
    seen = []

    def F(w):
        if len(seen) == 11:
            raise OSError
        seen.append(w.copy())
        return np.tanh(A @ w) + A @ w - 0.3

    with pytest.raises(OSError) as caught:
        solve(F, lambda w: (2 - np.tanh(A @ w) ** 2)[:, None] * A, np.full(100, 3.0), tol=0)
    sizes = [np.linalg.norm(np.tanh(A @ w) + A @ w - 0.3) for w in seen]
    np.testing.assert_array_equal(caught.value.best, seen[int(np.argmin(sizes))])


@pytest.mark.parametrize("limit", [{"max_iter": 5}, {"max_iter": 6}])
def test_a_solved_system_stays_solved_where_nearest_is_not_reached(limit):
    links = np.array([0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.1])

    def hand(angles):
        heading = np.cumsum(angles)
        return np.array([links @ np.cos(heading), links @ np.sin(heading)])

    sol = solve(hand, None, np.full(7, 0.1), y=[1.2, 0.9], options={"nearest": True}, **limit)
    assert sol.success
    assert np.linalg.norm(sol.fun) < 1e-9


def test_time_ends_a_jacobian_by_differences():
    import time

    def F(w):
        time.sleep(0.01)
        return np.tanh(w) - 0.5

    start = time.monotonic()
    sol = solve(F, None, np.zeros(60), max_time=0.1)
    assert sol.status == Status.MAX_TIME
    assert time.monotonic() - start < 0.4


def test_time_ends_an_epoch_without_losing_it(monkeypatch):
    import itertools
    import time

    n = 2000
    A = np.random.default_rng(0).standard_normal((n, 3))
    steps = []

    def F(w, rows=slice(None)):
        steps.append(rows)
        return A[rows] @ w

    for limit in range(5, 45):  # whoever it is that looks at the clock when it is over
        ticks = itertools.count(0.0)
        steps.clear()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic", lambda ticks=ticks: next(ticks))
            sol = solve(
                F, lambda w, rows=slice(None): A[rows], np.zeros(3), A @ np.ones(3),
                method="sgd", options={"batch_size": 1}, max_time=limit, rng=0,
            )  # fmt: skip
        assert sol.status == Status.MAX_TIME
        assert sol.nit == sum(not isinstance(rows, slice) for rows in steps)
        assert sol.nit == 0 or sol.cost < sol.history.loss[0]


@pytest.mark.parametrize("required", [False, True])
def test_rows_through_a_decorator(required):
    A = np.random.default_rng(0).standard_normal((6, 9))
    sizes = []

    def decorated(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    if required:

        def F(w, rows):
            sizes.append(len(rows))
            return A[rows] @ w

    else:

        def F(w, rows=None):
            sizes.append(6 if rows is None else len(rows))
            return A @ w if rows is None else A[rows] @ w

    sol = solve(
        decorated(F), decorated(lambda w, rows=slice(None): A[rows]), np.zeros(9), np.ones(6),
        method="sgd", options={"batch_size": 2}, rng=0, tol=1e-2,
    )  # fmt: skip
    assert sol.success
    assert 2 in sizes


def test_rows_may_be_written_to():
    A = np.random.default_rng(0).standard_normal((6, 9))

    def F(w, rows=None):
        values = A @ w if rows is None else A[rows] @ w
        if rows is not None:
            rows[:] = 0
        return values

    jac = lambda w, rows=slice(None): A[rows]  # noqa: E731
    assert solve(F, jac, np.zeros(9), np.ones(6), method="sgd", options={"batch_size": 2}, rng=0, tol=1e-2).success


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"tol": True}, TypeError, "`tol`"),
        ({"tol": np.inf}, ValueError, "`tol`"),
        ({"tol": 1j}, TypeError, "`tol`"),
        ({"max_iter": True}, TypeError, "`max_iter`"),
        ({"options": 0}, TypeError, "`options`"),
        ({"options": []}, TypeError, "`options`"),
        ({"y": np.ma.array([1.0, 2.0], mask=[0, 1])}, TypeError, "`y`"),
    ],
)
def test_refused(arguments, error, match):
    with pytest.raises(error, match=match):
        solve(lambda w: w[:2], lambda w: np.eye(2, 3), np.ones(3), **arguments)


def test_an_operator_that_lacks_a_product_is_named():
    only = LinearOperator((2, 3), matvec=lambda v: v[:2], dtype=float)
    with pytest.raises(ValueError, match=r"`jac`.*rmatvec"):
        solve(lambda w: w[:2] - 1, lambda w: only, np.ones(3) * 3)
    only.gram = lambda: np.eye(2)
    with pytest.raises(ValueError, match=r"`jac`.*rmatvec"):
        solve(lambda w: w[:2] - 1, lambda w: only, np.ones(3) * 3)


def test_a_complex_step_needs_a_complex_answer():
    with pytest.raises(ValueError, match="cs"):
        solve(lambda w: np.abs(w) - 2, "cs", np.ones(2))
    with pytest.raises(TypeError, match=r"`jac\(w\)`"):
        solve(lambda w: w[:2] - 1, lambda w: csr_array(1j * np.eye(2, 3)), np.ones(3) * 3)


def test_scalar_jacobians():
    assert solve(lambda w: w[0] ** 2 - 2, lambda w: 2 * w[0], 1.0).success
    assert solve(lambda w: np.array([w[0] - 1, 2 * w[0] - 2]), lambda w: np.array([1.0, 2.0]), 3.0).success


class Unfinished(LinearOperator):
    """An operator with its kernel and J^T z, but no J v."""

    def __init__(self, A):
        self.A = A
        super().__init__(float, A.shape)

    def _rmatvec(self, z):
        return self.A.T @ z

    def gram(self):
        return self.A @ self.A.T


@pytest.mark.filterwarnings("ignore:LinearOperator subclass should implement")
@pytest.mark.parametrize("shape", [(2, 5), (4, 4), (40, 40), (5, 3)])
@pytest.mark.parametrize("call", [solve, least_squares, root])
def test_an_operator_without_a_product_is_refused_whatever_the_shape(call, shape):
    A = np.random.default_rng(0).standard_normal(shape)
    start = {"w0" if call is solve else "x0": np.zeros(shape[1])}
    with pytest.raises(ValueError, match=r"`jac`.*no working matvec"):
        call(lambda w: A @ w - 1, jac=lambda w: Unfinished(A), **start)
