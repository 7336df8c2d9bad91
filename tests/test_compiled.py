"""Compiled runs agree with interpreted ones, fail as they do, and are compiled once."""

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from jitted import hand, hand_jac, valley, valley_jac
from numba import njit

import plsolve
from plsolve import Status, jit, solve, solve_batch

PACKAGE = Path(plsolve.__file__).parent

# Problems: F, jac and start ------------------------------------------------------------------------------------------

A = np.random.default_rng(0).standard_normal((6, 25)) / 5
B = np.random.default_rng(1).standard_normal((12, 4))


@njit
def wavy(w, A, strength):
    z = A @ w
    return z + strength * np.sin(z) - 0.5


@njit
def wavy_jac(w, A, strength):
    z = A @ w
    return (1 + strength * np.cos(z)).reshape(-1, 1) * A


@njit
def wavy_rows(w, A, strength, rows):
    z = A[rows] @ w
    return z + strength * np.sin(z)


@njit
def wavy_rows_jac(w, A, strength, rows):
    z = A[rows] @ w
    return (1 + strength * np.cos(z)).reshape(-1, 1) * A[rows]


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
    solved, differ, distances = 0, 0, []
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
        differ += one.status != two.status
        if one.success and two.success:
            distances.append(np.linalg.norm(one.x - start) - np.linalg.norm(two.x - start))
    assert solved >= 3
    assert differ <= 1 + (n >= 9)
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
    agree(one, two, 1e-10)
    assert (one.x >= box[0]).all()
    assert (one.x <= box[1]).all()


def test_three_point_differences():
    runs = [solve(hand, "3-point", np.full(7, 0.1), compiled=c) for c in (True, False)]
    agree(*runs, 1e-8)


# Choosing ------------------------------------------------------------------------------------------------------------


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

    with pytest.raises(TypeError, match=r"`F` \(.*test_compiled.py, line \d+\) cannot be compiled(.|\n)*globals"):
        solve(F, None, np.zeros(3), compiled=True)
    with pytest.raises(TypeError, match=r"args\[0\]"):
        solve(lambda w, text: w - len(text), None, np.zeros(3), args=("text",), compiled=True)
    with pytest.raises(TypeError, match="compiled"):
        solve(hand, hand_jac, np.full(7, 0.1), compiled="yes")


@njit
def decay(p, x, y):
    return p[0] * np.exp(-p[1] * x) + p[2] - y


@njit
def decay_jac(p, x, y):
    e = np.exp(-p[1] * x)
    return np.column_stack((e, -p[0] * x * e, np.ones(x.size)))


def decays(k, noise):
    rng = np.random.default_rng(k)
    x = np.linspace(0, 4, 50)
    p = np.column_stack((rng.uniform(0.5, 3, k), rng.uniform(0.3, 3, k), rng.uniform(-1, 1, k)))
    return x, p[:, :1] * np.exp(-p[:, 1:2] * x) + p[:, 2:] + noise * rng.standard_normal((k, 50))


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


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_fits_in_batches(noise):
    x, Y = decays(30, noise)
    batch = solve_batch(decay, decay_jac, [1.0, 1.0, 0.0], args=(x,), each=(Y,), compiled=True)
    for i in range(0, 30, 7):
        one = solve(decay, decay_jac, [1.0, 1.0, 0.0], args=(x, Y[i]), compiled=False)
        np.testing.assert_allclose(batch.x[i], one.x, rtol=0, atol=1e-5)
        assert batch.success[i] == one.success


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
    agree(one, two, 1e-10)
    np.testing.assert_allclose(one.x[:2], -2.25)


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


# Chunks --------------------------------------------------------------------------------------------------------------


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


def test_max_iter():
    assert solve(hand, hand_jac, np.full(7, 0.1), max_iter=0).nit == 0
    assert solve(hand, hand_jac, np.full(7, 0.1), max_iter=2).status == Status.MAX_ITER


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


def test_two_processes_compile_at_once(tmp_path):
    """Both run, whatever the other writes to the cache meanwhile."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    code = textwrap.dedent(NEXT_PROCESS)
    pair = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) for _ in range(2)]
    assert [p.communicate(timeout=300)[0].split()[:1] for p in pair] == [[b"True"]] * 2
    assert run_python(NEXT_PROCESS, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["True"]


# Failures ------------------------------------------------------------------------------------------------------------

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


def run_python(code, **env):
    inherited = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=inherited | env, timeout=300,
        cwd=(inherited | env)["PYTHONPATH"],
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_failing_functions_end_as_in_interpreted_mode_and_never_kill_the_process():
    assert run_python(FAILING).endswith("fine\n")


def test_not_finite_jacobian_at_the_start():
    @njit
    def J(w):
        return np.array([[np.nan, 1.0], [0.0, 1.0]])

    for compiled in (True, False):
        with pytest.raises(ValueError, match=r"jac\(w0\)\[0, 0\]"):
            solve(valley, J, np.ones(2) * 2, compiled=compiled)


# Batches -------------------------------------------------------------------------------------------------------------


def targets(k):
    return np.random.default_rng(0).uniform(-2, 1, (k, 2))


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


def test_batch_input_is_checked():
    with pytest.raises(ValueError, match="as many systems"):
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
        target=lambda: (solve_batch(hand, hand_jac, np.full(7, 0.1), targets(3000), threads=1), done.set())
    )
    thread.start()
    while not done.wait(0.005):
        ticks.append(1)
    thread.join()
    assert len(ticks) > 3


# In the user's own compiled code -------------------------------------------------------------------------------------


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


# Compilation ---------------------------------------------------------------------------------------------------------

NEXT_PROCESS = """
    import numpy as np
    from numba import njit
    from numba.core import event
    from plsolve import solve
    with event.install_recorder("numba:compile") as record:
        F = njit(lambda w: np.array([w[0] + w[1] ** 2 - 1]))
        run = solve(F, None, np.array([1.0, 1.0, 1.0]), compiled=True)
    compiled = {e.data["dispatcher"].py_func.__module__ or "" for _, e in record.buffer}
    print(run.success, *sorted(name for name in compiled if "kernel" in name or "algebra" in name))
