"""Compiled solves against scipy and a hand-written loop: python -m benchmarks.checks.compiled [case ...]."""

import sys
import time
from functools import partial

import numpy as np
from numba import njit
from scipy.optimize import least_squares

from benchmarks.checks.arms import PANDA, READY, planar, planar_jac, pose, pose_jac, reachable
from plsolve import jit, solve, solve_batch


@njit
def dual_step(J, r, lam, L, x):
    """x = (J J^T + lam I)^-1 r by Cholesky."""
    for i in range(6):
        for j in range(i + 1):
            a = lam if i == j else 0.0
            for k in range(7):
                a += J[i, k] * J[j, k]
            for k in range(j):
                a -= L[i, k] * L[j, k]
            L[i, j] = np.sqrt(a) if i == j else a / L[j, j]
    for i in range(6):
        x[i] = r[i]
        for k in range(i):
            x[i] -= L[i, k] * x[k]
        x[i] /= L[i, i]
    for i in range(5, -1, -1):
        for k in range(i + 1, 6):
            x[i] -= L[k, i] * x[k]
        x[i] /= L[i, i]


@njit
def damped(q, goal, tol):
    """The hand-written loop: p = -J^T (J J^T + lam I)^-1 r, lam by success and failure, its constants tuned here."""
    r = pose(q, goal)
    size, lam, fresh = np.sqrt((r * r).sum()), 0.1, True
    J, L, x = np.empty((6, 7)), np.empty((6, 6)), np.empty(6)
    for _ in range(50):
        if size <= tol:
            break
        if fresh:
            J = pose_jac(q, goal)
        dual_step(J, r, lam, L, x)
        new = q.copy()
        for i in range(6):
            for k in range(7):
                new[k] -= J[i, k] * x[i]
        trial = pose(new, goal)
        s = np.sqrt((trial * trial).sum())
        fresh = s < size
        if fresh:
            q, r, size, lam = new, trial, s, 0.3 * lam
        else:
            lam *= 4.0
    return q, size


@njit
def plain(q, goal, tol):
    """The same as one writes it down: products and numpy's solver, a new array for every expression."""
    r = pose(q, goal)
    size, lam = np.sqrt((r * r).sum()), 0.01
    for _ in range(100):
        if size <= tol:
            break
        J = pose_jac(q, goal)
        K = J @ J.T
        for i in range(6):
            K[i, i] += lam
        new = q - J.T @ np.linalg.solve(K, r)
        trial = pose(new, goal)
        s = np.sqrt((trial * trial).sum())
        if s < size:
            q, r, size, lam = new, trial, s, 0.3 * lam
        else:
            lam *= 4.0
    return q, size


@njit
def plainly(goals, start, tol):
    solved = 0
    for i in range(goals.shape[0]):
        solved += plain(start, goals[i], tol)[1] <= tol
    return solved


@njit
def hand_written(goals, start, tol):
    """How many it solves to 1e-10."""
    solved = 0
    for i in range(goals.shape[0]):
        _, size = damped(start, goals[i], tol)
        solved += size <= 1e-10
    return solved


@njit
def damped_planar(w):
    for _ in range(100):
        r = planar(w)
        if r[0] * r[0] + r[1] * r[1] < 1e-20 * 13:
            break
        J = planar_jac(w)
        a, b, c = (J[0] * J[0]).sum(), (J[0] * J[1]).sum(), (J[1] * J[1]).sum()
        det = a * c - b * b
        u, v = (c * r[0] - b * r[1]) / det, (a * r[1] - b * r[0]) / det
        w = w - (u * J[0] + v * J[1])
    return w


@njit
def repeat_jit(k, start):
    x, zero = 0.0, np.zeros(2)
    for _ in range(k):
        x += jit.gauss_newton(planar, planar_jac, start, zero).x[0]
    return x


@njit
def repeat_hand(k, start):
    x = 0.0
    for _ in range(k):
        x += damped_planar(start)[0]
    return x


def per_call(f, calls, rounds=3):
    """Microseconds a call, the best of some rounds."""
    f()
    best = np.inf
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(calls):
            f()
        best = min(best, (time.perf_counter() - begin) / calls * 1e6)
    return best


