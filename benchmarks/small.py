"""Small systems solved often: from Python, inside njit, in batches; beside scipy and a hand-written loop.

The systems are those of `checks.arms`: a planar arm, two equations in seven angles, and the pose of a 7-joint arm in
space, six equations.
"""

from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

WAYS = ["compiled", "interpreted", "inside njit", "hand-written in njit", "scipy dogbox", "scipy trf"]
MANY = 1000  # solves at a time inside njit
TARGETS = 2000


def ways() -> dict[str, Any]:
    """A call for each way to solve the planar arm, and how many solves it makes."""
    from scipy.optimize import least_squares

    from benchmarks.checks import arms
    from benchmarks.checks import compiled as hand
    from plsolve import solve

    start, tight = np.full(7, 0.1), {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12}
    return {
        "compiled": (lambda: solve(arms.planar, arms.planar_jac, start), 1),
        "interpreted": (lambda: solve(arms.planar, arms.planar_jac, start, compiled=False), 1),
        "inside njit": (lambda: hand.repeat_jit(MANY), MANY),
        "hand-written in njit": (lambda: hand.repeat_hand(MANY), MANY),
        "scipy dogbox": (lambda: least_squares(arms.planar, start, arms.planar_jac, method="dogbox", **tight), 1),
        "scipy trf": (lambda: least_squares(arms.planar, start, arms.planar_jac, method="trf", **tight), 1),
    }


def batch(threads: int, targets: int) -> tuple[float, float]:
    """(systems a second, share solved) of the arm in space from one start to random reachable poses."""
    from benchmarks.checks import arms
    from benchmarks.checks.main_job import seconds
    from plsolve import solve_batch

    goals = arms.reachable(targets, 0)

    def run() -> Any:
        return solve_batch(arms.pose, arms.pose_jac, arms.READY, each=(goals,), tol=1e-11, threads=threads)

    share = float(np.mean(run().success))  # compiles it too
    return targets / seconds(run, 3), share


class PlanarArm:
    """One solve, all ways timed in turns."""

    version = "1"
    timeout = 60
    params: ClassVar = [WAYS]
    param_names: ClassVar = ["way"]

    @within(600)
    def setup_cache(self) -> dict[str, float]:
        from benchmarks.checks.main_job import seconds

        best = {}
        for way, (call, solves) in ways().items():
            call()  # compiles it
            best[way] = min(seconds(call, 30 if solves == 1 else 3) for _ in range(3)) / solves
        return best

    @counted_in("seconds")
    def track_seconds(self, best: Any, way: str) -> float:
        """Of one solve."""
        return float(best[way])

    @counted_in("ratio")
    def track_speedup(self, best: Any, way: str) -> float:
        """Over the better of scipy's two."""
        return float(min(best["scipy dogbox"], best["scipy trf"]) / best[way])


class SolvePlanarArm:
    """MANY solves at once in the two ways inside njit."""

    version = "1"
    timeout = 600
    rounds, number, repeat, warmup_time = 1, 100, (1, 5, 2.0), 0.0
    params: ClassVar = [WAYS]
    param_names: ClassVar = ["way"]

    def setup(self, way: str) -> None:
        if not hasattr(self, "call"):  # it is called again before every timed call
            self.call, solves = ways()[way]
            self.call()  # compiles it
            self.number = 100 if solves == 1 else 1

    def time_solve(self, way: str) -> None:
        self.call()


class Batch:
    """The arm in space, many targets."""

    version = "1"
    timeout = 600
    params: ClassVar = [[1, 2]]
    param_names: ClassVar = ["threads"]

    @within(600)
    def setup_cache(self) -> dict[int, tuple[float, float]]:
        return {threads: batch(threads, TARGETS) for threads in self.params[0]}

    @counted_in("systems/s")
    def track_systems_per_second(self, found: Any, threads: int) -> float:
        return float(found[threads][0])

    @counted_in("ratio")
    def track_share_solved(self, found: Any, threads: int) -> float:
        return float(found[threads][1])
