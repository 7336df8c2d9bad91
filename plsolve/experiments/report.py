"""What an experiment hands back, and the tools they share."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # told apart by every kind of colour vision
GREY = "0.45"


class Claim(NamedTuple):
    """What a paper says, what was measured, and whether they agree."""

    says: str
    measured: str
    agrees: bool

    def __str__(self) -> str:
        return f"claim:    {self.says}\nmeasured: {self.measured}\n          {'agrees' if self.agrees else 'DIFFERS'}"


class Report(NamedTuple):
    """The table (one row each entry), the claims, and a function that draws into a matplotlib Figure."""

    title: str
    table: Sequence[Mapping[str, Any]]
    claims: Sequence[Claim]
    draw: Callable[[Any], None]

    def save(self, stem: Path) -> None:
        """Write stem.csv and stem.png."""
        names = list(dict.fromkeys(name for row in self.table for name in row))
        with stem.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(self.table)
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 7), layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(self.title)
        self.draw(figure)
        figure.savefig(stem.with_suffix(".png"), dpi=120)


def sphere(n: int, d: int, seed: int) -> Array:
    """n points uniform on the unit sphere of R^d."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """The exponent p of y ~ x^p, by least squares on logarithms."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def hessian_norm(net: Any, w: Array, rows: Sequence[int], steps: int = 12) -> float:
    """The largest spectral norm of D^2 F_i over these rows, by power iteration on differences of gradients."""
    largest = 0.0
    for i in rows:
        unit = np.zeros(net.n)
        unit[i] = 1.0
        v = np.random.default_rng(i).standard_normal(net.m)
        size = 0.0
        for _ in range(steps):
            v *= 1e-4 / np.linalg.norm(v)
            v = (net.jac(w + v).rmatvec(unit) - net.jac(w - v).rmatvec(unit)) / 2e-4
            size = float(np.linalg.norm(v))
        largest = max(largest, size)
    return largest
