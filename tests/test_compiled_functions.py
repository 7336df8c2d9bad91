"""Which functions are compiled, of which kinds, and how they fail."""

import numpy as np
import pytest
from jitted import hand, hand_jac, run_python, valley, wavy, wavy_jac
from numba import njit

from plsolve import Status, solve, solve_batch


def test_numba_functions_are_compiled_by_themselves():
    assert solve(hand, hand_jac, np.full(7, 0.1)).compiled
    assert not solve(lambda w: w - 1, None, np.zeros(3)).compiled
    assert not solve(hand.py_func, hand_jac, np.full(7, 0.1)).compiled


def test_python_functions_are_compiled_when_asked():
    run = solve(hand.py_func, hand_jac.py_func, np.full(7, 0.1), compiled=True)
    assert run.compiled
    assert run.success


def test_eager_functions():
    F = njit("float64[:](float64[:])")(hand.py_func)
    J = njit("float64[:, :](float64[::1])")(hand_jac.py_func)
    np.testing.assert_array_equal(solve(F, J, np.full(7, 0.1)).x, solve(hand, hand_jac, np.full(7, 0.1)).x)
    assert solve(F, J, np.full(7, 0.1)).compiled


def test_what_cannot_be_compiled_is_named_with_its_line():
    def F(w):
        return np.array([len(globals()) + w[0]])

    with pytest.raises(TypeError, match=r"`F` \(.*_functions.py, line \d+\) cannot be compiled(.|\n)*globals"):
        solve(F, None, np.zeros(3), compiled=True)
    with pytest.raises(TypeError, match=r"args\[0\]"):
        solve(lambda w, text: w - len(text), None, np.zeros(3), args=("text",), compiled=True)
    with pytest.raises(TypeError, match="compiled"):
        solve(hand, hand_jac, np.full(7, 0.1), compiled="yes")


def test_large_systems_are_interpreted():
    """BLAS is faster there."""
    A = np.random.default_rng(0).standard_normal((200, 400)) / 20
    assert not solve(wavy, wavy_jac, np.zeros(400), args=(A, 0.3)).compiled
    with pytest.raises(TypeError, match="200 equations in 400 unknowns"):
        solve(wavy, wavy_jac, np.zeros(400), args=(A, 0.3), compiled=True)


def pair(w):
    return hand(w), hand_jac(w)


@pytest.mark.parametrize("settings", [{"F": pair, "jac": True}, {"jac": "cs"}, {"options": {"linear_solver": "cg"}}])
def test_what_is_not_compiled_says_so(settings):
    with pytest.raises(TypeError, match=r"`compiled=True` is not possible: .*interpreted"):
        solve(**{"F": hand, "jac": hand_jac, "w0": np.full(7, 0.1), **settings}, compiled=True)


def test_kinds_of_arguments():
    @njit
    def F(w, a, b, c, d, e):
        return w[:2] * a[0, 1] + b[0] + c + d + (1.0 if e else 0.0)

    args = (np.asfortranarray([[1.0, 2.0], [3, 4]]), np.arange(4)[::2], 3, 0.5, True)
    one, two = (solve(F, None, np.zeros(3), args=args, compiled=c) for c in (True, False))
    assert (one.status, one.nit, one.nfev) == (two.status, two.nit, two.nfev)
    np.testing.assert_allclose(one.x, two.x, rtol=1e-10)
    np.testing.assert_allclose(one.x[:2], -2.25)


@pytest.mark.parametrize(
    "number", [np.float32(0.1), np.uint8(200), np.int32(50_000), np.complex64(0.1 + 2j), np.bool_(True)]
)
def test_numbers_keep_their_type(number):
    """Arithmetic in them is that of a call from Python: rounded to 24 bits, modulo 2^32, ..."""

    @njit
    def F(w, c, d):
        return w[:2] - (c * c).real + d

    args = number, 0.25
    one, two = (solve(F, None, np.zeros(3), args=args, compiled=c) for c in (True, False))
    np.testing.assert_allclose(one.x, two.x, rtol=1e-12)
    many = solve_batch(F, None, np.zeros(3), each=(np.repeat(number, 3), np.full(3, 0.25)), compiled=True)
    np.testing.assert_allclose(many.x[2], two.x, rtol=1e-12)


def test_results_may_be_of_any_real_kind():
    for F in (
        lambda w: (w[0] - 1.0, w[1] - 2.0),
        lambda w: [w[0] - 1.0, w[1] - 2.0],
        lambda w: (w[:2] - np.array([1.0, 2.0]))[::1],
    ):
        np.testing.assert_allclose(solve(F, None, np.zeros(3), compiled=True).x[:2], [1, 2])
    np.testing.assert_allclose(solve(lambda w: np.array(2 * w[0] - 2), None, np.zeros(2), compiled=True).x, [1, 0])
    np.testing.assert_allclose(
        solve(lambda w: w[0] - 1, lambda w: np.array([1.0, 0.0]), np.zeros(2), compiled=True).x, [1, 0]
    )


def square(w):
    return np.array([0.5 * (w * w).sum()])


def itself(w):
    """The derivative of that: the memory of w."""
    return w.reshape(1, w.size)


