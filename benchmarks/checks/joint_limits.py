"""Arms with limits on their joints, one start a target: python -m benchmarks.checks.joint_limits [arm ...].

Targets come from random settings of the joints within their limits; the start is the middle of these or another random
setting. How many are solved to 1e-10, and the Jacobians of those that are: solve against scipy's trf and dogbox.
"""

import sys

import numpy as np
from scipy.optimize import least_squares

from benchmarks.checks.arms import PANDA, Arm, kinematics, reachable
from benchmarks.checks.compiled import TIGHT
from plsolve import solve

PUMA = Arm(  # Unimation Puma 560 (Corke, Armstrong-Helouvry, ICRA 1994)
    np.array([0.0, 0.0, 0.4318, 0.0203, 0.0, 0.0]),
    np.array([0, 1, 0, -1, 1, -1]) * np.pi / 2,
    np.array([0.0, 0.0, 0.15005, 0.4318, 0.0, 0.0]),
    0.0,
    np.deg2rad([-160, -45, -225, -110, -100, -266]),
    np.deg2rad([160, 225, 45, 170, 100, 266]),
)
ARMS = {"puma": PUMA, "panda": PANDA}
SOLVED = 1e-10


def solvers(pose, pose_jac, arm):
    """By name: (start, goal) -> what a solver returns."""

    def ours(q, goal):
        return solve(
            pose, pose_jac, q, args=(goal,), bounds=(arm.lower, arm.upper), tol=1e-11, certify=False, compiled=False
        )

    def theirs(method):
        settings = TIGHT | {"method": method, "bounds": (arm.lower, arm.upper), "max_nfev": 200}
        return lambda q, goal: least_squares(pose, q, pose_jac, args=(goal,), **settings)

    return {"plsolve": ours, "trf": theirs("trf"), "dogbox": theirs("dogbox")}


def starts(arm, kind, k, seed):
    """The middle of the limits, or random settings, k times."""
    if kind == "middle":
        return np.tile(0.5 * (arm.lower + arm.upper), (k, 1))
    return np.random.default_rng([seed, 1]).uniform(arm.lower, arm.upper, (k, arm.a.size))


def main(names, k=200, seed=0):
    for name in names:
        arm = ARMS[name]
        frames, pose, pose_jac = kinematics(arm)
        goals = reachable(k, seed, arm, frames)
        for kind in ("middle", "random"):
            begins = starts(arm, kind, k, seed)
            for solver, run in solvers(pose, pose_jac, arm).items():
                runs = [run(q, goal) for q, goal in zip(begins, goals, strict=True)]
                solved = np.array([np.linalg.norm(s.fun) <= SOLVED for s in runs])
                J = np.array([s.njev for s in runs])
                F = np.array([s.nfev for s in runs])
                print(f"{name}, {kind} start, {solver}: {solved.sum()} of {k}, mean Jacobians {J[solved].mean():.1f}"
                      f" (F {F[solved].mean():.1f}), of all {J.mean():.1f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:] or ARMS)