"""


def test_the_next_process_compiles_nothing_but_the_callbacks():
    assert solve(valley, None, np.ones(2)).compiled
    assert run_python(NEXT_PROCESS).split() == ["True"]


CONSTANT = """
    import numpy as np
    from numba import njit
    from plsolve import solve
    F = njit(lambda w: np.array([np.cos(np.cumsum(w)).sum() - 2, np.sin(np.cumsum(w)).sum() - 3]))
    print(solve(F, None, np.full(7, 0.1), compiled=True).nit)
"""


def test_cache_belongs_to_the_sources_and_is_used(tmp_path):
    """An edited copy of the package runs the new code; a second process finds what the first has compiled."""
    shutil.copytree(PACKAGE, tmp_path / "plsolve", ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    nit = int(run_python(CONSTANT, **env))
    files = set((tmp_path / "cache").rglob("*.nbc"))
    assert files
    assert int(run_python(CONSTANT, **env)) == nit
    assert set((tmp_path / "cache").rglob("*.nbc")) == files
    source = tmp_path / "plsolve" / "methods" / "gauss_newton.py"  # not the compiled functions' own file
    edited = (
        source.read_text().replace("FIRST_RADIUS = 0.25 ", "FIRST_RADIUS = 0.01 ").replace("CUT = 4.0 ", "CUT = 1e9 ")
    )
    edited = edited.replace("reach >= model.length", "reach >= 1e9").replace("PROBE = 0.5", "PROBE = 1e-3")
    assert edited != source.read_text()
    source.write_text(edited)
    run_python(CONSTANT, **env)
    assert set((tmp_path / "cache").rglob("*.nbc")) - files


@pytest.mark.parametrize("damage", ["empty", "cut", "scrambled", "index"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    env = {"NUMBA_CACHE_DIR": str(tmp_path)}
    nit = run_python(CONSTANT, **env)
    for path in sorted(tmp_path.rglob("*.nbi" if damage == "index" else "*.nb?"))[::5]:
        content = path.read_bytes()
        if damage == "cut":
            content = content[: len(content) // 2]
        elif damage == "scrambled":
            content = content[:20] + bytes(255 - b for b in content[20:])
        else:
            content = b""
        path.write_bytes(content)
    assert run_python(CONSTANT, **env) == nit
    assert run_python(CONSTANT, **env) == nit


def test_without_a_place_for_the_cache():
    no_place = """
    import logging
    import sys
    from numba.core import caching
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    caching.CacheImpl._locator_classes = caching.CompileResultCacheImpl._locator_classes = []
    """
    out = run_python(no_place + CONSTANT)
    assert out.count("no place on disk") == 1
    assert out.split()[-1] == run_python(CONSTANT).strip()


def test_the_first_compilation_says_so(tmp_path):
    code = "import logging\n    logging.basicConfig(level=logging.INFO)" + CONSTANT
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent("    " + code)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert out.stderr.count("compiles its solvers for this machine") >= 1


def test_nothing_is_compiled_at_import():
    out = run_python(
        """
        import sys
        import plsolve
        assert "numba" not in sys.modules
        from numba.core import event
        with event.install_recorder("numba:compile") as record:
            import plsolve.jit
        print(len(record.buffer))
        """
    )
    assert out.strip() == "0"


def test_memory_is_flat():
    resource = pytest.importorskip("resource")
    w0 = np.full(7, 0.1)
    for _ in range(300):
        solve(hand, hand_jac, w0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        solve(hand, hand_jac, w0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4000  # KiB


def test_memory_is_flat_where_functions_fail():
    resource = pytest.importorskip("resource")

    @njit
    def failing(w):
        if w[0] != 2.0:
            raise ValueError("w is", w[0])
        return w[:1] * 1.0

    many, goals = np.zeros((50_000, 2)), np.ones((50_000, 1))
    first = np.vstack((np.full((1, 2), 2.0), many))  # one that can be started

    def peak():
        assert (solve_batch(failing, None, first, np.vstack((goals[:1], goals)), threads=1).status[1:] == -5).all()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = max(peak(), peak())
    for _ in range(3):
        last = peak()
    assert last - before < 4000  # KiB, where each failure would keep 80 bytes