def test_functions_may_write_to_what_they_get_and_give_it_back():
    """Compiled code copies w for functions that do more than to read it."""

    @njit
    def F(w):
        w[0] -= 1.0
        return w

    @njit
    def jac(w):
        w *= 2.0
        w[:] = 0.0
        return np.eye(3) + w

    for start in (np.zeros(3), np.arange(3.0)):
        run = solve(F, jac, start, compiled=True)
        assert run.success
        np.testing.assert_allclose(run.x, [1.0, 0.0, 0.0], atol=1e-14)

    run = solve(njit(square), njit(itself), [3.0, 4.0], [2.0], compiled=True)
    assert run.success
    np.testing.assert_allclose(run.x, [1.2, 1.6], rtol=1e-9)


def test_functions_said_to_only_read_w_get_w_itself():
    def F(w, A):
        return A @ np.sinh(w[:6]) + w[6:].reshape(2, 3)[1]

    def jac(w, A):
        return np.hstack((A * np.cosh(w[:6]), np.zeros((3, 3)), np.eye(3)))

    A = np.random.default_rng(0).standard_normal((3, 6))
    functions = [(njit(F), njit(jac)), (njit(F), njit(jac))]
    for function in functions[1]:
        function.reads_only = True
    copied, read = (solve(*pair, np.zeros(12), np.ones(3), args=(A,), compiled=True) for pair in functions)
    assert read.success
    np.testing.assert_array_equal(read.x, copied.x)
    (kind, _), *_ = functions[1][1].signatures
    assert not kind.mutable  # so that writing to it does not compile

    F, jac = njit(square), njit(itself)
    F.reads_only = jac.reads_only = True
    run = solve(F, jac, [3.0, 4.0], [2.0], compiled=True)
    np.testing.assert_allclose(run.x, [1.2, 1.6], rtol=1e-9)

    @njit
    def writes(w):
        w[0] = 1.0
        return w[:1]

    writes.reads_only = True
    with pytest.raises(Exception, match=r"readonly|read-only"):
        solve(writes, None, np.zeros(2), compiled=True)


def test_callback_stops_and_raises():
    def stop(w):
        raise StopIteration

    run = solve(hand, hand_jac, np.full(7, 0.1), callback=stop)
    assert (run.compiled, run.status, run.nit) == (True, Status.CALLBACK, 1)

    def fail(w):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as info:
        solve(hand, hand_jac, np.full(7, 0.1), callback=fail)
    assert info.value.best.shape == (7,)


@pytest.mark.parametrize("jac", [True, False], ids=["jac", "differences"])
def test_max_time_ends_the_run_between_two_calls(jac):
    """The clock is read in compiled code."""

    @njit
    def slow(w):
        s = 0.0
        for i in range(100_000):
            s += np.sin(i * w[0])
        return np.array([np.exp(w[0]) + w[1] ** 2 + 1.0 + 1e-12 * s])  # never zero

    slow_jac = njit(lambda w: np.array([[np.exp(w[0]), 2.0 * w[1]]])) if jac else None
    sol = solve(slow, slow_jac, np.ones(2), max_time=0.05, max_iter=10**6, tol=0.0, compiled=True)
    assert sol.compiled
    assert sol.status == Status.MAX_TIME


def test_max_iter():
    assert solve(hand, hand_jac, np.full(7, 0.1), max_iter=0).nit == 0
    assert solve(hand, hand_jac, np.full(7, 0.1), max_iter=2).status == Status.MAX_ITER


FAILING = """
    import sys
    import numpy as np
    from numba import njit
    from plsolve import solve, solve_batch

    @njit(boundscheck=True)
    def F(w, kind):
        r = np.array([w[0] ** 2 + w[1] - 3, w[1] * w[2] - 1.0])
        if w[0] != 1.0:
            if kind == 0:
                raise KeyError("mine")
            if kind == 1:
                r[0] = 1 // int(0 * w[0])
            if kind == 2:
                r[int(w[0]) + 5] = 1
            if kind == 3:
                return r[:1]
        return r

    @njit(boundscheck=True)
    def jac(w, kind):
        J = np.array([[2 * w[0], 1, 0], [0, w[2], w[1]]])
        if w[0] != 1.0:
            if kind == 4:
                raise KeyError("mine")
            if kind == 5:
                return J[:, :2].copy()
        return J

    start = np.array([1.0, 2, 3])
    for kind in range(6):
        for J in (jac, None)[: 1 if kind > 3 else 2]:
            ends = []
            for compiled in (True, False):
                try:
                    solve(F, J, start, args=(kind,), method="gauss-newton", compiled=compiled)
                    ends.append("no exception")
                except Exception as error:
                    ends.append((type(error).__name__, str(error)[:60], error.best.tolist()))
            assert ends[0] == ends[1] != "no exception", (kind, ends)
    kinds = np.array([9, 0, 9, 1, 2, 3, 4, 5, 9])
    starts = np.tile(start, (9, 1))
    batch = solve_batch(F, jac, starts, each=(kinds,))
    assert (batch.status == np.where(kinds == 9, 1, -5)).all(), batch.status
    starts[4] = np.nan
    batch = solve_batch(F, jac, starts, np.array([0.0, 0.0]), args=(9,))
    assert (np.delete(batch.status, 4) == 1).all(), batch.status
    assert batch.status[4] == -5
    print("fine")
"""


def test_failing_functions_end_as_in_interpreted_mode_and_never_kill_the_process():
    assert run_python(FAILING).endswith("fine\n")


def test_not_finite_jacobian_at_the_start():
    @njit
    def J(w):
        return np.array([[np.nan, 1.0], [0.0, 1.0]])

    for compiled in (True, False):
        with pytest.raises(ValueError, match=r"jac\(w0\)\[0, 0\]"):
            solve(valley, J, np.ones(2) * 2, compiled=compiled)
