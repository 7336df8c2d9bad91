"""Small systems solved often: from Python, inside njit, in batches; beside scipy and a hand-written loop.

The systems are those of `checks.arms`: planar arms of some joints, two equations in their angles, and the pose of a
7-joint arm in space, six equations.
"""

from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

WAYS = ["compiled", "interpreted", "inside njit", "hand-written in njit", "scipy dogbox", "scipy trf"]
JOINTS = [4, 7, 16, 64, 256]
MANY = 200  # solves at a time inside njit
TARGETS = [10, 100, 1_000, 10_000]
THREADS = [1, 2]


def ways(joints: int = 7) -> dict[str, Any]:
    """A call for each way to solve the planar arm, and how many solves it makes."""
    from scipy.optimize import least_squares

    from benchmarks.checks import arms
    from benchmarks.checks import compiled as hand
    from plsolve import solve

    start, tight = np.full(joints, 0.1), {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    return {
        "compiled": (lambda: solve(arms.planar, arms.planar_jac, start), 1),
        "interpreted": (lambda: solve(arms.planar, arms.planar_jac, start, compiled=False), 1),
        "inside njit": (lambda: hand.repeat_jit(MANY, start), MANY),
        "hand-written in njit": (lambda: hand.repeat_hand(MANY, start), MANY),
        "scipy dogbox": (lambda: least_squares(arms.planar, start, arms.planar_jac, method="dogbox", **tight), 1),
        "scipy trf": (lambda: least_squares(arms.planar, start, arms.planar_jac, method="trf", **tight), 1),
    }


def best_of_turns(joints: int) -> dict[str, float]:
    """Seconds of one solve, all ways in turns."""
    from benchmarks.checks.main_job import seconds

    calls = ways(joints)
    for call, _ in calls.values():
        call()  # compiles it
    best = dict.fromkeys(calls, np.inf)
    for _ in range(3):
        for way, (call, solves) in calls.items():
            best[way] = min(best[way], seconds(call, 10 if solves == 1 else 3) / solves)
    return best


def batch(threads: int, targets: int) -> tuple[float, float]:
    """(systems a second, share solved) of the arm in space from one start to random reachable poses."""
    from benchmarks.checks import arms
    from benchmarks.checks.main_job import seconds
    from plsolve import solve_batch

    goals = arms.reachable(targets, 0)

    def run() -> Any:
        return solve_batch(arms.pose, arms.pose_jac, arms.READY, each=(goals,), tol=1e-11, threads=threads)

    share = float(np.mean(run().success))  # compiles it too
    return targets / seconds(run, 3 if targets >= 1_000 else 30), share


class PlanarArm:
    """One solve."""

    version = "2"
    timeout = 60
    params: ClassVar = [WAYS, JOINTS]
    param_names: ClassVar = ["way", "joints"]

    @within(600)
    def setup_cache(self) -> dict[int, dict[str, float]]:
        return {joints: best_of_turns(joints) for joints in JOINTS}

    @counted_in("seconds")
    def track_seconds(self, best: Any, way: str, joints: int) -> float:
        """Of one solve."""
        return float(best[joints][way])

    @counted_in("ratio")
    def track_speedup(self, best: Any, way: str, joints: int) -> float:
        """Over the better of scipy's two."""
        return float(min(best[joints]["scipy dogbox"], best[joints]["scipy trf"]) / best[joints][way])


class Batch:
    """The arm in space, many targets."""

    version = "2"
    timeout = 60
    params: ClassVar = [THREADS, TARGETS]
    param_names: ClassVar = ["threads", "targets"]

    @within(600)
    def setup_cache(self) -> dict[tuple[int, int], tuple[float, float]]:
        return {(threads, targets): batch(threads, targets) for threads in THREADS for targets in TARGETS}

    @counted_in("systems/s")
    def track_systems_per_second(self, found: Any, threads: int, targets: int) -> float:
        return float(found[threads, targets][0])

    @counted_in("ratio")
    def track_share_solved(self, found: Any, threads: int, targets: int) -> float:
        return float(found[threads, targets][1])
