"""Whether the loss is monotone on the segment from w0 to the solution (Goodfellow, Vinyals, Saxe, ICLR 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, Array, Claim, Report, Row, sphere
from plsolve.networks import WideNetwork

SLACK = 1e-6  # of the first loss: smaller increases are ignored
PATIENCE = 3000  # limit of the number of steps
SHARE = np.linspace(0.0, 1.0, 101)
METHODS: dict[str, dict[str, Any]] = {
    "gauss-newton": {"method": "gauss-newton"},
    "nesterov": {"method": "gd", "options": {"momentum": "nesterov"}},  # plain gd does not converge at the full size
}


def segment(net: WideNetwork, w0: Array, w: Array, y: Array) -> Array:
    """The loss on the segment from w0 to w, divided by the loss at w0."""
    losses = np.array([0.5 * float(np.sum((net.F(w0 + t * (w - w0)) - y) ** 2)) for t in SHARE])
    return np.asarray(losses / losses[0])


def measure(net: WideNetwork, y: Array, seed: int, method: str) -> tuple[Row, Array]:
    """Solve, and evaluate the loss on the segment from w0 to the solution."""
    w0 = net.init(seed)
    sol = solve(net.F, net.jac, w0, y, tol=1e-2, max_iter=PATIENCE, certify=False, **METHODS[method])
    losses = segment(net, w0, sol.x, y)
    rise = max(float(np.max(np.diff(losses))), 0.0)
    row = {
        "depth": len(net.layers) - 1,
        "width": net.layers[-1].fan_in,
        "seed": seed,
        "method": method,
        "solved": sol.success,
        "largest_rise": rise,
        "monotone": rise <= SLACK,
        "highest": float(losses.max()),
    }
    return row, losses


def claims(table: Sequence[Row]) -> list[Claim]:
    """Compare the papers' claim with the table."""
    solved = [row for row in table if row["solved"]]
    widths = sorted({row["width"] for row in table})
    kept = {
        width: (sum(row["monotone"] for row in rows), len(rows))
        for width in widths
        if (rows := [row for row in solved if row["width"] == width])
    }
    told = ", ".join(f"{k} of {all_} at {width}" for width, (k, all_) in kept.items())
    return [
        Claim(
            "the loss falls monotonically from the start to the solution",
            f"{sum(k for k, _ in kept.values())} of {len(solved)} solved runs ({len(table)} runs), by width: {told}",
            bool(solved) and all(row["monotone"] for row in solved),
        ),
        Claim(
            "the loss is monotone at the largest width, where the network is nearly linear",
            "{} of {} at {}".format(*kept.get(widths[-1], (0, 0)), widths[-1]),
            widths[-1] in kept and kept[widths[-1]][0] == kept[widths[-1]][1],
        ),
    ]


def run(full: bool) -> Report:
    """The loss on the segment from w0 to the solution, for networks of several depths and widths."""
    n, d, seeds = (100, 10, 5) if full else (20, 10, 1)
    widths = [20, 40, 80, 160, 320, 640] if full else [10, 40, 160]
    X = np.sqrt(d) * sphere(n, d, 0)
    table, curves = [], []
    for depth in (1, 2, 3):
        for width in widths:
            net = WideNetwork(X, (width,) * depth)
            for seed in range(seeds):
                y = np.random.default_rng(100 + seed).standard_normal(n)
                for method in METHODS:
                    row, losses = measure(net, y, seed, method)
                    table.append(row)
                    if seed == 0:
                        curves.append((depth, width, method, losses))

    def draw(figure: Any) -> None:
        for axes, depth in zip(figure.subplots(1, 3, sharey=True), (1, 2, 3), strict=True):
            for d_, width, method, losses in curves:
                if d_ == depth:
                    axes.plot(SHARE, losses, "-" if method == "gauss-newton" else "--",
                              color=COLORS[widths.index(width) % len(COLORS)], label=f"{width}, {method}")  # fmt: skip
            axes.set(xlabel="position on the segment", title=f"{depth} hidden layer{'s' if depth > 1 else ''}")
            axes.legend(fontsize="small")
        figure.axes[0].set_ylabel("loss / first loss")

    return Report("The loss on the segment from w0 to x", table, claims(table), draw)
