"""The report of an experiment, and functions that several experiments use."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.sparse.linalg import LinearOperator, eigsh

if TYPE_CHECKING:
    from plsolve.networks import WideNetwork

Array = npt.NDArray[np.float64]
Row = Mapping[str, Any]

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # also with colour blindness
GREY = "0.45"


class Claim(NamedTuple):
    """A claim of a paper, the measurement, and whether they agree."""

    says: str
    measured: str
    agrees: bool

    def __str__(self) -> str:
        return f"claim:    {self.says}\nmeasured: {self.measured}\n          {'agrees' if self.agrees else 'DIFFERS'}"


class Report(NamedTuple):
    """A table of rows, the claims, and a function that draws into a matplotlib Figure."""

    title: str
    table: Sequence[Row]
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
    """Draw n points uniformly from the unit sphere of R^d."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    return np.asarray(X / np.linalg.norm(X, axis=1, keepdims=True))


def slope(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """The exponent p of y ~ x^p, by least squares on logarithms."""
    return float(np.polyfit(np.log(np.asarray(x, float)), np.log(np.asarray(y, float)), 1)[0])


def sizes_on_axis(axes: Any, sizes: npt.ArrayLike) -> None:
    """Put the ticks of a logarithmic x axis at the measured sizes only."""
    sizes = np.asarray(sizes)
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.set_xticks([], minor=True)


def column(table: Sequence[Row], name: str) -> Array:
    """The column of the table with this name, as an array."""
    return np.array([row[name] for row in table], dtype=float)


def hessian_norm(net: WideNetwork, w: Array, i: int, step: float = 1e-4) -> float:
    """The spectral norm of D^2 F_i, from central differences of its gradient, by Lanczos to 1e-3."""
    rows, one = np.array([i]), np.ones(1)

    def product(v: Array) -> Array:
        size = float(np.linalg.norm(v))
        v = (step / size) * v.ravel()
        forward, backward = (net.jac(u, rows=rows).rmatvec(one) for u in (w + v, w - v))
        return np.asarray((0.5 * size / step) * (forward - backward))

    H = LinearOperator((net.m, net.m), matvec=product, dtype=np.float64)
    start = np.random.default_rng(i).standard_normal(net.m)
    return float(abs(eigsh(H, k=1, which="LM", v0=start, ncv=min(10, net.m), tol=1e-3, return_eigenvectors=False)[0]))
