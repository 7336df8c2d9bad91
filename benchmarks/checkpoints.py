"""What the last write of a checkpoint costs: runs with a file beside runs without one, in turns.

The runs are those of `scaling` on a network, 100 equations. A longer run writes no more often than every few seconds,
and waits fifty times as long as its last write took.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from benchmarks.units import counted_in, within

UNKNOWNS = [10_000, 100_000, 1_000_000]

Cell = dict[str, float]


def measured(m: int, turns: int = 5) -> Cell:
    """Best seconds of a run without and with a checkpoint, and the bytes of the file."""
    from benchmarks import scaling
    from benchmarks.checks.main_job import seconds
    from plsolve import solve

    F, jac, w0, y = scaling.system("network", scaling.EQUATIONS, m)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run.npz"

        def run(checkpoint: Path | None) -> Any:
            return solve(F, jac, w0, y, method="gauss-newton", certify=False, checkpoint=checkpoint)

        run(None)
        times = [(seconds(lambda: run(None), 1), seconds(lambda: run(path), 1)) for _ in range(turns)]
        without, with_file = (min(times) for times in zip(*times, strict=True))
        return {"m": float(w0.size), "without": without, "with": with_file, "bytes": float(path.stat().st_size)}


class Checkpoints:
    version = "1"
    timeout = 60
    params: ClassVar = [UNKNOWNS]
    param_names: ClassVar = ["m"]

    @within(300)
    def setup_cache(self) -> dict[int, Cell]:
        return {m: measured(m) for m in UNKNOWNS}

    @counted_in("seconds")
    def track_seconds_without(self, found: Any, m: int) -> float:
        return float(found[m]["without"])

    @counted_in("seconds")
    def track_seconds_with(self, found: Any, m: int) -> float:
        return float(found[m]["with"])

    @counted_in("bytes")
    def track_size(self, found: Any, m: int) -> float:
        return float(found[m]["bytes"])
