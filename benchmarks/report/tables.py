"""The tables of docs/benchmarks.md, one function each."""

import math
from collections.abc import Callable

from benchmarks.report.results import Newest, axis
from benchmarks.report.words import count, memory, number, percent, power, table, time

RATIO = 4  # m / n, of the convergence table and picture
OURS = ("gauss-newton", "heavy-ball", "nesterov", "chebyshev", "gd", "sgd", "plsolve")


def named(method: str) -> str:
    return method if method in OURS else f"scipy {method}"


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
        reach = f"{power(min(run))} ... {power(max(run))}" if run else "-"
        rows.append([named(method), *map(number, cells), reach, number(min(least, default=math.nan)), at])
    head = ["method", *(f"m = {r} n" for r in axis(exponents, 1)), "kappa that was run"]
    return table([*head, "decay / guaranteed, at least", "forecast of the first left out"], rows)


def beside_scipy(new: Newest) -> str:
    counts = {w: new[f"convergence.Convergence.track_{w}_evaluations"] for w in ("jacobian", "function")}
    seconds = new["convergence.Convergence.track_seconds"]
    kappas = axis(seconds, 1)[::2]
    rows = []
    for method in ("gauss-newton", "dogbox", "trf", "trf-lsmr"):
        cells = []
        for kappa in kappas:
            J, F = (counts[w][method, kappa, RATIO] for w in ("jacobian", "function"))
            slower = seconds[method, kappa, RATIO] / seconds["gauss-newton", kappa, RATIO]
            cells.append("not solved" if not math.isfinite(J) else f"{J:.0f} J, {F:.0f} F: {number(slower)}")
        rows.append([named(method), *cells])
    return table(["", *(f"kappa {power(k)}" for k in kappas)], rows)


def distance(new: Newest) -> str:
    share, spent, runs = (
        new[f"start_distance.StartDistance.track_{w}"] for w in ("share_solved", "jacobians_spent", "runs")
    )
    rows = [
        [named(method), *(f"{percent(share[method, d])} ({number(spent[method, d])})" for d in axis(share, 1))]
        for method in axis(share, 0)
    ]
    return table(
        [f"solved of {count(max(runs.values()))} runs (Jacobians)", *(f"distance {d:g}" for d in axis(share, 1))], rows
    )


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


def sgd(new: Newest) -> str:
    sparse, passes = (new[f"sgd_at_scale.SparseRows.track_{w}"] for w in ("seconds", "passes_over_the_rows_of_J"))
    network, read = (new[f"sgd_at_scale.Network.track_{w}"] for w in ("seconds", "passes_over_the_rows_of_J"))
    rows = []
    for system in axis(sparse, 0):
        for way in axis(sparse, 1):
            cells = [time(sparse[system, way, n]) for n in axis(sparse, 2)]
            if set(cells) != {"-"}:
                rows.append([system, way, *cells])
        rows.append([system, "passes over J by sgd", *(number(passes[system, "sgd", n]) for n in axis(sparse, 2))])
    first = table(["sparse rows", "", *map(count, axis(sparse, 2))], rows)
    rows = [[way, *(time(network[way, n]) for n in axis(network, 1))] for way in axis(network, 0) if way != "LSMR"]
    rows.append(["passes over J by sgd", *(number(read["sgd", n]) for n in axis(network, 1))])
    return f"{first}\n\n" + table(["network, points", *map(count, axis(network, 1))], rows)


def small(new: Newest) -> str:
    seconds, speedup = (new[f"small.PlanarArm.track_{w}"] for w in ("seconds", "speedup"))
    joints = axis(seconds, 1)
    rows = [[way, *(time(seconds[way, k]) for k in joints), number(speedup[way, 7])] for way in axis(seconds, 0)]
    head = ["planar arm, one solve", *(f"{k} joints" for k in joints), "times faster than scipy's better, 7 joints"]
    rate, share = (new[f"small.Batch.track_{w}"] for w in ("systems_per_second", "share_solved"))
    targets = axis(rate, 1)
    batches = [[f"{t} thread{'s' * (t > 1)}", *(count(rate[t, k]) for k in targets)] for t in axis(rate, 0)]
    batches.append(["solved from that start", *(percent(share[1, k]) for k in targets)])
    return (
        f"{table(head, rows)}\n\n`solve_batch`, systems a second: an arm in space, one start for all targets.\n\n"
        + table(["", *(f"{count(k)} targets" for k in targets)], batches)
    )


def models(new: Newest) -> str:
    seconds = new["models.Kernels.track_seconds"]
    widths = axis(seconds, 1)
    rows = [[way, *(time(seconds[way, width]) for width in widths)] for way in axis(seconds, 0)]
    return table(["one solve", *(f"m = {count(82 * width + 1)}" for width in widths)], rows)


def infer(new: Newest) -> str:
    near, total, seconds = (
        new[f"inference.Inference.track_{w}"] for w in ("jacobians_to_the_objective", "jacobians", "seconds")
    )
    price, inside = (new[f"inference.StandardDeviations.track_{w}"] for w in ("price", "truth_within_two"))
    rows = []
    for problem in axis(near, 0):
        cells = []
        for way in axis(near, 1):
            key = problem, way
            first = f"{near[key]:.0f} of {total[key]:.0f}" if math.isfinite(near[key]) else f"not in {total[key]:.0f}"
            cells.append(f"{first} J, {time(seconds[key])}")
        rows.append([problem, *cells, number(price[problem,]), percent(inside[problem,])])
    return table(["", *axis(near, 1), "all std, in iterations", "truth within two std"], rows)


def checkpoints(new: Newest) -> str:
    without, with_file, size = (
        new[f"checkpoints.Checkpoints.track_{w}"] for w in ("seconds_without", "seconds_with", "size")
    )
    rows = [
        [what, *map(unit, values.values())]
        for what, values, unit in (
            ("a run without checkpoint", without, time),
            ("with checkpoint", with_file, time),
            ("file", size, memory),
        )
    ]
    return table(["", *(f"m = {count(m)}" for (m,) in size)], rows)


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
    shape = axis(certify, 0)[-1]
    rows = [
        ["converged runs on random systems that end with a rigorous certificate",
         f"{100 * new.number('proofs.Certified.track_share_of_solved_runs'):.1f} %"],
        ["false certificates among them, four `beta` each", f"{new.number('proofs.Certified.track_false'):.0f}"],
        [f"`certify`, {shape[0]} points, width {shape[1]}", time(certify[shape,])],
        ["`sol.certificate` there, in Gauss-Newton iterations", number(price[shape,])],
        ["forecasts after a tenth of the run that are right to a factor of two",
         percent(new.number("proofs.Forecasts.track_share_within_a_factor_of_two"))],
    ]  # fmt: skip
    return table(["certificates and forecasts", ""], rows)


def kernel(new: Newest) -> str:
    seconds = new["network_kernel.Kernel.time_kernel"]
    widths = axis(seconds, 1)
    rows = [[way, *(time(seconds[way, width]) for width in widths)] for way in axis(seconds, 0)]
    return table(["K at 442 points", *(f"width {count(width)}" for width in widths)], rows)


REGIONS: dict[str, Callable[[Newest], str]] = {
    "machine": Newest.machine,
    "growth": growth,
    "scipy": beside_scipy,
    "distance": distance,
    "scaling": scaling,
    "sgd": sgd,
    "small": small,
    "models": models,
    "kernel": kernel,
    "infer": infer,
    "checkpoints": checkpoints,
    "cold start": cold_start,
    "proofs": proofs,
}
