"""Solved share and Jacobians against the distance of the start from a known solution, beside scipy's methods.

The systems are those of `far_families`, with y = F(w*) for w* where the family starts; every start lies in a random
direction from w*. The distance is the root mean square of the w_j - w*_j. All methods may evaluate 200 Jacobians and
4000 times F, and are stopped at the first point that is solved (`checks.far_starts`). Left out are the pendulums, whose
Jacobians are differences and take longer than those of all other families together.
"""

from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

METHODS = ["plsolve", "dogbox", "trf", "lm"]
DISTANCES = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
SEEDS = range(200, 203)
LIMIT = 200  # Jacobians

Cell = dict[str, float]


def families() -> dict[str, Any]:
    from benchmarks.far_families import FAMILIES

    return {name: make for name, make in FAMILIES.items() if not name.startswith("pendulum")}


def system(make: Any, seed: int, distance: float) -> Any:
    """(F, jac, w0, y): the same system and direction at all distances."""
    F, jac, solution, _ = make(seed)
    direction = np.random.default_rng([seed, 1]).standard_normal(solution.size)
    direction *= np.sqrt(solution.size) / np.linalg.norm(direction)
    return F, jac, solution + distance * direction, F(solution)


def cell(method: str, distance: float, seeds: range = SEEDS) -> Cell:
    from benchmarks.checks import far_starts

    runs = []
    for make in families().values():
        for seed in seeds:
            watch = far_starts.Watch(*system(make, seed, distance), LIMIT, stop=True)
            far_starts.watched(watch, method)
            runs.append(watch)
    solved = [watch.njev for watch in runs if watch.solved]
    return {
        "runs": float(len(runs)),
        "share": len(solved) / len(runs),
        "spent": float(np.mean([watch.njev for watch in runs])),
        "median": float(np.median(solved)) if solved else np.nan,
    }


class StartDistance:
    version = "1"
    timeout = 60
    params: ClassVar = [METHODS, DISTANCES]
    param_names: ClassVar = ["method", "distance"]

    @within(900)
    def setup_cache(self) -> dict[tuple[str, float], Cell]:
        return {(method, d): cell(method, d) for method in METHODS for d in DISTANCES}

    @counted_in("count")
    def track_runs(self, cells: Any, method: str, distance: float) -> float:
        return float(cells[method, distance]["runs"])

    @counted_in("ratio")
    def track_share_solved(self, cells: Any, method: str, distance: float) -> float:
        return float(cells[method, distance]["share"])

    @counted_in("count")
    def track_jacobians_spent(self, cells: Any, method: str, distance: float) -> float:
        """By a run, whether it is solved or not."""
        return float(cells[method, distance]["spent"])

    @counted_in("count")
    def track_jacobians_of_a_solved_run(self, cells: Any, method: str, distance: float) -> float:
        """The median of the runs that the method solves, which are not the same for all methods."""
        return float(cells[method, distance]["median"])
