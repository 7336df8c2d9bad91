"""Du, Zhai, Poczos, Singh (arXiv 1810.02054): gradient descent on the first layer of a two-layer ReLU network."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Claim, Report, slope, sphere
from plsolve.networks import WideNetwork

EPOCHS = 100


def run(full: bool) -> Report:
    """n = d points (1000 in full) on the sphere, 100 epochs: error, activation patterns, moves, rate against width."""
    n = 1000 if full else 100
    widths = [1000, 2000, 4000, 8000] if full else [100, 200, 400, 800, 1600]
    X = sphere(n, n, 0)
    y = np.random.default_rng(1).standard_normal(n)
    cosine = np.clip(X @ X.T, -1.0, 1.0)
    infinite = np.linalg.eigvalsh(cosine * (np.pi - np.arccos(cosine)) / (2.0 * np.pi))
    low, eta = float(infinite[0]), 1.0 / float(infinite[-1])
    table, errors = [], []
    for width in widths:
        net = WideNetwork(np.sqrt(n) * X, (width,), "relu", bias=False, train="first", rng=width)
        w0 = net.init(width + 1)
        error = [float(np.sum((net.F(w0) - y) ** 2))]

        def observe(intermediate_result: Any, error: list[float] = error) -> None:
            error.append(2.0 * intermediate_result.cost)

        sol = solve(net.F, net.jac, w0, y, method="gd", tol=0.0, max_iter=EPOCHS, certify=False, callback=observe,
                    options={"step_size": eta})  # fmt: skip
        W0, W = w0.reshape(n, width), sol.x.reshape(n, width)
        bound = (1.0 - eta * low / 2.0) ** np.arange(len(error)) * error[0]
        table.append({
            "width": width,
            "error_start": error[0],
            "error_end": error[-1],
            "patterns_changed": float(np.mean((X @ W0 > 0.0) != (X @ W > 0.0))),
            "largest_move": float(np.linalg.norm(W - W0, axis=0).max()),
            "rate": (error[-1] / error[0]) ** (1.0 / (len(error) - 1)),
            "rate_bound": 1.0 - eta * low / 2.0,
            "error_over_bound": float(np.max(np.array(error) / bound)),
        })  # fmt: skip
        errors.append(error)
    column = {name: [row[name] for row in table] for name in table[0]}
    changed, moved = slope(widths, column["patterns_changed"]), slope(widths, column["largest_move"])
    worst = max(column["error_over_bound"])
    claims = [
        Claim(
            "the training error converges linearly, ||r_k||^2 <= (1 - eta lambda0/2)^k ||r_0||^2",
            f"error over bound at most {worst:.4f}; factor {column['rate'][-1]:.4f} an epoch, "
            f"bound {column['rate_bound'][-1]:.4f} (lambda0 = {low:.3f})",
            worst <= 1.0,
        ),
        Claim(
            "the wider, the fewer activation patterns change",
            f"{100 * column['patterns_changed'][0]:.2f} % at width {widths[0]}, "
            f"{100 * column['patterns_changed'][-1]:.2f} % at {widths[-1]}: width^({changed:.2f})",
            bool(np.all(np.diff(column["patterns_changed"]) < 0.0)),
        ),
        Claim(
            "the wider, the smaller the largest move of a weight vector",
            f"{column['largest_move'][0]:.3f} to {column['largest_move'][-1]:.3f}: width^({moved:.2f})",
            bool(np.all(np.diff(column["largest_move"]) < 0.0)),
        ),
    ]

    def draw(figure: Any) -> None:
        (a, b), (c, e) = figure.subplots(2, 2)
        for width, error, color in zip(widths, errors, COLORS, strict=False):
            a.semilogy(error, color=color, label=f"width {width}")
        a.semilogy(errors[0][0] * column["rate_bound"][0] ** np.arange(EPOCHS + 1), "--", color=GREY, label="bound")
        a.set(xlabel="epoch", ylabel="training error", title="(a) convergence")
        b.loglog(widths, np.multiply(100.0, column["patterns_changed"]), "o-", color=COLORS[0],
                 label=f"slope {changed:.2f}")  # fmt: skip
        b.set(xlabel="width", ylabel="patterns changed [%]", title="(b) activation patterns")
        c.loglog(widths, column["largest_move"], "o-", color=COLORS[0], label=f"slope {moved:.2f}")
        c.set(xlabel="width", ylabel="max ||w_r - w_r(0)||", title="(c) largest move")
        e.semilogx(widths, column["rate"], "o-", color=COLORS[0], label="measured")
        e.semilogx(widths, column["rate_bound"], "--", color=GREY, label="1 - eta lambda0 / 2")
        e.set(xlabel="width", ylabel="error's factor an epoch", title="(d) rate")
        for axes in (a, b, c, e):
            axes.legend()

    return Report(f"Two-layer ReLU, n = d = {n}, {EPOCHS} epochs of gradient descent", table, claims, draw)
