"""Whether the loss is monotone on the segment from w0 to the solution (Goodfellow, Vinyals, Saxe, ICLR 2015)."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, Claim, Report, sphere
from plsolve.networks import WideNetwork

SLACK = 1e-6  # of the first loss: a rise below is none


def run(full: bool) -> Report:
    """The loss at points of the segment, networks of one to three layers and several widths, Gauss-Newton and gd."""
    n, d, seeds = (100, 10, 5) if full else (20, 10, 1)
    widths = [20, 40, 80, 160, 320, 640] if full else [10, 40, 160]
    X = np.sqrt(d) * sphere(n, d, 0)
    share = np.linspace(0.0, 1.0, 101)
    table, curves = [], []
    for depth in (1, 2, 3):
        for width in widths:
            for seed in range(seeds):
                y = np.random.default_rng(100 + seed).standard_normal(n)
                net = WideNetwork(X, (width,) * depth)
                w0 = net.init(seed)
                for method in ("gauss-newton", "gd"):
                    sol = solve(
                        net.F, net.jac, w0, y, method=method, tol=1e-2, max_iter=3000 if full else 500, certify=False
                    )
                    losses = np.array([0.5 * float(np.sum((net.F(w0 + t * (sol.x - w0)) - y) ** 2)) for t in share])
                    rises = float(np.max(np.diff(losses)) / losses[0])
                    table.append({
                        "depth": depth,
                        "width": width,
                        "seed": seed,
                        "method": method,
                        "solved": sol.success,
                        "largest_rise": max(rises, 0.0),
                        "monotone": rises <= SLACK,
                        "highest": float(losses.max() / losses[0]),
                    })  # fmt: skip
                    if seed == 0:
                        curves.append((depth, width, method, losses / losses[0]))
    solved = [row for row in table if row["solved"]]
    kept = sum(row["monotone"] for row in solved)
    narrow = [row for row in solved if row["width"] == widths[0]]
    wide = [row for row in solved if row["width"] == widths[-1]]
    claims = [
        Claim(
            "the loss falls monotonically from the start to the solution",
            f"{kept} of {len(solved)} solved runs",
            kept == len(solved),
        ),
        Claim(
            "near linearity it must: on wide networks",
            f"width {widths[-1]}: {sum(r['monotone'] for r in wide)} of {len(wide)}; "
            f"width {widths[0]}: {sum(r['monotone'] for r in narrow)} of {len(narrow)}",
            all(r["monotone"] for r in wide),
        ),
    ]

    def draw(figure: Any) -> None:
        for axes, depth in zip(figure.subplots(1, 3, sharey=True), (1, 2, 3), strict=True):
            for d_, width, method, losses in curves:
                if d_ == depth:
                    axes.plot(share, losses, "-" if method == "gauss-newton" else "--",
                              color=COLORS[widths.index(width) % len(COLORS)], label=f"{width}, {method}")  # fmt: skip
            axes.set(xlabel="share of the way", title=f"{depth} hidden layer{'s' if depth > 1 else ''}")
            axes.legend(fontsize="small")
        figure.axes[0].set_ylabel("loss / first loss")

    return Report("The loss on the segment from w0 to x", table, claims, draw)
