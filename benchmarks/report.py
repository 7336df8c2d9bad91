"""The tables and pictures of docs/benchmarks.md from the newest results of asv: no number in them is typed by hand.

    asv run -E existing --set-commit-hash HEAD && python -m benchmarks.report [--results .asv/results]

Rewrites what stands between `<!-- report: NAME -->` and `<!-- /report -->` in docs/benchmarks.md, and the pictures in
benchmarks/figures.
"""

import argparse
import ast
import itertools
import json
import math
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import marks

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "benchmarks" / "figures"
RATIO = 4  # m / n, of the convergence table and picture
# colours of Okabe and Ito, with markers that differ too
LOOK = {
    "gauss-newton": ("#0072b2", "o"),
    "chebyshev": ("#cc79a7", "s"),
    "heavy-ball": ("#56b4e9", "D"),
    "nesterov": ("#009e73", "v"),
    "gd": ("#d55e00", "^"),
    "sgd": ("#e69f00", "P"),
    "dense": ("#0072b2", "o"),
    "operator": ("#d55e00", "^"),
    "network": ("#009e73", "s"),
}

Values = dict[tuple[Any, ...], float]


class Newest:
    """The newest results of the whole suite: benchmark -> {parameters: number}, NaN where a cell was left out."""

    def __init__(self, folder: Path) -> None:
        from asv.results import Results

        files = [p for p in folder.glob("*/*.json") if p.name != "machine.json"]
        suite = json.loads((folder / "benchmarks.json").read_text()).keys() - {"version"} if files else set()
        for path in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True):
            self.results = Results.load(str(path), machine_name=path.parent.name)
            if suite <= set(self.results.get_all_result_keys()):
                return
        raise SystemExit(f"No results of the whole suite in {folder}: asv run -E existing --set-commit-hash HEAD")

    def __getitem__(self, name: str) -> Values:
        params = [[parsed(p) for p in axis] for axis in self.results.get_result_params(name)]
        values = self.results.get_result_value(name, self.results.get_result_params(name))
        if any(value is None for value in values):
            raise SystemExit(f"{name} failed in the newest results.")
        return dict(zip(itertools.product(*params), values, strict=True))

    def number(self, name: str) -> float:
        (value,) = self[name].values()
        return value

    def machine(self) -> str:
        p = self.results.params
        when = datetime.fromtimestamp(max(self.results.started_at.values()) / 1000.0, UTC).date()
        memory = round(int(p["ram"]) / 2**30) if str(p["ram"]).isdigit() else p["ram"]
        return (
            f"Measured on {when} with asv at commit `{self.results.commit_hash[:8]}`: {p['cpu']}, "
            f"{p['num_cpu']} cores, {memory} GiB, {p['os'].split('-')[0]}, Python {platform.python_version()}."
        )


