"""Batches in compiled code, and solves inside the user's own compiled functions."""

import os
import threading

import numpy as np
import pytest
from jitted import decay, decay_jac, decays, hand, hand_jac, run_python, targets
from numba import njit

from plsolve import Status, jit, solve, solve_batch


def test_batch_is_as_single_solves_whatever_the_threads():
    Y = targets(70)
    one = solve_batch(hand, hand_jac, np.full(7, 0.1), Y, threads=1)
    two = solve_batch(hand, hand_jac, np.full(7, 0.1), Y, threads=3)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    for i in (0, 33, 69):
        single = solve(hand, hand_jac, np.full(7, 0.1), Y[i])
        np.testing.assert_array_equal(single.x, one.x[i])
        np.testing.assert_array_equal(single.fun, one.fun[i])
        assert (single.status, single.nit) == (one.status[i], one.nit[i])
    assert one.success.all()


@pytest.mark.parametrize("compiled", [True, False])
def test_batch_arguments_of_each_system(compiled):
    rng = np.random.default_rng(0)
    shifts, factors = rng.random((20, 2)), rng.integers(1, 5, 20)

    def F(w, a, shift, factor):
        return factor * (w[:2] + a * w[2] - shift)

    batch = solve_batch(F, None, np.zeros(3), args=(0.5,), each=(shifts, factors), compiled=compiled)
    assert batch.success.all()
    np.testing.assert_allclose(batch.x[:, :2] + 0.5 * batch.x[:, 2:], shifts, atol=1e-8)


@pytest.mark.parametrize("compiled", [True, False])
def test_restarts(compiled):
    def F(w):
        return np.array([np.sin(3 * w[0]) + 0.1 * w[0] - 0.9])

    starts = np.linspace(-3, 3, 15).reshape(-1, 1)
    settings = {"bounds": (-3.0, 3.0), "compiled": compiled, "rng": 5}
    few = solve_batch(F, None, starts, **settings)
    more = solve_batch(F, None, starts, restarts=8, **settings)
    again = solve_batch(F, None, starts, restarts=8, threads=2, **settings)
    assert few.success.sum() < more.success.sum() == 15
    np.testing.assert_array_equal(more.x, again.x)
    np.testing.assert_array_equal(more.x[few.success], few.x[few.success])
    assert (np.abs(more.x) <= 3).all()


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_fits_in_batches(noise):
    x, Y = decays(30, noise)
    batch = solve_batch(decay, decay_jac, [1.0, 1.0, 0.0], args=(x,), each=(Y,), compiled=True)
    for i in range(0, 30, 7):
        one = solve(decay, decay_jac, [1.0, 1.0, 0.0], args=(x, Y[i]), compiled=False)
        np.testing.assert_allclose(batch.x[i], one.x, rtol=0, atol=1e-5)
        assert batch.success[i] == one.success


def test_batch_input_is_checked():
    with pytest.raises(ValueError, match="same number of rows"):
        solve_batch(hand, hand_jac, np.zeros((3, 7)), np.zeros((4, 2)))
    with pytest.raises(ValueError, match="threads"):
        solve_batch(hand, hand_jac, np.zeros((3, 7)), threads=0)
    with pytest.raises(ValueError, match="restarts"):
        solve_batch(hand, hand_jac, np.zeros((3, 7)), restarts=-1)
    assert solve_batch(hand, hand_jac, np.zeros((0, 7)), np.zeros((0, 2))).x.shape == (0, 7)


def test_batch_shows_a_bar(capsys):
    solve_batch(hand, hand_jac, np.full(7, 0.1), targets(10), progress=True)
    assert "10/10" in capsys.readouterr().err


def test_batch_releases_the_gil():
    ticks, done = [], threading.Event()
    thread = threading.Thread(
        target=lambda: (solve_batch(hand, hand_jac, np.full(7, 0.1), targets(30_000), threads=1), done.set())
    )
    thread.start()
    while not done.wait(0.005):
        ticks.append(1)
    thread.join()
    assert len(ticks) > 3


INTERRUPTED = """
    import os
    import signal
    import threading
    import numpy as np
    from numba import njit
    from plsolve import solve_batch

    @njit
    def slow(w):
        s = 0.0
        for i in range(100_000):
            s += np.sin(i * w[0])
        return w + 1e-9 * s + w**3 + 1

    solve_batch(slow, None, np.ones((2, 2)))
    threading.Timer(0.7, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        solve_batch(slow, None, np.ones((10**6, 2)))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent there")
def test_ctrl_c_stops_a_batch():
    assert run_python(INTERRUPTED).split() == ["interrupted"]


def test_solves_in_compiled_functions_keep_their_memory_to_themselves():
    out = run_python(
        """
        import numpy as np
        from numba import njit
        from plsolve import jit
        @njit
        def F(w):
            t = np.full(600, 1e5)  # takes the memory of a system that has been given up
            return np.array([w[0] * w[1] - 2 + 0 * t[0], w[1] + w[2] ** 2 - 3])

        @njit
        def cubic(v):
            return v * v * v + v

        @njit
        def nested(w):
            return jit.gauss_newton(cubic, None, w[:2].copy(), np.array([w[2], 1.0])).x + w[1:3]

        @njit
        def both(w0, y):
            return jit.gauss_newton(F, None, w0, np.zeros(2)).success, jit.gauss_newton(nested, None, w0, y).success

        print(both(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0])))
        """
    )
    assert out == "(True, True)\n"


def test_jit_gauss_newton():
    @njit
    def reach(Y):
        x = np.empty((Y.shape[0], 7))
        solved = 0
        for i in range(Y.shape[0]):
            s = jit.gauss_newton(hand, hand_jac, np.full(7, 0.1), Y[i])
            x[i] = s.x
            solved += s.success
        return x, solved

    Y = targets(20)
    x, solved = reach(Y)
    np.testing.assert_array_equal(x, solve_batch(hand, hand_jac, np.full(7, 0.1), Y).x)
    assert solved == 20
    outside = jit.gauss_newton(hand, None, np.full(7, 0.1), Y[0], 1e-8, 50)
    assert outside.success
    assert outside.status == Status.RESIDUAL
