"""Time and memory of Gauss-Newton against the numbers of unknowns and of equations, for three kinds of Jacobian.

dense and operator are the same system F(w) = tanh(A w) + A w - 0.3, the operator knowing J v and J^T z alone; network
is a fully connected tanh network with two hidden layers through random points, whose J is never formed.
"""

import math
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from benchmarks.units import counted_in, within

FORMS = ["dense", "operator", "network"]
EQUATIONS, UNKNOWNS = 100, [1_000, 10_000, 100_000, 1_000_000]  # at this n
SIZES, RATIO = [50, 100, 200, 400, 800], 10  # n, and m / n
LARGEST = 2e8  # bytes of J: larger ones are for the network alone
PATIENCE = 20.0  # seconds for all of a size
AGAIN = 0.5  # seconds: what takes less is repeated

System = tuple[Any, Any, Any, Any]  # F, jac, w0, y


def system(form: str, n: int, m: int) -> System:
    from scipy.sparse.linalg import LinearOperator

    from plsolve import testing
    from plsolve.networks import WideNetwork

    if form != "network" and 8.0 * n * m > LARGEST:
        raise NotImplementedError
    if form == "network":
        rng = np.random.default_rng(0)
        width = round(math.sqrt(m + 42.0) - 6.5)  # m = width^2 + 13 width + 1
        net = WideNetwork(rng.standard_normal((n, 10)), (width, width))
        return net.F, net.jac, net.init(0), rng.standard_normal(n)
    p = testing.tanh_system(n, m)

    def operator(w: Any) -> Any:
        J = p.jac(w)
        return LinearOperator((n, m), matvec=lambda v: J @ v, rmatvec=lambda z: z @ J, dtype=float)

    return p.F, p.jac if form == "dense" else operator, p.w0, p.y


def run(s: System) -> Any:
    from plsolve import solve

    F, jac, w0, y = s
    return solve(F, jac, w0, y, method="gauss-newton", certify=False)


def measured(form: str, n: int, m: int) -> dict[str, float]:
    """Best seconds a linearisation, and the peak of what the solve allocates."""
    from benchmarks.checks.main_job import seconds, with_peak

    s = system(form, n, m)
    sol, peak = with_peak(lambda: run(s))
    best = seconds(lambda: run(s), 1)
    best = min(best, seconds(lambda: run(s), 3)) if best < AGAIN else best
    return {
        "n": float(n),
        "m": float(s[2].size),
        "seconds": best / sol.njev if sol.success else math.nan,
        "peak": float(peak),
    }


def all_sizes() -> dict[tuple[str, int, int], dict[str, float]]:
    """Each form in both sweeps, until the forecast from the last two sizes (equal factors) is too long."""
    found = {}
    for form in FORMS:
        for shapes in ([(EQUATIONS, m) for m in UNKNOWNS], [(n, RATIO * n) for n in SIZES]):
            times: list[float] = []
            for n, m in shapes:
                if form != "network" and 8.0 * n * m > LARGEST:
                    break
                if len(times) > 1 and times[-1] ** 2 / times[-2] > PATIENCE:
                    break
                begun = perf_counter()
                found[form, n, m] = measured(form, n, m)
                times.append(perf_counter() - begun)
    return found


def slope(xs: Any, ys: Any) -> float:
    from benchmarks.checks import pl_star

    return pl_star.exponent(xs, ys)


class Sizes:
    version = "1"
    timeout = 300

    @within(900)
    def setup_cache(self) -> dict[tuple[str, int, int], dict[str, float]]:
        return all_sizes()


class InUnknowns(Sizes):
    """100 equations."""

    params: ClassVar = [FORMS, UNKNOWNS]
    param_names: ClassVar = ["J", "m"]

    def shape(self, size: int) -> tuple[int, int]:
        return EQUATIONS, size

    def cell(self, found: Any, form: str, size: int) -> dict[str, float]:
        return found.get((form, *self.shape(size)), dict.fromkeys(("n", "m", "seconds", "peak"), math.nan))

    @counted_in("seconds")
    def track_seconds_per_linearisation(self, found: Any, form: str, size: int) -> float:
        return self.cell(found, form, size)["seconds"]

    @counted_in("bytes")
    def track_allocated(self, found: Any, form: str, size: int) -> float:
        return self.cell(found, form, size)["peak"]

    @counted_in("ratio")
    def track_allocated_over_jacobian_and_kernel(self, found: Any, form: str, size: int) -> float:
        cell = self.cell(found, form, size)
        return cell["peak"] / (8.0 * cell["n"] * (cell["m"] + cell["n"]))


class InEquations(InUnknowns):
    """Ten unknowns an equation."""

    params: ClassVar = [FORMS, SIZES]
    param_names: ClassVar = ["J", "n"]

    def shape(self, size: int) -> tuple[int, int]:
        return size, RATIO * size


class Exponents(Sizes):
    """Fitted growth of the time of a linearisation, and of the memory, over all sizes."""

    params: ClassVar = [FORMS, ["m", "n"]]
    param_names: ClassVar = ["J", "against"]
    unit = "exponent"

    def points(self, found: Any, form: str, against: str, what: str) -> tuple[list[float], list[float]]:
        shapes = [(EQUATIONS, m) for m in UNKNOWNS] if against == "m" else [(n, RATIO * n) for n in SIZES]
        known = [(n, found[form, n, m]) for n, m in shapes if (form, n, m) in found]
        return [cell["m"] if against == "m" else n for n, cell in known], [cell[what] for _, cell in known]

    def track_time(self, found: Any, form: str, against: str) -> float:
        return slope(*self.points(found, form, against, "seconds"))

    def track_memory(self, found: Any, form: str, against: str) -> float:
        return slope(*self.points(found, form, against, "peak"))
