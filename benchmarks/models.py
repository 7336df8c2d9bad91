"""A network at 168 points by each way to its kernel: WideNetwork, models of JAX and PyTorch, and J from their jacrev.

A whole solve after one that compiles, best of some that take turns, in processor seconds of one thread, against the
width: 80 inputs, one layer, m = 82 width + 1 (`checks.models`). jacrev is left out where its J would have more than
LARGEST numbers. Ways whose package is not installed are skipped.
"""

from importlib.util import find_spec
from typing import Any, ClassVar

from benchmarks.units import counted_in, within

NEEDS = {
    "WideNetwork": "numpy",
    "JaxModel": "jax",
    "jacrev, JAX": "jax",
    "TorchModel": "torch",
    "jacrev, torch": "torch",
}
WIDTHS = [30, 100, 300, 1_000, 3_000]
LARGEST = 2e7  # numbers of J


def left_out(way: str, width: int) -> bool:
    return find_spec(NEEDS[way]) is None or (way.startswith("jacrev") and 168 * (82 * width + 1) > LARGEST)


def seconds(width: int, repeats: int = 3) -> dict[str, float]:
    """Of one solve, for each way."""
    from benchmarks.checks import models
    from plsolve import solve

    systems, y = models.ways(width)
    chosen = {way: s for way, s in systems.items() if not left_out(way, width)}
    for way, s in chosen.items():
        assert solve(*s, y, certify=False).success, f"{way}, width {width}"
    return models.in_turn({way: lambda s=s: solve(*s, y, certify=False) for way, s in chosen.items()}, repeats)  # type: ignore[misc]


class Kernels:
    version = "1"
    timeout = 60
    params: ClassVar = [list(NEEDS), WIDTHS]
    param_names: ClassVar = ["way", "width"]

    @within(600)
    def setup_cache(self) -> dict[int, dict[str, float]]:
        return {width: seconds(width) for width in WIDTHS}

    def setup(self, found: Any, way: str, width: int) -> None:
        if left_out(way, width):
            raise NotImplementedError

    @counted_in("seconds")
    def track_seconds(self, found: Any, way: str, width: int) -> float:
        return float(found[width][way])
