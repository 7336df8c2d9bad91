"""What goes in stays as it was, whatever its type; what the user's functions return stays theirs."""

import functools

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve

METHODS = ["gauss-newton", "gd", "sgd"]
A, Y, W0 = problems.matrix(4, 9), problems.vector(4), problems.vector(9)
WANTED = naive.least_norm(A, Y, W0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", [lambda w, M: M, None, "3-point", "cs"], ids=["analytic", "None", "3-point", "cs"])
def test_arrays_are_not_modified(method, jac):
    w0, y, M = W0.copy(), Y.copy(), A.copy()
    sol = solve(lambda w, M: M @ w, jac, w0, y, args=(M,), method=method, tol=1e-8, rng=0)
    assert sol.success, sol.message
    np.testing.assert_array_equal(w0, W0)
    np.testing.assert_array_equal(y, Y)
    np.testing.assert_array_equal(M, A)
    assert not np.shares_memory(sol.x, w0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", ["C", "Fortran", "strided", "csr_array", "csr_matrix", "csc_array", "coo_array"])
def test_the_same_jacobian_array_each_time(method, form):
    J = problems.FORMS[form](A.copy())
    sol = solve(lambda w: A @ w, lambda w: J, W0, Y, method=method, rng=0)
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-7)
    np.testing.assert_array_equal(J if isinstance(J, np.ndarray) else J.toarray(), A)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("jac", ["buffer", None, "2-point", "3-point"])
def test_functions_that_reuse_their_buffers(method, jac):
    """F and jac write into the same arrays at every call: earlier values must not be remembered by reference."""
    p = problems.tanh_system(4, 9)
    r, J = np.empty(4), np.empty((4, 9))

    def F(w):
        r[:] = p.F(w)
        return r

    def jac_(w):
        J[:] = p.jac(w)
        return J

    sol = solve(F, jac_ if jac == "buffer" else jac, p.w0, method=method, tol=1e-8, rng=0)
    plain = solve(p.F, p.jac if jac == "buffer" else jac, p.w0, method=method, tol=1e-8, rng=0)
    assert sol.success, sol.message
    np.testing.assert_array_equal(sol.x, plain.x)
    np.testing.assert_array_equal(sol.fun, plain.fun)
    np.testing.assert_array_equal(sol.history.loss, plain.history.loss)
    fun, grad = sol.fun.copy(), sol.grad.copy()
    F(p.w0), jac_(p.w0)  # the user goes on with the buffers
    np.testing.assert_array_equal(sol.fun, fun)
    np.testing.assert_array_equal(sol.grad, grad)


@pytest.mark.parametrize("method", METHODS)
def test_function_that_returns_its_argument(method):
    sol = solve(lambda w: w, lambda w: np.eye(3), np.arange(3.0), np.full(3, 7.0), method=method, rng=0)
    assert sol.success, sol.message
    np.testing.assert_allclose(sol.x, 7)
    np.testing.assert_allclose(sol.fun, 0, atol=1e-8)


@pytest.mark.parametrize("method", METHODS)
def test_function_that_writes_into_its_argument(method):
    """A rude F: it may spoil the array it is given, not the run."""

    def F(w):
        r = A @ w
        w[:] = np.nan
        return r

    def jac(w):
        w[:] = np.nan
        return A

    sol = solve(F, jac, W0, Y, method=method, rng=0)
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_points_that_the_user_keeps_do_not_change(method):
    kept, copies = [], []

    def F(w):
        kept.append(w)
        copies.append(w.copy())
        return A @ w

    solve(F, lambda w: A, W0, Y, method=method, rng=0)
    for w, c in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(w, c)


@pytest.mark.parametrize("method", METHODS)
def test_read_only_arrays(method):
    w0, y, J = problems.read_only(W0), problems.read_only(Y), problems.read_only(A)
    lb, ub, s = (problems.read_only(np.full(9, v)) for v in (-50.0, 50.0, 1.0))
    sol = solve(
        lambda w: problems.read_only(A @ w), lambda w: J, w0, y, method=method, rng=0, bounds=(lb, ub), x_scale=s
    )
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-6)
    sol.x[0] = 1.0  # the answer is the user's own


