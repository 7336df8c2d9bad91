"""Compiled solves against scipy and a hand-written loop: python -m benchmarks.checks.compiled [case ...]."""

import sys
import time

import numpy as np
from numba import njit
from scipy.optimize import least_squares

from plsolve import jit, solve, solve_batch


@njit
def planar(w):
    t = np.cumsum(w)
    return np.array([np.cos(t).sum() - 2, np.sin(t).sum() - 3])


@njit
def planar_jac(w):
    J = np.empty((2, w.size))
    t, a, b = np.cumsum(w), 0.0, 0.0
    for i in range(w.size - 1, -1, -1):
        a -= np.sin(t[i])
        b += np.cos(t[i])
        J[0, i], J[1, i] = a, b
    return J


# A 7-joint arm with spherical shoulder and wrist: Denavit-Hartenberg (alpha, d), a = 0, lengths in metres.
ALPHA = np.array([-1, 1, 1, -1, -1, 1, 0]) * np.pi / 2
D = np.array([0.34, 0.0, 0.40, 0.0, 0.40, 0.0, 0.126])
LIMITS = np.radians([170.0, 120.0, 170.0, 120.0, 170.0, 120.0, 175.0])
READY = np.array([0.0, 0.5, 0.0, -1.2, 0.0, 0.8, 0.0])


@njit
def frames(q):
    """Axes and origins of the joints, and the pose of the hand."""
    R, p = np.eye(3), np.zeros(3)
    axes, origins = np.empty((7, 3)), np.empty((7, 3))
    for i in range(7):
        for k in range(3):
            axes[i, k], origins[i, k] = R[k, 2], p[k]
        c, s, ca, sa = np.cos(q[i]), np.sin(q[i]), np.cos(ALPHA[i]), np.sin(ALPHA[i])
        S = np.empty((3, 3))
        for k in range(3):
            p[k] += D[i] * R[k, 2]
            x, y, z = R[k, 0], R[k, 1], R[k, 2]
            S[k, 0] = c * x + s * y
            S[k, 1] = -s * ca * x + c * ca * y + sa * z
            S[k, 2] = s * sa * x - c * sa * y + ca * z
        R = S
    return axes, origins, R, p


@njit
def pose(q, goal):
    """Position error, and orientation error as half the sum of cross products of the axes."""
    _, _, R, p = frames(q)
    out = np.empty(6)
    for k in range(3):
        out[k] = p[k] - goal[k]
    out[3:] = 0.0
    for c in range(3):
        g = goal[3 + 3 * c : 6 + 3 * c]
        out[3] += 0.5 * (g[1] * R[2, c] - g[2] * R[1, c])
        out[4] += 0.5 * (g[2] * R[0, c] - g[0] * R[2, c])
        out[5] += 0.5 * (g[0] * R[1, c] - g[1] * R[0, c])
    return out


@njit
def pose_jac(q, goal):
    axes, origins, R, p = frames(q)
    J = np.empty((6, 7))
    for i in range(7):
        z, d = axes[i], p - origins[i]
        J[0, i], J[1, i], J[2, i] = z[1] * d[2] - z[2] * d[1], z[2] * d[0] - z[0] * d[2], z[0] * d[1] - z[1] * d[0]
        J[3, i] = J[4, i] = J[5, i] = 0.0
        for c in range(3):
            g, x, y, w = goal[3 + 3 * c : 6 + 3 * c], R[0, c], R[1, c], R[2, c]
            a, b, e = z[1] * w - z[2] * y, z[2] * x - z[0] * w, z[0] * y - z[1] * x
            J[3, i] += 0.5 * (g[1] * e - g[2] * b)
            J[4, i] += 0.5 * (g[2] * a - g[0] * e)
            J[5, i] += 0.5 * (g[0] * b - g[1] * a)
    return J


@njit
def damped(q, goal, tol):
    """The hand-written loop: damped Gauss-Newton with backtracking."""
    r = pose(q, goal)
    size = np.sqrt((r * r).sum())
    first = size
    for _ in range(100):
        if size <= tol * first:
            break
        J = pose_jac(q, goal)
        K = J @ J.T
        for i in range(6):
            K[i, i] += 1e-12
        p = -(J.T @ np.linalg.solve(K, r))
        t = 1.0
        while t > 1e-4:
            new = pose(q + t * p, goal)
            s = np.sqrt((new * new).sum())
            if s < (1 - 1e-4 * t) * size:
                break
            t *= 0.5
        if t <= 1e-4:
            break
        q, r, size = q + t * p, new, s
    return q, size