def case_planar():
    start = np.full(7, 0.1)
    compiled = per_call(lambda: solve(planar, planar_jac, start), 500)
    plain = per_call(lambda: solve(planar, planar_jac, start, certify=False), 500)
    interpreted = per_call(lambda: solve(planar, planar_jac, start, compiled=False), 100)
    scipys = {}
    for m in ("dogbox", "trf"):
        settings = {"method": m, "xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
        scipys[m] = per_call(lambda settings=settings: least_squares(planar, start, planar_jac, **settings), 30)
    inside = per_call(lambda: repeat_jit(1000, start), 3) / 1000
    hand = per_call(lambda: repeat_hand(1000, start), 3) / 1000
    print(f"planar arm 2 x 7: compiled {compiled:.0f} us (uncertified {plain:.0f}), interpreted {interpreted:.0f}",
          "scipy", {m: round(v) for m, v in scipys.items()}, f"-> {min(scipys.values()) / compiled:.1f}x")  # fmt: skip
    print(f"  inside njit {inside:.1f} us, hand-written {hand:.1f} us -> {inside / hand:.2f}x")


TIGHT = {"method": "dogbox", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}


def share_solved(residuals):
    return np.mean(np.linalg.norm(residuals, axis=1) <= 1e-10)


def one_by_one(method, goals):
    for goal in goals:
        method(args=(goal,))


def case_arm(k=1000, tol=1e-11):
    """Reachable targets, position and orientation, all from the ready pose."""
    print(f"7-joint arm in space, {k} targets, solved to 1e-10")
    for seed in range(3):
        goals = reachable(k, seed)
        shares = {
            "plsolve": solve_batch(pose, pose_jac, READY, each=(goals,), tol=tol).fun,
            "with restarts and limits": solve_batch(
                pose, pose_jac, READY, each=(goals,), tol=tol, restarts=30, rng=0, bounds=(PANDA.lower, PANDA.upper)
            ).fun,
            "dogbox": [least_squares(pose, READY, pose_jac, args=(g,), **TIGHT).fun for g in goals],
        }
        print(f"  seed {seed}:", ", ".join(f"{name} {share_solved(r):.1%}" for name, r in shares.items())
              + f", hand-written loop {hand_written(goals, READY, tol) / k:.1%}")  # fmt: skip
    goals, batches = reachable(k, 0), {}
    for threads in (1, 2):
        run = partial(solve_batch, pose, pose_jac, READY, each=(goals,), tol=tol, threads=threads)
        batches[threads] = per_call(run, 1, 7) / k
    hand, simple = (per_call(lambda f=f: f(goals, READY, tol), 1) / k for f in (hand_written, plainly))
    one = partial(solve, pose, pose_jac, READY, tol=tol, certify=False)
    theirs = partial(least_squares, pose, READY, pose_jac, **TIGHT)
    single, dogbox = (
        per_call(partial(one_by_one, f, goals[:300]), 1, rounds) / 300 for f, rounds in ((one, 7), (theirs, 1))
    )
    print(f"  a target: from Python {single:.0f} us, dogbox {dogbox:.0f} -> {dogbox / single:.0f}x; batch, one thread "
          f"{batches[1]:.1f}, two {batches[2]:.1f} -> {batches[1] / batches[2]:.2f}x; hand-written {hand:.1f} "
          f"-> {batches[1] / hand:.2f}x, plainly written {simple:.1f} ({plainly(goals, READY, tol) / k:.1%} solved) "
          f"-> {batches[1] / simple:.2f}x")  # fmt: skip


def case_start(k=1000, tol=1e-11):
    """The same targets from one start, no restarts: how many are solved, how far the arm moves, what it costs.

    At c22c6c4, seeds 0, 1, 2, in both modes: 93.0, 92.1 and 91.6 % solved, moved 3.1808, 3.1230 and 3.2214 rad, 9
    Jacobians and 12 F, on average 11.2, 11.1 and 11.4 Jacobians a run.
    """
    print(f"7-joint arm in space, {k} targets, one start, solved to 1e-10")
    for seed in range(3):
        goals = reachable(k, seed)
        for mode in ("compiled", "interpreted"):
            run = partial(solve, pose, pose_jac, READY, tol=tol, certify=False, compiled=mode == "compiled")
            runs = [run(args=(goal,)) for goal in goals]
            solved = [s for s in runs if np.linalg.norm(s.fun) <= 1e-10]
            assert not any(s.success and np.linalg.norm(s.fun) > 1e-10 for s in runs), "called solved, and is not"
            moved, njev, nfev = np.median([(np.linalg.norm(s.x - READY), s.njev, s.nfev) for s in solved], axis=0)
            spent = np.mean([s.njev for s in runs])
            print(f"  seed {seed}, {mode:11s}: {len(solved) / k:.1%} solved, medians of these: moved {moved:.4f} rad, "
                  f"{njev:.0f} Jacobians, {nfev:.0f} F; {spent:.1f} Jacobians a run")  # fmt: skip


@njit
def affine(w, A, b, rows):
    f = np.empty(rows.size)
    for i in range(rows.size):
        f[i] = A[rows[i]].dot(w) - b[rows[i]]
    return f


@njit
def affine_jac(w, A, b, rows):
    J = np.empty((rows.size, w.size))
    for i in range(rows.size):
        J[i] = A[rows[i]]
    return J


def case_sgd():
    """Microseconds a step, from the difference of a long run and a short one, and whole runs."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20_000, 50)) / 7
    b = A @ rng.standard_normal(50)

    def ours(steps, batch, compiled):
        options = {"batch_size": batch}
        sol = solve(affine, affine_jac, np.zeros(50), np.zeros(20_000), args=(A, b), method="sgd", rng=0, tol=0,
                    max_iter=steps, options=options, compiled=compiled, certify=False)  # fmt: skip
        assert sol.nit == steps

    for batch in (1, 10, 100):
        short, long = 400 // batch, 200_000 // batch
        us, whole = {}, {}
        for compiled in (True, False):
            run = partial(ours, batch=batch, compiled=compiled)
            whole[compiled] = per_call(partial(run, long), 1, 2)
            us[compiled] = (whole[compiled] - per_call(partial(run, short), 1, 2)) / (long - short)
        print(f"sgd 20000 x 50, batch {batch}, us a step: {us[True]:.1f} compiled, {us[False]:.1f} interpreted "
              f"-> {us[False] / us[True]:.1f}x; of ten epochs {whole[False] / whole[True]:.1f}x")  # fmt: skip


@njit
def network(w, X, rows):
    """Two layers, tanh, the inputs X (n, k): F of some rows; w holds W (k, width), b, v (width,) and one number."""
    k = X.shape[1]
    width = (w.size - 1) // (k + 2)
    W, b, v = w[: k * width].reshape(k, width), w[k * width : (k + 1) * width], w[(k + 1) * width : (k + 2) * width]
    f = np.full(rows.size, w[-1])
    for i in range(rows.size):
        z = b.copy()
        for j in range(k):
            z += X[rows[i], j] / np.sqrt(k) * W[j]
        for h in range(width):
            f[i] += np.tanh(z[h]) * v[h] / np.sqrt(width)
    return f


@njit
def network_jac(w, X, rows):
    k = X.shape[1]
    width = (w.size - 1) // (k + 2)
    W, b, v = w[: k * width].reshape(k, width), w[k * width : (k + 1) * width], w[(k + 1) * width : (k + 2) * width]
    J = np.empty((rows.size, w.size))
    for i in range(rows.size):
        z = b.copy()
        for j in range(k):
            z += X[rows[i], j] / np.sqrt(k) * W[j]
        slope, size = J[i, k * width : (k + 1) * width], J[i, (k + 1) * width : (k + 2) * width]
        for h in range(width):
            t = np.tanh(z[h])
            slope[h], size[h] = (1 - t * t) * v[h] / np.sqrt(width), t / np.sqrt(width)
        for j in range(k):
            J[i, j * width : (j + 1) * width] = X[rows[i], j] / np.sqrt(k) * slope
        J[i, -1] = 1.0
    return J


@njit
def fused(w, X, y, batch, eta, steps, rng):
    """SGD as one writes it by hand, the loss checked once an epoch."""
    w, n, loss = w.copy(), y.size, 0.0
    everything, rows = np.arange(n), np.empty(batch, np.int64)
    for step in range(steps):
        for i in range(batch):
            rows[i] = rng.integers(0, n)
        r = network(w, X, rows) - y[rows]
        J = network_jac(w, X, rows)
        for i in range(batch):
            c = eta * r[i]
            for j in range(w.size):
                w[j] -= c * J[i, j]
        if (step + 1) % (n // batch) == 0:
            loss = ((network(w, X, everything) - y) ** 2).sum()
    return loss


def case_network(n=50, inputs=20, width=2048):
    """SGD on a wide network, m = 45 057: microseconds a step, from the difference of a long run and a short one."""
    rng = np.random.default_rng(0)
    X, w0 = rng.standard_normal((n, inputs)), rng.standard_normal((inputs + 2) * width + 1)
    y = np.sin(X[:, 0]) * X[:, 1]

    reading = njit(network.py_func), njit(network_jac.py_func)
    for function in reading:
        function.reads_only = True

    def ours(steps, pair, batch, compiled):
        options = {"batch_size": batch}
        sol = solve(*pair, w0, y, args=(X,), method="sgd", rng=0, tol=0, max_iter=steps, options=options,
                    compiled=compiled, certify=False)  # fmt: skip
        assert sol.nit == steps

    for batch in (1, 2, 10):
        runs = {
            "compiled": partial(ours, pair=(network, network_jac), batch=batch, compiled=True),
            "reads_only": partial(ours, pair=reading, batch=batch, compiled=True),
            "interpreted": partial(ours, pair=(network, network_jac), batch=batch, compiled=False),
            "hand-fused": lambda steps, batch=batch: fused(w0, X, y, batch, 1e-3 / batch, steps, rng),
        }
        short, long = 1000 // batch, 5000 // batch
        us = {name: (per_call(partial(run, long), 1) - per_call(partial(run, short), 1)) / (long - short)
              for name, run in runs.items()}  # fmt: skip
        print(f"network {n} x {w0.size}, batch {batch}, us a step:", ", ".join(f"{k} {v:.0f}" for k, v in us.items()),
              *(f"-> {k} {us[k] / us['hand-fused']:.2f}x hand-fused" for k in ("compiled", "reads_only")))  # fmt: skip


@njit
def wide(w, A):
    return np.tanh(A @ w) + A @ w - 0.3


@njit
def wide_jac(w, A):
    z = np.tanh(A @ w)
    return (2 - z * z).reshape(-1, 1) * A


def case_large():
    for n, m in ((100, 2000), (400, 4000)):
        A = np.random.default_rng(0).standard_normal((n, m)) / np.sqrt(m)
        times = {}
        for compiled in (True, False):
            times[compiled] = per_call(
                lambda c=compiled, A=A, m=m: solve(wide, wide_jac, np.zeros(m), args=(A,), compiled=c, certify=False), 3
            )
        print(f"n = {n}, m = {m}: compiled {times[True] / 1e3:.1f} ms, interpreted {times[False] / 1e3:.1f} ms")


@njit
def decay(p, x, y):
    return p[0] * np.exp(-p[1] * x) + p[2] - y


@njit
def decay_jac(p, x, y):
    J, e = np.empty((x.size, 3)), np.exp(-p[1] * x)
    J[:, 0], J[:, 1], J[:, 2] = e, -p[0] * x * e, 1.0
    return J


def case_fits(k=10_000, noise=0.02):
    """Exponentials through 50 points, one decay per pixel, against scipy's compiled lm one by one."""
    rng, x = np.random.default_rng(0), np.linspace(0, 4, 50)
    p = np.column_stack([rng.uniform(0.5, 3, k), rng.uniform(0.3, 3, k), rng.uniform(-1, 1, k)])
    Y = p[:, :1] * np.exp(-p[:, 1:2] * x) + p[:, 2:] + noise * rng.standard_normal((k, 50))
    start = np.array([1.0, 1.0, 0.0])
    one = per_call(lambda: solve(decay, decay_jac, start, args=(x, Y[0]), certify=False), 200)
    lm = per_call(lambda: least_squares(decay, start, decay_jac, args=(x, Y[0]), method="lm"), 200)
    many = per_call(lambda: solve_batch(decay, decay_jac, start, args=(x,), each=(Y,), threads=1), 1) / k
    print(f"fits 50 x 3: from Python {one:.0f} us, lm {lm:.0f} -> {lm / one:.1f}x; "
          f"batch {many:.1f} -> {lm / many:.1f}x")  # fmt: skip


CASES = {
    "planar": case_planar,
    "arm": case_arm,
    "start": case_start,
    "sgd": case_sgd,
    "network": case_network,
    "large": case_large,
    "fits": case_fits,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
