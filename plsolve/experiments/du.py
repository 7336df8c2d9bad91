"""Du, Zhai, Poczos, Singh (arXiv 1810.02054): gradient descent on the first layer of a two-layer ReLU network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, Row, column, sizes_on_axis, slope, sphere
from plsolve.networks import WideNetwork
from plsolve.theory.steps import gd_rate

EPOCHS = 100


def infinite_kernel(X: Array) -> Array:
    """Hinf_ij = x_i . x_j (pi - arccos(x_i . x_j)) / (2 pi), for x on the unit sphere."""
    cosine = np.clip(X @ X.T, -1.0, 1.0)
    return np.asarray(cosine * (np.pi - np.arccos(cosine)) / (2.0 * np.pi))


def measure(X: Array, y: Array, width: int, eta: float, low: float) -> tuple[Row, list[float]]:
    """Run EPOCHS of gradient descent with step eta, and record the errors ||r||^2; low is lambda0."""
    d = X.shape[1]
    net = WideNetwork(np.sqrt(d) * X, (width,), "relu", bias=False, train="first", rng=width)
    w0 = net.init(width + 1)
    error = [float(np.sum((net.F(w0) - y) ** 2))]

    def observe(intermediate_result: Any) -> None:
        error.append(2.0 * intermediate_result.cost)

    sol = solve(net.F, net.jac, w0, y, method="gd", tol=0.0, max_iter=EPOCHS, certify=False, callback=observe,
                options={"step_size": eta})  # fmt: skip
    W0, W = w0.reshape(d, width), sol.x.reshape(d, width)
    factor = gd_rate(eta, low / 2.0)
    row = {
        "width": width,
        "error_start": error[0],
        "error_end": error[-1],
        "patterns_changed": float(np.mean((X @ W0 > 0.0) != (X @ W > 0.0))),
        "largest_move": float(np.linalg.norm(W - W0, axis=0).max()),
        "rate": (error[-1] / error[0]) ** (1.0 / (len(error) - 1)),
        "rate_bound": factor,
        "error_over_bound": float(np.max(np.array(error) / (factor ** np.arange(len(error)) * error[0]))),
    }
    return row, error


def claims(table: Sequence[Row], low: float) -> list[Claim]:
    """Compare the paper's theorem and figure with the table."""
    width, changed, moved = (column(table, name) for name in ("width", "patterns_changed", "largest_move"))
    worst = column(table, "error_over_bound")
    return [
        Claim(
            "the training error converges linearly, ||r_k||^2 <= (1 - eta lambda0/2)^k ||r_0||^2",
            "error over bound at most "
            + ", ".join(f"{q:.4f} at {w:g}" for w, q in zip(width, worst, strict=True))
            + f"; factor {table[-1]['rate']:.4f} per epoch, bound {table[-1]['rate_bound']:.4f} (lambda0 = {low:.3f})",
            bool(worst.max() <= 1.0 + 1e-9),
        ),
        Claim(
            "the wider the network, the fewer activation patterns change",
            ", ".join(f"{100.0 * c:.2f} % at {w:g}" for w, c in zip(width, changed, strict=True))
            + f": width^({slope(width, changed):.2f})",
            bool(np.all(np.diff(changed) < 0.0)),
        ),
        Claim(
            "the largest move of a weight vector decreases like width^(-1/2) (slope -0.50 +- 0.05)",
            ", ".join(f"{c:.3f} at {w:g}" for w, c in zip(width, moved, strict=True))
            + f": width^({slope(width, moved):.2f})",
            abs(slope(width, moved) + 0.5) <= 0.05,
        ),
    ]


def run(full: bool) -> Report:
    """Training error, activation patterns, moves of weights and rate against width, for n = d points on the sphere."""
    n = 1000 if full else 100
    widths = [1000, 2000, 4000, 8000] if full else [100, 200, 400, 800, 1600]
    X = sphere(n, n, 0)
    y = np.random.default_rng(1).standard_normal(n)
    infinite = np.linalg.eigvalsh(infinite_kernel(X))
    low, eta = float(infinite[0]), 1.0 / float(infinite[-1])
    table, errors = [], []
    for width in widths:
        row, error = measure(X, y, width, eta, low)
        table.append(row)
        errors.append(error)

    def draw(figure: Any) -> None:
        (a, b), (c, e) = figure.subplots(2, 2)
        for width, error, color in zip(widths, errors, COLORS, strict=False):
            a.semilogy(error, color=color, label=f"width {width}")
        a.semilogy(errors[0][0] * table[0]["rate_bound"] ** np.arange(EPOCHS + 1), "--", color=GREY, label="bound")
        a.set(xlabel="epoch", ylabel="training error", title="(a) convergence")
        changed, moved = column(table, "patterns_changed"), column(table, "largest_move")
        b.loglog(widths, 100.0 * changed, "o-", color=COLORS[0], label=f"slope {slope(widths, changed):.2f}")
        b.set(xlabel="width", ylabel="patterns changed [%]", title="(b) activation patterns")
        c.loglog(widths, moved, "o-", color=COLORS[0], label=f"slope {slope(widths, moved):.2f}")
        c.set(xlabel="width", ylabel="max ||w_r - w_r(0)||", title="(c) largest move")
        e.semilogx(widths, column(table, "rate"), "o-", color=COLORS[0], label="measured")
        e.semilogx(widths, column(table, "rate_bound"), "--", color=GREY, label="1 - eta lambda0 / 2")
        e.set(xlabel="width", ylabel="factor of the error per epoch", title="(d) rate")
        for axes in (b, c, e):
            sizes_on_axis(axes, widths)
        for axes in (a, b, c, e):
            axes.legend()

    return Report(f"Two-layer ReLU, n = d = {n}, {EPOCHS} epochs of gradient descent", table, claims(table, low), draw)
