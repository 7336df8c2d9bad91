"""sgd in compiled code: the steps of interpreted runs, their ends, and what is left to those, as gd is."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from jitted import wavy_rows, wavy_rows_jac
from numba import njit

import plsolve
from plsolve import Status, solve

A = np.random.default_rng(0).standard_normal((6, 25)) / 5
B = np.random.default_rng(1).standard_normal((12, 4))
HALF = np.full(6, 0.5)

PROBLEMS = {  # F, jac, start, target and args
    "wavy": (wavy_rows, wavy_rows_jac, np.zeros(25), HALF, (A, 0.3)),
    "overdetermined": (wavy_rows, wavy_rows_jac, np.ones(4), np.full(12, 0.5), (B, 0.2)),
}
SGD = {"method": "sgd", "rng": 3}
WAVY = {"F": wavy_rows, "jac": wavy_rows_jac, "w0": np.zeros(25), "y": HALF, "args": (A, 0.3)}


def both(name, **settings):
    F, jac, w0, y, args = PROBLEMS[name]
    runs = [solve(F, jac, w0, y, args=args, compiled=compiled, **settings) for compiled in (True, False)]
    assert [run.compiled for run in runs] == [True, False]
    return runs


def agree(one, two, rtol=1e-12):
    assert (one.status, one.message, one.nit) == (two.status, two.message, two.nit)
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=rtol * (np.linalg.norm(two.x) or 1))
    np.testing.assert_array_equal(one.history.nit, two.history.nit)
    np.testing.assert_allclose(one.history.loss, two.history.loss, rtol=1e-7, atol=1e-18)
    np.testing.assert_allclose(one.history.step, two.history.step, rtol=1e-7, atol=1e-14)
    np.testing.assert_allclose(one.history.pl, two.history.pl, rtol=1e-5)
    np.testing.assert_allclose(one.history.bound, two.history.bound, rtol=1e-4)


# The same steps ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wavy", "overdetermined"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 1},
        {"batch_size": 5},
        {"step_size": "theorem"},
        {"step_size": "polyak", "batch_size": 2},
        {"step_size": "kaczmarz", "batch_size": 1},
        {"step_size": 0.03, "batch_size": 3},
        {"momentum": "mass", "batch_size": 2},
        {"rows": "cyclic", "batch_size": 4},
    ],
    ids=str,
)
def test_sgd(name, options):
    one, two = both(name, options=options, max_iter=101, **SGD)
    agree(one, two, 1e-11)
    assert (one.nfev, one.njev) == (two.nfev, two.njev)


@pytest.mark.parametrize("mass", [{}, {"momentum": "mass"}])
def test_sgd_within_bounds_and_scaled(mass):
    settings = {"bounds": (-0.1, 0.2), "x_scale": np.linspace(0.5, 2, 25), "options": {"batch_size": 2, **mass}}
    one, two = both("wavy", max_iter=90, **settings, **SGD)
    agree(one, two, 1e-11)
    assert one.x.max() == 0.2


@pytest.mark.parametrize("generator", [np.random.PCG64, np.random.MT19937, np.random.SFC64])
@pytest.mark.parametrize("step_size", ["kaczmarz", 50.0])
def test_a_generator_is_left_where_interpreted_runs_leave_it(generator, step_size):
    """Steps that are too long leave the range of numbers in the middle of an epoch."""
    ends = []
    for compiled in (True, False):
        rng = np.random.Generator(generator(5))
        options = {"batch_size": 1, "step_size": step_size}
        run = solve(**WAVY, method="sgd", rng=rng, max_iter=5000, options=options, compiled=compiled)
        ends.append((run.status, run.nit, rng.integers(0, 1 << 60)))
    assert ends[0] == ends[1]


def test_an_epoch_of_many_chunks():
    rng = np.random.default_rng(0)
    C = rng.standard_normal((3000, 40))
    args, settings = (C, 0.0), {"max_iter": 7000, "options": {"batch_size": 1}, **SGD}
    y = wavy_rows.py_func(rng.standard_normal(40), *args, np.arange(3000))
    agree(*(solve(wavy_rows, wavy_rows_jac, np.zeros(40), y, args=args, compiled=c, **settings) for c in (True, False)))


# What is left to interpreted runs ------------------------------------------------------------------------------------


def plain(w):
    return A @ w


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({**SGD, "options": {"rows": "max"}}, "all rows"),
        ({**SGD, "options": {"rows": "residual"}}, "all rows"),
        ({**SGD, "options": {"step_size": "kaczmarz", "batch_size": 2}}, "all of J_B"),
        ({**SGD, "options": {"rows": "shuffled"}}, "shuffled"),
        ({**SGD, "F": njit(plain), "jac": njit(lambda w: A), "args": ()}, "no `rows`"),
        ({**SGD, "jac": None}, "jac is no function"),
        ({"method": "gd"}, "interpreted"),
        ({"method": "gd", "options": {"momentum": "nesterov"}}, "interpreted"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_gains_nothing_is_interpreted_and_says_why(settings, why):
    run = solve(**{**WAVY, **settings}, max_iter=5)
    assert run.compiled is False
    with pytest.raises(TypeError, match=f"`compiled=True` is not possible: .*{why}"):
        solve(**{**WAVY, **settings}, max_iter=5, compiled=True)


# Failures ------------------------------------------------------------------------------------------------------------


@njit(boundscheck=True)
def failing(w, kind, rows):
    r = np.array([w[0] ** 2 + w[1] - 3, w[1] * w[2] - 1.0, w[0] - w[2]])[rows]
    if abs(w[0] - 1.0) > 0.01:
        if kind == 0:
            raise KeyError("mine")
        if kind == 1:
            r[0] = 1 // int(0 * w[0])
        if kind == 2:
            r[int(w[0]) + 5] = 1
        if kind == 3:
            return np.ones(7)
        if kind == 6:
            r[0] = np.nan
    return r


@njit(boundscheck=True)
def failing_jac(w, kind, rows):
    J = np.array([[2 * w[0], 1, 0], [0, w[2], w[1]], [1.0, 0, -1.0]])[rows]
    if abs(w[0] - 1.0) > 0.01:
        if kind == 4:
            raise KeyError("mine")
        if kind == 5:
            return np.ones((2, 7))
        if kind == 7:
            J[0, 0] = np.inf
    return J


@pytest.mark.parametrize("kind", range(8))
@pytest.mark.parametrize("batch", [1, 2])
def test_failures_end_as_in_interpreted_runs(kind, batch):
    settings = {"method": "sgd", "rng": 0, "options": {"batch_size": batch, "step_size": 0.01}}
    ends = []
    for compiled in (True, False):
        try:
            run = solve(
                failing, failing_jac, [1.0, 2.0, 3.0], np.zeros(3), args=(kind,), max_iter=500, compiled=compiled,
                **settings,
            )  # fmt: skip
            ends.append((run.status, run.message, run.nit, *run.x.round(9)))
        except Exception as error:  # noqa: BLE001
            ends.append((type(error), str(error)[:60], *error.best.round(9)))
    assert ends[0] == ends[1]
    assert (kind > 5) == isinstance(ends[0][0], Status)


def test_functions_may_write_to_what_they_get():
    def F(w, rows):
        r = (A @ w)[rows]
        w[:] = 7.0
        rows[:] = 0
        return r

    def jac(w, rows):
        J = A[rows]
        w[:] = 7.0
        rows[:] = 0
        return J

    clean = njit(lambda w, rows: (A @ w)[rows]), njit(lambda w, rows: A[rows])
    one, two = (
        solve(*pair, np.zeros(25), HALF, compiled=True, max_iter=50, options={"batch_size": 2}, **SGD)
        for pair in ((njit(F), njit(jac)), clean)
    )
    np.testing.assert_array_equal(one.x, two.x)


def test_jacobians_of_one_row_may_be_vectors():
    F, jac = njit(lambda w, rows: w[:1] ** 2 + w[1:2] - 3.0), njit(lambda w, rows: np.array([2.0 * w[0], 1.0]))
    assert solve(F, jac, [1.0, 1.0], [0.0], compiled=True, **SGD).success


# Callbacks and limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"momentum": "mass", "batch_size": 2}], ids=str)
def test_callbacks(options):
    """They see every epoch; what comes out does not depend on them."""
    settings = {**SGD, "options": options}
    seen = {True: [], False: []}
    for compiled, points in seen.items():
        watched = solve(
            **WAVY,
            tol=0,
            max_iter=40,
            compiled=compiled,
            callback=lambda w, points=points: points.append(w),
            **settings,
        )
    np.testing.assert_allclose(seen[True], seen[False], rtol=0, atol=1e-12)
    alone = solve(**WAVY, tol=0, max_iter=40, compiled=True, **settings)
    assert len(seen[True]) == len(alone.history.nit) - 1
    watched = solve(**WAVY, tol=0, max_iter=40, compiled=True, callback=lambda w: None, **settings)
    np.testing.assert_array_equal(alone.x, watched.x)
    np.testing.assert_allclose(alone.history.loss, watched.history.loss, rtol=1e-14)

    def stop(intermediate_result):
        if intermediate_result.nit > 6:
            raise StopIteration

    one, two = (solve(**WAVY, tol=0, callback=stop, compiled=c, **settings) for c in (True, False))
    assert one.status == Status.CALLBACK
    agree(one, two)

    def fail(w):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as info:
        solve(**WAVY, callback=fail, compiled=True, **settings)
    assert np.linalg.norm(wavy_rows(info.value.best, A, 0.3, np.arange(6)) - HALF) < np.linalg.norm(HALF)


@njit
def slow(w, rows):
    s = 0.0
    for i in range(100_000):
        s += np.sin(i * w[0])  # a millisecond
    return (w + 1e-9 * s + w**3 + 1)[rows]


@njit
def slow_jac(w, rows):
    return np.diag(1 + 3 * w**2)[rows]


SLOW = {"method": "sgd", "options": {"step_size": 1e-7, "batch_size": 1}, "compiled": True}


def test_max_time():
    def run(limit, **more):
        return solve(slow, slow_jac, np.ones(40), np.zeros(40), max_time=limit, **SLOW, **more)

    run(None, max_iter=3)
    begin = time.monotonic()
    sol = run(0.5)
    assert sol.status == Status.MAX_TIME
    assert sol.nit > 3
    assert time.monotonic() - begin < 3.0


INTERRUPTED = """
    import os, signal, threading
    import numpy as np
    from tests_of import SLOW, slow, slow_jac
    from plsolve import solve

    solve(slow, slow_jac, np.ones(4), np.zeros(4), max_iter=3, **SLOW)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        solve(slow, slow_jac, np.ones(4), np.zeros(4), **SLOW)
    except KeyboardInterrupt as error:
        print("interrupted", bool((error.best < 1).all()))
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGINT cannot be sent there")
def test_ctrl_c_keeps_the_best_point(tmp_path):
    (tmp_path / "tests_of.py").write_text(Path(__file__).read_text())
    folders = Path(plsolve.__file__).parents[1], Path(__file__).parent, tmp_path
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    code = textwrap.dedent(INTERRUPTED)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=300)
    assert done.stdout.split() == ["interrupted", "True"], done.stderr