@njit
def hand_written(goals, start, tol):
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
def repeat_jit(k):
    start, zero = np.full(7, 0.1), np.zeros(2)
    x = 0.0
    for _ in range(k):
        x += jit.gauss_newton(planar, planar_jac, start, zero).x[0]
    return x


@njit
def repeat_hand(k):
    x = 0.0
    for _ in range(k):
        x += damped_planar(np.full(7, 0.1))[0]
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
    inside = per_call(lambda: repeat_jit(1000), 3) / 1000
    hand = per_call(lambda: repeat_hand(1000), 3) / 1000
    print(f"planar arm 2 x 7: compiled {compiled:.0f} us (uncertified {plain:.0f}), interpreted {interpreted:.0f}",
          "scipy", {m: round(v) for m, v in scipys.items()}, f"-> {min(scipys.values()) / compiled:.1f}x")  # fmt: skip
    print(f"  inside njit {inside:.1f} us, hand-written {hand:.1f} us -> {inside / hand:.2f}x")


def case_arm(k=1000):
    rng = np.random.default_rng(0)
    goals = np.empty((k, 12))
    for i, q in enumerate(rng.uniform(-LIMITS, LIMITS, (k, 7))):
        _, _, R, p = frames(q)
        goals[i] = np.concatenate([p, R.T.ravel()])
    settings = {"each": (goals,), "tol": 1e-11}
    batches = {}
    for threads in (1, 2):
        solve_batch(pose, pose_jac, READY, threads=threads, **settings)
        batches[threads] = per_call(lambda t=threads: solve_batch(pose, pose_jac, READY, threads=t, **settings), 1) / k
    batch = solve_batch(pose, pose_jac, READY, **settings)
    solved = np.mean(np.linalg.norm(batch.fun, axis=1) <= 1e-10)
    many = solve_batch(pose, pose_jac, READY, restarts=30, rng=0, bounds=(-LIMITS, LIMITS), **settings)
    hand_written(goals[:1], READY, 1e-11)
    hand = per_call(lambda: hand_written(goals, READY, 1e-11), 1) / k
    begin = time.perf_counter()
    ends = [solve(pose, pose_jac, READY, args=(g,), tol=1e-11, certify=False) for g in goals[:200]]
    single = (time.perf_counter() - begin) / 200 * 1e6
    begin = time.perf_counter()
    for g in goals[:50]:
        least_squares(pose, READY, pose_jac, method="dogbox", xtol=1e-15, ftol=1e-15, gtol=1e-15, args=(g,))
    dogbox = (time.perf_counter() - begin) / 50 * 1e6
    share = hand_written(goals, READY, 1e-11) / k
    print(f"7-joint arm in space, {k} targets: solved {solved:.1%}, hand-written loop {share:.1%}"
          f", with restarts and limits {many.success.mean():.1%}")  # fmt: skip
    print(f"  a target: from Python {single:.0f} us, dogbox {dogbox:.0f} -> {dogbox / single:.0f}x; batch, one thread "
          f"{batches[1]:.1f}, two {batches[2]:.1f} -> {batches[1] / batches[2]:.2f}x; hand-written {hand:.1f} "
          f"-> {batches[1] / hand:.2f}x; {len(ends)} single solves")  # fmt: skip


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
    rng = np.random.default_rng(0)
    A = rng.standard_normal((20_000, 50)) / 7
    b = A @ rng.standard_normal(50)
    speeds = {}
    for compiled in (True, False):
        for _ in range(2):
            begin = time.perf_counter()
            run = solve(affine, affine_jac, np.zeros(50), np.zeros(20_000), args=(A, b), method="sgd", rng=0, tol=0,
                        max_iter=20_000, options={"batch_size": 1}, compiled=compiled, certify=False)  # fmt: skip
            speeds[compiled] = run.nit / (time.perf_counter() - begin)
    print(f"sgd 20000 x 50: {speeds[True]:.0f} steps/s compiled, {speeds[False]:.0f} interpreted"
          f" -> {speeds[True] / speeds[False]:.1f}x")  # fmt: skip


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


CASES = {"planar": case_planar, "arm": case_arm, "sgd": case_sgd, "large": case_large}

if __name__ == "__main__":
    for name in sys.argv[1:] or CASES:
        CASES[name]()
