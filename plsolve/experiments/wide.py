"""Wide networks satisfy PL* (Liu, Zhu, Belkin, Appl. Comput. Harmon. Anal. 59, 2022, theorems 4 to 6)."""

from __future__ import annotations

from typing import Any

import numpy as np

from plsolve import solve
from plsolve.experiments.report import COLORS, GREY, Array, Claim, Report, hessian_norm, slope, sphere
from plsolve.networks import WideNetwork


def descend(net: WideNetwork, w0: Array, y: Array, steps: int, growth: float = 1.05) -> dict[str, Any]:
    """Gradient descent with step 1/(growth lambda_max(K(w0))): loss, lambda_min(K), distance from w0 along the path."""
    spectrum = np.linalg.eigvalsh(net.jac(w0).gram())
    eta = 1.0 / (growth * float(spectrum[-1]))
    r0 = net.F(w0) - y
    found: dict[str, Any] = {"loss": [0.5 * r0 @ r0], "low": [spectrum[0]], "high": [spectrum[-1]], "away": [0.0]}
    every = max(1, steps // 40)

    def observe(intermediate_result: Any) -> None:
        state = intermediate_result
        found["loss"].append(state.cost)
        found["away"].append(float(np.linalg.norm(state.x - w0)))
        if state.nit % every == 0:
            values = np.linalg.eigvalsh(net.jac(state.x).gram())
            found["low"].append(values[0])
            found["high"].append(values[-1])

    solve(net.F, net.jac, w0, y, method="gd", tol=1e-8, max_iter=steps, callback=observe, certify=False,
          options={"step_size": eta})  # fmt: skip
    found["eta"] = eta
    return found


def run(full: bool) -> Report:
    """Kernel along the path, Hessian norm, loss against its bound, and the ball, for widths up to 3200 (full)."""
    n, d, steps = (60, 10, 2000) if full else (20, 10, 300)
    widths = [50, 100, 200, 400, 800, 1600, 3200] if full else [50, 100, 200, 400]
    X = np.sqrt(d) * sphere(n, d, 0)
    y = np.random.default_rng(1).standard_normal(n)
    table, runs = [], []
    for width in widths:
        net = WideNetwork(X, (width, width) if full else (width,))
        w0 = net.init(2)
        run = descend(net, w0, y, steps)
        mu, lipschitz = min(run["low"]), np.sqrt(max(run["high"]))
        bound = (1.0 - run["eta"] * mu) ** np.arange(len(run["loss"])) * run["loss"][0]
        table.append({
            "width": width,
            "unknowns": net.m,
            "hessian_norm": float(np.mean([hessian_norm(net, net.init(seed), range(2)) for seed in range(5)])),
            "lambda_min_start": run["low"][0],
            "lambda_min_least": mu,
            "eta": run["eta"],
            "loss_start": run["loss"][0],
            "loss_end": run["loss"][-1],
            "steps": len(run["loss"]) - 1,
            "loss_over_bound": float(np.max(np.array(run["loss"]) / bound)),
            "distance": max(run["away"]),
            "ball": 2.0 * lipschitz * np.sqrt(2.0 * run["loss"][0]) / mu,
        })  # fmt: skip
        runs.append((width, run, bound))
    column = {name: [row[name] for row in table] for name in table[0]}
    power = slope(widths, np.divide(column["hessian_norm"], np.sqrt(np.log(widths))))
    change = [max(abs(low / run["low"][0] - 1.0) for low in run["low"]) for _, run, _ in runs]
    worst, share = max(column["loss_over_bound"]), max(np.divide(column["distance"], column["ball"]))
    claims = [
        Claim(
            "the Hessian norm falls like width^(-1/2), up to logarithms",
            f"sqrt(log width) width^({power:.2f}); without the logarithm {slope(widths, column['hessian_norm']):.2f}",
            abs(power + 0.5) < 0.1,
        ),
        Claim(
            "lambda_min(K) stays near its value at the start, the nearer the wider",
            f"largest relative change {change[0]:.3f} at width {widths[0]}, {change[-1]:.3f} at {widths[-1]}",
            change[-1] < 0.5 and change[-1] < change[0],
        ),
        Claim(
            "L_t <= (1 - eta mu)^t L_0, mu = the least lambda_min(K) on the path",
            f"loss over bound at most {worst:.6f}",
            worst <= 1.0 + 1e-9,
        ),
        Claim(
            "the path stays within R = 2 L_F ||r0|| / mu",
            f"largest distance over R: {share:.2g}",
            share <= 1.0,
        ),
    ]

    def draw(figure: Any) -> None:
        (a, b), (c, e) = figure.subplots(2, 2)
        a.loglog(
            widths,
            column["hessian_norm"],
            "o-",
            color=COLORS[0],
            label=f"measured, slope {slope(widths, column['hessian_norm']):.2f}",
        )
        a.loglog(widths, column["hessian_norm"][0] * np.sqrt(widths[0] / np.array(widths)), "--", color=GREY,
                 label="slope -1/2")  # fmt: skip
        a.set(xlabel="width", ylabel="norm of the Hessian of f", title="transition to linearity")
        for (width, run, _), color in zip(runs[-4:], COLORS, strict=False):
            b.plot(np.linspace(0, 1, len(run["low"])), run["low"], color=color, label=f"width {width}")
        b.set(xlabel="share of the run", ylabel="lambda_min(K)", title="the kernel along the path", ylim=(0, None))
        for (width, run, bound), color in zip([runs[0], runs[-1]], COLORS, strict=False):
            c.semilogy(run["loss"], color=color, label=f"loss, width {width}")
            c.semilogy(bound, "--", color=color, label="its bound")
        c.set(xlabel="gradient steps", ylabel="loss", title="(1 - eta mu)^t")
        e.loglog(widths, column["ball"], "--", color=GREY, label="R = 2 L_F ||r0|| / mu")
        e.loglog(widths, column["distance"], "o-", color=COLORS[0], label="largest ||w - w0||")
        e.set(xlabel="width", ylabel="distance from the start", title="the ball")
        for axes in (a, b, c, e):
            axes.legend()

    return Report(f"Wide tanh networks satisfy PL*: {n} points", table, claims, draw)