def test_memory_is_flat():
    resource = pytest.importorskip("resource")

    def many(k):
        for _ in range(k):
            solve(**WAVY, max_iter=20, compiled=True, certify=False, **SGD)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = max(many(100), many(100))
    assert many(400) - before < 4000  # KiB


@pytest.mark.parametrize("options", [{}, {"momentum": "mass", "batch_size": 2}], ids=str)
def test_functions_that_only_read(options):
    """What they get is marked as read-only, and so are the points where runs go on."""
    reading = njit(wavy_rows.py_func), njit(wavy_rows_jac.py_func)
    for function in reading:
        function.reads_only = True
    one, two = (
        solve(*pair, np.zeros(25), HALF, args=(A, 0.3), tol=0, max_iter=90, compiled=True, options=options, **SGD)
        for pair in (reading, (wavy_rows, wavy_rows_jac))
    )
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=1e-14)


@pytest.mark.parametrize("scale", [1e-165, 1e140])
def test_numbers_at_the_edge(scale):
    F, jac = njit(lambda w, rows: scale * (A @ w)[rows]), njit(lambda w, rows: scale * A[rows])
    one, two = (solve(F, jac, np.zeros(25), scale * HALF, max_iter=30, compiled=c, **SGD) for c in (True, False))
    assert (one.status, one.nit) == (two.status, two.nit)
    np.testing.assert_allclose(one.x, two.x, rtol=0, atol=1e-12)