def parsed(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


# -- words -------------------------------------------------------------------------------------------------------------


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(x: float, digits: int = 2) -> str:
    """With so many digits, but no exponent where the number is of usual size."""
    if not math.isfinite(x):
        return "-"
    if x != 0.0 and not 1e-3 <= abs(x) < 1e6:
        mantissa, power = f"{x:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}"
    if abs(x) >= 10 ** (digits - 1):
        return f"{round(x, digits - 1 - math.floor(math.log10(abs(x)))):.0f}"
    return f"{x:.{digits}g}"


def power(x: float) -> str:
    """A power of ten, shortly."""
    return f"{x:.0e}".replace("e+0", "e") if x > 1.0 else f"{x:g}"


def time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns"


def memory(size: float) -> str:
    return "-" if not math.isfinite(size) else f"{number(size / 2**20)} MiB"


def axis(values: Values, k: int) -> list[Any]:
    """The k-th parameter's values, in their order."""
    return list(dict.fromkeys(key[k] for key in values))


# -- regions -----------------------------------------------------------------------------------------------------------


def growth(new: Newest) -> str:
    """Fitted exponents."""
    exponents = new["convergence.Growth.track_exponent"]
    iterations = new["convergence.Convergence.track_iterations"]
    margins, forecasts = (new[f"convergence.Theory.track_{n}"] for n in ("rate_margin", "forecast"))
    rows = []
    for method in axis(exponents, 0):
        cells = [exponents[method, ratio] for ratio in axis(exponents, 1)]
        least = [v for (m, _, _), v in margins.items() if m == method and math.isfinite(v)]
        run = [k for (m, k, r), v in iterations.items() if m == method and math.isfinite(v)]
        out = [k for (m, k, r), v in forecasts.items() if m == method and r == RATIO and k not in run and v > 2e5]
        at = "-" if not out else f"{number(forecasts[method, out[0], RATIO])} at {power(out[0])}"
        name = method if method in LOOK else f"scipy {method}"
        reach = f"{power(min(run))} ... {power(max(run))}" if run else "-"
        rows.append([name, *map(number, cells), reach, number(min(least, default=math.nan)), at])
    head = ["method", *(f"m = {r} n" for r in axis(exponents, 1)), "kappa that was run"]
    return table([*head, "decay / guaranteed, at least", "forecast of the first left out"], rows)


def beside_scipy(new: Newest) -> str:
    counts = {w: new[f"convergence.Convergence.track_{w}_evaluations"] for w in ("jacobian", "function")}
    speedup = new["convergence.Convergence.track_speedup"]
    kappas = axis(speedup, 1)[::2]
    rows = []
    for method in ("gauss-newton", "dogbox", "trf", "trf-lsmr"):
        cells = []
        for kappa in kappas:
            J, F = (counts[w][method, kappa, RATIO] for w in ("jacobian", "function"))
            slower = speedup["gauss-newton", kappa, RATIO] / speedup[method, kappa, RATIO]
            cells.append("not solved" if not math.isfinite(J) else f"{J:.0f} J, {F:.0f} F: {number(slower)}")
        rows.append([method if method == "gauss-newton" else f"scipy {method}", *cells])
    return table(["", *(f"kappa {power(k)}" for k in kappas)], rows)


def scaling(new: Newest) -> str:
    times, memories = (new[f"scaling.Exponents.track_{w}"] for w in ("time", "memory"))
    seconds, peaks = (new[f"scaling.InUnknowns.track_{w}"] for w in ("seconds_per_linearisation", "allocated"))
    shares = new["scaling.InUnknowns.track_allocated_over_jacobian_and_kernel"]
    rows = []
    for form in axis(times, 0):
        m = max(m for (f, m), v in seconds.items() if f == form and math.isfinite(v))
        cells = [number(w[form, against]) for w in (times, memories) for against in ("m", "n")]
        rows.append([form, *cells, power(m), time(seconds[form, m]), memory(peaks[form, m]), number(shares[form, m])])
    head = ["J", "time in m", "in n", "memory in m", "in n", "largest m", "a linearisation", "peak", "peak / (J + K)"]
    return table(head, rows)


def small(new: Newest) -> str:
    seconds, speedup = (new[f"small.PlanarArm.track_{w}"] for w in ("seconds", "speedup"))
    rows = [[way, time(seconds[way,]), number(speedup[way,])] for way in axis(seconds, 0)]
    rate, share = (new[f"small.Batch.track_{w}"] for w in ("systems_per_second", "share_solved"))
    threads = axis(rate, 0)
    batch = ", ".join(f"{number(rate[t,], 3)} systems a second with {t} thread{'s' * (t > 1)}" for t in threads)
    gain = number(rate[threads[-1],] / rate[threads[0],])
    return (
        table(["planar arm, 2 x 7", "one solve", "times faster than scipy's better"], rows)
        + f"\n\n`solve_batch`, 7-joint arm in space, one start for all targets: {batch} ({gain}x), "
        f"{100 * share[threads[0],]:.0f} % solved from that start."
    )


def cold_start(new: Newest) -> str:
    names = {
        "import plsolve": "ColdStart.timeraw_import",
        "import scipy.optimize": "ColdStart.timeraw_import_scipy_optimize",
        "first solve of a process, import included": "ColdStart.timeraw_first_solve",
        "first compiled solve of a process, imports included": "DiskCache.timeraw_first_compiled_solve",
        "first compiled solve on a machine": "ColdStart.timeraw_first_compiled_solve_without_disk_cache",
    }
    return table(["cold start", ""], [[text, time(new.number(f"cold_start.{n}"))] for text, n in names.items()])


def proofs(new: Newest) -> str:
    certify, price = new["proofs.Certificates.time_certify"], new["proofs.Certificates.track_price"]
    kernel = new["network_kernel.Kernel.time_kernel"]
    shape, width = axis(certify, 0)[-1], axis(kernel, 1)[-1]
    formed, products = kernel["J formed", width], kernel["layer products", width]
    rows = [
        ["converged runs on random systems that end with a rigorous certificate",
         f"{100 * new.number('proofs.Certified.track_share_of_solved_runs'):.1f} %"],
        ["false certificates among them, four `beta` each", f"{new.number('proofs.Certified.track_false'):.0f}"],
        [f"`certify`, {shape[0]} points, width {shape[1]}", time(certify[shape,])],
        ["`sol.certificate` there, in Gauss-Newton iterations", number(price[shape,])],
        ["forecasts after a tenth of the run that are right to a factor of two",
         f"{100 * new.number('proofs.Forecasts.track_share_within_a_factor_of_two'):.0f} %"],
        [f"kernel of a network of width {width} at 442 points: layer products", time(products)],
        ["the same with J formed", f"{time(formed)} ({number(formed / products)}x)"],
    ]  # fmt: skip
    return table(["certificates, forecasts, network kernel", ""], rows)


REGIONS = {
    "machine": Newest.machine,
    "growth": growth,
    "scipy": beside_scipy,
    "scaling": scaling,
    "small": small,
    "cold start": cold_start,
    "proofs": proofs,
}


def rewritten(page: str, new: Newest) -> str:
    """The page with every region replaced."""
    found = marks.names(page)
    if unknown := set(found) - REGIONS.keys():
        raise SystemExit(f"The page asks for reports that there are not: {', '.join(sorted(unknown))}")
    if missing := REGIONS.keys() - set(found):
        raise SystemExit(f"The page has no place for: {', '.join(sorted(missing))}")
    for name, text in REGIONS.items():
        page = marks.replaced(page, name, text(new))
    return page


# -- pictures ----------------------------------------------------------------------------------------------------------


def lines(ax: Any, values: Values, name: str, at: Any, hollow: Values | None = None) -> None:
    """values[at(x)] against x, those that are forecasts only hollow and dotted."""
    color, marker = LOOK[name]
    known = [(x, values[key]) for x, key in at if math.isfinite(values[key])]
    if known:
        size = 9 if name == "heavy-ball" else 6  # Chebyshev's points lie on it
        ax.loglog(*zip(*known, strict=True), color=color, marker=marker, ms=size, lw=1.5, label=name)
    if hollow is not None and known:
        beyond = [(x, hollow[key]) for x, key in at if x > known[-1][0] and math.isfinite(hollow[key])]
        path = [known[-1], *beyond]
        ax.loglog(*zip(*path, strict=True), color=color, lw=1.0, ls=":")
        if beyond:
            ax.loglog(*zip(*beyond, strict=True), color=color, marker=marker, ms=6, mfc="white", ls="")


def draw_kappa(new: Newest, plt: Any) -> Any:
    iterations, forecasts = new["convergence.Convergence.track_iterations"], new["convergence.Theory.track_forecast"]
    figure, ax = plt.subplots(figsize=(7.2, 4.6), layout="constrained")
    for method in (m for m in axis(iterations, 0) if m in LOOK):
        lines(ax, iterations, method, [(k, (method, k, RATIO)) for k in axis(iterations, 1)], forecasts)
    ax.axhline(2e5, color="#666666", lw=0.8, ls="--")
    ax.annotate("not run beyond: forecasts", (1.0, 2e5), va="bottom", color="#666666", fontsize=9)
    ax.set(
        xlabel="condition number kappa of the tangent kernel",
        ylabel="iterations to 1e-8",
        title=f"n = 50, m = {RATIO * 50}; hollow: forecasts (theory 4.3)",
    )
    ax.legend(ncols=2, fontsize=9)
    ax.grid(alpha=0.25)
    return figure


def draw_scaling(new: Newest, plt: Any) -> Any:
    figure, grid = plt.subplots(2, 2, figsize=(9.0, 6.4), layout="constrained", sharex="col", sharey="row")
    rows = (("seconds_per_linearisation", "seconds a linearisation"), ("allocated", "peak bytes"))
    for axes, (what, label) in zip(grid, rows, strict=True):
        for ax, side in zip(axes, ("InUnknowns", "InEquations"), strict=True):
            values = new[f"scaling.{side}.track_{what}"]
            for form in axis(values, 0):
                lines(ax, values, form, [(x, (form, x)) for x in axis(values, 1)])
            ax.set_xticks(axis(values, 1), [power(x) if x >= 1000 else str(x) for x in axis(values, 1)])
            ax.minorticks_off()
            ax.grid(alpha=0.25)
        axes[0].set_ylabel(label)
    grid[0, 0].set_title("100 equations")
    grid[0, 1].set_title("m = 10 n")
    grid[1, 0].set_xlabel("unknowns m")
    grid[1, 1].set_xlabel("equations n")
    grid[0, 0].legend()
    return figure


def draw_certificate(new: Newest, plt: Any) -> Any:
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
    ax.set(xlabel="w₁", ylabel="w₂", title="w₁²/4 + w₂² = 1: what `certify` says", aspect="equal")
    return figure


PICTURES = {"kappa": draw_kappa, "scaling": draw_scaling, "certificate": draw_certificate}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / ".asv" / "results", help="asv's results_dir")
    new = Newest(parser.parse_args().results)
    import matplotlib as mpl  # asv imports this module too, where it need not be there

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    page = ROOT / "docs" / "benchmarks.md"
    text = rewritten(page.read_text(encoding="utf-8"), new)
    FIGURES.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw(new, plt).savefig(FIGURES / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    page.write_text(text, encoding="utf-8")
    print(f"docs/benchmarks.md and {len(PICTURES)} pictures: {new.machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
