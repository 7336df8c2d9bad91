"""`infer` beside trf on the stacked residual and Gauss-Newton-CG: Jacobians and time to the most probable parameters.

The problems are those of `checks.inference`: groundwater flow on cells x cells cells with a white and a Matern prior,
and a crowded spectrum. Jacobians count until the objective is within 1e-8 of the least that any way has found.
"""

import math
from typing import Any, ClassVar

from benchmarks.units import counted_in, within

WAYS = ["infer", "trf, stacked", "Gauss-Newton-CG"]
FIELDS = [f"{kind}, {cells} x {cells}" for kind in ("white", "Matern") for cells in (16, 32, 64, 128)]
PROBLEMS = ["spectrum", *FIELDS]

Cell = dict[str, float]


def problem(name: str) -> Any:
    """The problem, its start, prior and the prior's roots."""
    from benchmarks.checks import inference

    if name == "spectrum":
        return inference.peaks()
    kind, cells = name.split(",")
    return inference.field(int(cells.split("x")[0]), kind)


def measured(name: str) -> dict[str, Cell]:
    """Each way, and under 'infer' the price of the standard deviations too."""
    from benchmarks.checks import inference

    p = problem(name)
    rows = {row["way"]: row for row in inference.compared(*p)}
    _, _, price, inside = inference.with_uncertainty(*p[:3])
    cells = {
        way: {
            "near": math.nan if row["near"] == "-" else float(row["near"]),
            "jacobians": float(row["J"]),
            "seconds": row["s"],
        }
        for way, row in rows.items()
    }
    cells["infer"] |= {"price": price, "inside": inside}
    return cells


class Fits:
    version = "1"
    timeout = 60

    @within(600)
    def setup_cache(self) -> dict[str, dict[str, Cell]]:
        return {name: measured(name) for name in PROBLEMS}


class Inference(Fits):
    params: ClassVar = [PROBLEMS, WAYS]
    param_names: ClassVar = ["problem", "way"]

    @counted_in("count")
    def track_jacobians_to_the_objective(self, found: Any, name: str, way: str) -> float:
        """Until it is within 1e-8 of the least."""
        return float(found[name][way]["near"])

    @counted_in("count")
    def track_jacobians(self, found: Any, name: str, way: str) -> float:
        """Until the way stops by itself."""
        return float(found[name][way]["jacobians"])

    @counted_in("seconds")
    def track_seconds(self, found: Any, name: str, way: str) -> float:
        return float(found[name][way]["seconds"])


class StandardDeviations(Fits):
    """Of all parameters, from `uncertainty().std()`."""

    params: ClassVar = [PROBLEMS]
    param_names: ClassVar = ["problem"]

    @counted_in("iterations")
    def track_price(self, found: Any, name: str) -> float:
        return float(found[name]["infer"]["price"])

    @counted_in("ratio")
    def track_truth_within_two(self, found: Any, name: str) -> float:
        return float(found[name]["infer"]["inside"])
