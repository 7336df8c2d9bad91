"""The pictures of docs/benchmarks.md, one function each: on white, so that dark pages show them too."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.report.results import Newest, Values, axis
from benchmarks.report.tables import RATIO
from benchmarks.report.words import power

BLUE, SKY, GREEN, ORANGE, RED, PINK, BLACK = (
    "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#d55e00", "#cc79a7", "#000000",
)  # of Okabe and Ito  # fmt: skip
#: Colours with markers that differ too.
LOOK = {
    "gauss-newton": (BLUE, "o"),
    "chebyshev": (PINK, "s"),
    "heavy-ball": (SKY, "D"),
    "nesterov": (GREEN, "v"),
    "gd": (RED, "^"),
    "sgd": (ORANGE, "P"),
    "plsolve": (BLUE, "o"),
    "dogbox": (RED, "^"),
    "trf": (GREEN, "s"),
    "lm": (ORANGE, "D"),
    "dense": (BLUE, "o"),
    "operator": (RED, "^"),
    "network": (GREEN, "s"),
    "plain loop": (BLACK, "X"),
    "LSMR": (GREEN, "s"),
    "L-BFGS-B": (RED, "^"),
    "compiled": (BLUE, "o"),
    "interpreted": (SKY, "D"),
    "inside njit": (GREEN, "s"),
    "hand-written in njit": (BLACK, "X"),
    "scipy dogbox": (RED, "^"),
    "scipy trf": (ORANGE, "v"),
    "WideNetwork": (BLUE, "o"),
    "JaxModel": (GREEN, "s"),
    "jacrev, JAX": (RED, "^"),
    "TorchModel": (PINK, "D"),
    "jacrev, torch": (ORANGE, "v"),
    "infer": (BLUE, "o"),
    "trf, stacked": (RED, "^"),
    "Gauss-Newton-CG": (GREEN, "s"),
}

Points = Iterable[tuple[float, Any]]  # x, and the key of its value


def lines(ax: Any, values: Values, name: str, at: Points, hollow: Values | None = None) -> None:
    """values[key] against x, those that are forecasts only hollow and dotted."""
    color, marker = LOOK[name]
    at = list(at)
    known = [(x, values[key]) for x, key in at if math.isfinite(values[key])]
    if known:
        size = 9 if name == "heavy-ball" else 6  # Chebyshev's points lie on it
        path = [(x, values[key]) for x, key in at]  # with gaps where nothing is known
        ax.loglog(*zip(*path, strict=True), color=color, marker=marker, ms=size, lw=1.5, label=name)
    if hollow is not None and known:
        beyond = [(x, hollow[key]) for x, key in at if x > known[-1][0] and math.isfinite(hollow[key])]
        path = [known[-1], *beyond]
        ax.loglog(*zip(*path, strict=True), color=color, lw=1.0, ls=":")
        if beyond:
            ax.loglog(*zip(*beyond, strict=True), color=color, marker=marker, ms=6, mfc="white", ls="")


def panels(plt: Any, size: tuple[float, float], rows: int, columns: int, **shared: Any) -> tuple[Any, Any]:
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **shared)
    for ax in grid.flat:
        ax.grid(alpha=0.25)
    return figure, grid


def ticks(ax: Any, xs: list[Any]) -> None:
    """Those of the sweep, and no others."""
    ax.set_xticks(xs, [power(x) if x >= 1000 and np.log10(x) % 1 == 0 else f"{x:,g}".replace(",", " ") for x in xs])
    ax.xaxis.minorticks_off()


def kappa(new: Newest, plt: Any) -> Any:
    iterations, forecasts = new["convergence.Convergence.track_iterations"], new["convergence.Theory.track_forecast"]
    figure, ((ax,),) = panels(plt, (7.2, 4.6), 1, 1)
    for method in axis(forecasts, 0):
        lines(ax, iterations, method, [(k, (method, k, RATIO)) for k in axis(iterations, 1)], forecasts)
    ax.axhline(2e5, color="#666666", lw=0.8, ls="--")
    ax.annotate("not run beyond: forecasts", (1.0, 2e5), va="bottom", color="#666666", fontsize=9)
    ax.set(
        xlabel="condition number kappa of the tangent kernel",
        ylabel="iterations to 1e-8",
        title=f"n = 50, m = {RATIO * 50}; hollow: forecasts (theory 4.3)",
    )
    ax.legend(ncols=2, fontsize=9)
    return figure


def distance(new: Newest, plt: Any) -> Any:
    share, spent = (new[f"start_distance.StartDistance.track_{w}"] for w in ("share_solved", "jacobians_spent"))
    figure, ((left, right),) = panels(plt, (9.0, 3.9), 1, 2)
    for method in axis(share, 0):
        for ax, values in ((left, share), (right, spent)):
            lines(ax, values, method, [(d, (method, d)) for d in axis(share, 1)])
    for ax in (left, right):
        ticks(ax, axis(share, 1))
        ax.set_xlabel("distance of the start from a solution (rms)")
    left.set(yscale="linear", ylim=(0.0, 1.02), ylabel="share solved within 200 Jacobians")
    right.set(yscale="linear", ylim=(0.0, None), ylabel="Jacobians spent by a run, of at most 200")
    left.legend(loc="lower left")
    return figure


def scaling(new: Newest, plt: Any) -> Any:
    figure, grid = panels(plt, (9.0, 6.4), 2, 2, sharex="col", sharey="row")
    rows = (("seconds_per_linearisation", "seconds a linearisation"), ("allocated", "peak bytes"))
    for axes, (what, label) in zip(grid, rows, strict=True):
        for ax, side in zip(axes, ("InUnknowns", "InEquations"), strict=True):
            values = new[f"scaling.{side}.track_{what}"]
            for form in axis(values, 0):
                lines(ax, values, form, [(x, (form, x)) for x in axis(values, 1)])
            ticks(ax, axis(values, 1))
        axes[0].set_ylabel(label)
    grid[0, 0].set_title("100 equations")
    grid[0, 1].set_title("m = 10 n")
    grid[1, 0].set_xlabel("unknowns m")
    grid[1, 1].set_xlabel("equations n")
    grid[0, 0].legend()
    return figure


def sgd(new: Newest, plt: Any) -> Any:
    sparse, network = new["sgd_at_scale.SparseRows.track_seconds"], new["sgd_at_scale.Network.track_seconds"]
    figure, ((affine, sine, net),) = panels(plt, (10.5, 3.9), 1, 3, sharey=True)
    for ax, system in ((affine, "affine"), (sine, "sine")):
        for way in axis(sparse, 1):
            lines(ax, sparse, way, [(n, (system, way, n)) for n in axis(sparse, 2)])
        ticks(ax, axis(sparse, 2))
    for way in axis(network, 0):
        lines(net, network, way, [(n, (way, n)) for n in axis(network, 1)])
    ticks(net, axis(network, 1))
    affine.set(title="sparse rows, affine, to 1e-8", ylabel="seconds")
    sine.set(title="sparse rows with a sine, to 1e-8")
    net.set(title="network, 45 057 weights, to 0.05")
    for ax in (affine, sine, net):
        ax.set_xlabel("equations n")
    figure.legend(*affine.get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    return figure


def small(new: Newest, plt: Any) -> Any:
    seconds, rate = new["small.PlanarArm.track_seconds"], new["small.Batch.track_systems_per_second"]
    figure, ((left, right),) = panels(plt, (9.0, 4.2), 1, 2)
    for way in axis(seconds, 0):
        lines(left, seconds, way, [(k, (way, k)) for k in axis(seconds, 1)])
    for threads, name in zip(axis(rate, 0), ("compiled", "inside njit"), strict=True):
        lines(right, rate, name, [(k, (threads, k)) for k in axis(rate, 1)])
    right.legend([f"{threads} thread{'s' * (threads > 1)}" for threads in axis(rate, 0)])
    left.legend(fontsize=8, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    left.set(xlabel="joints of a planar arm", ylabel="seconds of one solve")
    right.set(xlabel="targets of an arm in space", ylabel="systems a second, solve_batch")
    ticks(left, axis(seconds, 1))
    ticks(right, axis(rate, 1))
    return figure


def models(new: Newest, plt: Any) -> Any:
    seconds = new["models.Kernels.track_seconds"]
    figure, ((ax,),) = panels(plt, (7.2, 4.2), 1, 1)
    for way in axis(seconds, 0):
        lines(ax, seconds, way, [(82 * width + 1, (way, width)) for width in axis(seconds, 1)])
    ax.set(xlabel="weights m", ylabel="seconds of one solve", title="a network at 168 points")
    ax.legend(fontsize=9)
    return figure


def infer(new: Newest, plt: Any) -> Any:
    near, seconds = (new[f"inference.Inference.track_{w}"] for w in ("jacobians_to_the_objective", "seconds"))
    figure, grid = panels(plt, (9.0, 6.0), 2, 2, sharex=True, sharey="row")
    for column, prior in enumerate(("white", "Matern")):
        fields = [p for p in axis(near, 0) if p.startswith(prior)]
        cells = [int(field.split("x")[1]) ** 2 for field in fields]
        for way in axis(near, 1):
            for ax, values in zip(grid[:, column], (near, seconds), strict=True):
                lines(ax, values, way, [(m, (f, way)) for m, f in zip(cells, fields, strict=True)])
        grid[0, column].set(title=f"{prior} prior", yscale="linear", ylim=(0.0, None))
        grid[1, column].set_xlabel("unknowns m")
        ticks(grid[1, column], cells)
    grid[0, 0].set_ylabel("Jacobians to the objective")
    grid[1, 0].set_ylabel("seconds")
    grid[1, 0].legend(fontsize=9)
    return figure


def certificate(new: Newest, plt: Any) -> Any:
    """What `certify` proves at some points of one equation in two unknowns: an ellipse."""
    from plsolve import certify

    A, beta = np.diag([0.25, 1.0]), 2.0  # F = w.A w - 1, jac = 2 A w
    figure, ax = plt.subplots(figsize=(7.2, 3.9), layout="constrained")
    angle = np.linspace(0.0, 2.0 * np.pi, 400)
    ax.plot(2.0 * np.cos(angle), np.sin(angle), color="black", lw=1.6, label="the solutions")
    for point in ([0.9, 1.02], [2.3, 0.0], [-1.2, 0.75], [0.2, 0.1], [-1.0, -1.7], [-0.9, 0.2]):
        c = certify(lambda w: [w @ A @ w - 1.0], lambda w: 2.0 * (A @ w)[None], point, beta=beta)
        color, style, text = (
            ("#009e73", "-", "a solution is proved to lie inside")
            if c.exists
            else ("#d55e00", "--", "no solution lies inside")
        )
        ax.add_patch(plt.Circle(point, c.radius, fc=color, ec=color, alpha=0.25))
        ax.add_patch(plt.Circle(point, c.radius, fill=False, ec=color, ls=style, lw=1.5, label=text))
        ax.plot(*point, "o", color=color, ms=5)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(*zip(*dict(zip(labels, zip(handles, labels, strict=True), strict=True)).values(), strict=True),
              loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)  # fmt: skip
    ax.set(xlabel="w₁", ylabel="w₂", title="w₁²/4 + w₂² = 1: what certify says", aspect="equal")
    return figure


PICTURES: dict[str, Callable[[Newest, Any], Any]] = {
    "kappa": kappa,
    "distance": distance,
    "scaling": scaling,
    "sgd": sgd,
    "small": small,
    "models": models,
    "infer": infer,
    "certificate": certificate,
}