@pytest.mark.parametrize(
    "w0",
    [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), np.array([1, 2, 3], dtype=np.int8), np.array([1, 2, 3], np.float32),
     np.array([1, 2, 3], ">f8"), np.array([1, 0, 2, 0, 3.0])[::2], np.array([3.0, 2, 1])[::-1]],
    ids=["list", "tuple", "int", "int8", "float32", "big-endian", "strided", "reversed"],
)  # fmt: skip
@pytest.mark.parametrize("method", METHODS)
def test_types_of_w0(method, w0):
    """Whatever it was, F sees native, contiguous float64."""
    B = problems.matrix(3, 3)
    seen = []

    def F(w):
        seen.append(w.dtype == np.float64 and w.dtype.isnative and w.flags.c_contiguous)
        return B @ w

    sol = solve(F, lambda w: B, w0, np.ones(3), method=method, rng=0)
    assert all(seen)
    assert sol.x.dtype == np.float64
    np.testing.assert_allclose(sol.x, np.linalg.solve(B, np.ones(3)), atol=1e-7)


@pytest.mark.parametrize("y", [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), np.array([1, 9, 2, 9, 3.0])[::2]])
def test_types_of_y(y):
    sol = solve(lambda w: w, lambda w: np.eye(3), np.zeros(3), y)
    np.testing.assert_allclose(sol.x, [1, 2, 3])


@pytest.mark.parametrize("w0", [2, 2.0, np.float64(2), np.array(2.0), np.int64(2)], ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "jac", [lambda w: np.array([[2 * w[0]]]), None, "3-point"], ids=["analytic", "None", "3-point"]
)
def test_scalar_start(w0, jac):
    sol = solve(lambda w: w**2, jac, w0, 2)
    assert sol.x.shape == (1,)
    np.testing.assert_allclose(sol.x, np.sqrt(2), rtol=1e-9)


@pytest.mark.parametrize("kind", [list, tuple, np.float32, np.float16, int], ids=lambda k: k.__name__)
def test_F_and_jac_may_return_other_kinds_of_numbers(kind):
    values = [[2, 0, 1], [0, 1, 3]]
    J = np.array(values, dtype=kind if kind in {np.float32, np.float16, int} else float)
    returned = [[float(v) for v in row] for row in values] if kind in {list, tuple} else J

    def F(w):
        return kind(np.array(values) @ w) if kind in {list, tuple} else np.array(values, dtype=float) @ w

    sol = solve(F, lambda w: returned, np.zeros(3), [1, 2], method="gauss-newton")
    np.testing.assert_allclose(sol.x, naive.least_norm(np.array(values), np.array([1, 2]), np.zeros(3)), atol=1e-9)


def test_functions_of_any_callable_kind():
    class System:
        def __call__(self, w):
            return A @ w

        def slope(self, w):
            return A

    def shifted(w, shift):
        return A @ w + shift

    system = System()
    for F in (system, functools.partial(shifted, shift=0), A.__matmul__):
        np.testing.assert_allclose(solve(F, system.slope, W0, Y).x, WANTED, atol=1e-7)


def test_arguments_by_name():
    sol = solve(F=lambda w: A @ w, jac=lambda w: A, w0=W0, y=Y)
    np.testing.assert_allclose(sol.x, WANTED, atol=1e-7)


@pytest.mark.parametrize("method", METHODS)
def test_options_are_not_modified(method):
    options = {"gauss-newton": {"nearest": True}, "gd": {"step_size": "cauchy"}, "sgd": {"batch_size": 2}}[method]
    before = dict(options)
    solve(lambda w: A @ w, lambda w: A, W0, Y, method=method, options=options, rng=0)
    assert options == before


@pytest.mark.parametrize("method", METHODS)
def test_numpy_numbers_as_settings(method):
    sol = solve(lambda w: A @ w, lambda w: A, W0, Y, method=method, tol=np.float32(1e-6), max_iter=np.int64(20_000),
                eps=0, max_time=np.float64(60), rng=np.int64(0))  # fmt: skip
    assert sol.status == Status.RESIDUAL, sol.message


def test_global_random_state_is_left_alone():
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    for method in METHODS:
        solve(lambda w: A @ w, lambda w: A, W0, Y, method=method)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002
