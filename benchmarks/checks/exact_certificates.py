"""Hunt for a false certificate in 102 000 trials with polynomial systems whose solutions are known exactly.

    python -m benchmarks.checks.exact_certificates [--trials 85000] [--seed 0] [--write]

Each trial is one system, one point, one beta (a number or one for each equation, exact or larger) and one certificate.
F and J are rounded from exact values, correctly or as badly as the model of rounding allows. Whether a solution lies
within the radius is decided in integers. A certificate is false if it is rigorous and this decision contradicts it. In
the second table, of a fifth as many trials, something that the certificate rests on is wrong: jac, beta, or the
rounding of F. --write puts the tables into docs/checks.md. Exit code 1 if a certificate is false, or if right F, jac
and beta are doubted.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.linalg import LinearOperator

from benchmarks import marks
from benchmarks.checks.exact_systems import DIGITS, C, Factored, Rounding, Sphere, System, integers, inverse
from plsolve import Certificate, Result, certify, solve

RUNS = "the last points of runs from these"
WRONG = "jac wrong by 1e-4 to 1e-8"
NEVER = ("F in single precision", "J by differences")
PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


class Trial(NamedTuple):
    """A system, a point and a beta, and F and jac as they are given to `certify`."""

    system: System
    w: Any
    beta: Any
    F: Callable[[Any], Any]
    jac: Any


# -- systems -----------------------------------------------------------------------------------------------------------


def full_rank(rng: np.random.Generator, rows: int, columns: int, size: int = 4) -> Any:
    """A random matrix of small integers and full rank."""
    while True:
        A = integers(rng.integers(-size, size + 1, (rows, columns)))
        try:
            inverse(A @ A.T if rows <= columns else A.T @ A)
        except ZeroDivisionError:
            continue
        return A


def dyadic(x: Any) -> Any:
    """x in units of 2^-60."""
    return integers(np.ldexp(x, DIGITS))


def target(rng: np.random.Generator, n: int) -> Any:
    return np.zeros(n) if rng.random() < 0.5 else rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 6)


def factored(
    rng: np.random.Generator, *, kind: str = "", degree: int = 2, k: int | None = None
) -> tuple[Factored, Any, Any]:
    """A system, its center in units of 2^-60 (a solution, if there is one), and a length that matters there."""
    k = int(rng.integers(1, 4)) if k is None else k
    m = k + int(rng.integers(0, 4))
    A, M = full_rank(rng, k, m), full_rank(rng, k + (kind == "tall") * int(rng.integers(1, 3)), k)
    if kind == "ill" and k > 1:  # rows that are nearly parallel
        A[1] = A[0] * (1 << int(rng.integers(4, 27))) + A[1]
    center = dyadic(rng.standard_normal(m) * 10.0 ** rng.uniform(-2, 1) * (rng.random() < 0.9))
    lead = integers(np.ldexp(rng.uniform(0.1, 4.0, k) * rng.choice([-1, 1], k), C))
    apart = rng.choice([-1, 1], k) * 10.0 ** (-rng.uniform(3, 12, k) if kind == "double" else rng.uniform(-3, 1, k))
    T, gap = A @ center, integers(np.zeros(k))
    degrees = rng.choice([1, degree], k, p=[0.3, 0.7])
    if kind in ("double", "none"):
        degrees[0] = 2
    roots = []
    for i, t in enumerate(T):
        others = [t + int(dyadic(apart[i] * (1.0 + 3.0 * j))) for j in range(degrees[i] - 1)]
        roots.append([t, *others])
    if kind == "none" or (kind == "double" and rng.random() < 0.4):
        roots[0] = [T[0]] * 2
        size = 10.0 ** rng.uniform(-14, 0) if kind == "none" else apart[0] ** 2 / 4.0
        gap[0] = int(np.sign(lead[0])) * max(int(dyadic(size)), 1)
        apart[0] = np.sqrt(size)
    system = Factored(n=len(M), m=m, y=target(rng, len(M)), A=A, M=M, roots=roots, lead=lead, gap=gap)
    return system, center, float(np.abs(apart).min())


def placed(rng: np.random.Generator, system: System, center: Any, length: float) -> Any:
    """A point near the center, often at the distance that matters."""
    offset = rng.standard_normal(system.m)
    size = length * 10.0 ** rng.uniform(-2, 0.5) if rng.random() < 0.5 else 10.0 ** rng.uniform(-14, 0.5)
    system.middle = np.ldexp(center.astype(float), -DIGITS)
    return np.ldexp((center + dyadic(size * offset / np.linalg.norm(offset))).astype(float), -DIGITS)


def plain(rng: np.random.Generator, kind: str = "", k: int | None = None) -> tuple[System, Any]:
    system, center, length = factored(rng, kind=kind, k=k)
    return system, placed(rng, system, center, length)


def weak(rng: np.random.Generator) -> tuple[System, Any]:
    """A linear system with rows that are nearly parallel, at w = 0: F is small, and errors of J are not."""
    k = int(rng.integers(2, 4))
    A = full_rank(rng, k, k + int(rng.integers(0, 2)))
    A[1] = A[0] * (1 << int(rng.integers(4, 24))) + A[1]
    direction = np.linalg.svd(A.astype(float), full_matrices=False)[2][-1]
    center = dyadic(direction * 10.0 ** rng.uniform(-2, 1))
    lead, zero, M = integers(np.full(k, 1 << C)), integers(np.zeros(k)), integers(np.eye(k, dtype=int))
    y = target(rng, k) * rng.choice([0.0, 1e-20])
    system = Factored(n=k, m=A.shape[1], y=y, A=A, M=M, roots=[[t] for t in A @ center], lead=lead, gap=zero)
    return system, np.zeros(system.m)


def scaled(rng: np.random.Generator) -> tuple[System, Any]:
    """Equations times up to 2^+-450, all alike or each its own, and unknowns times 2^shift."""
    system, w = plain(rng, kind=str(rng.choice(["", "double", "none"])))
    which = rng.integers(3)
    powers = rng.integers(-450, 451, system.n) if which else np.full(system.n, rng.integers(-450, 451))
    system.scale = powers
    low, high = max(-400, int(powers.max()) - 460), min(400, int(powers.min()) + 440)
    system.shift = int(rng.integers(low, high + 1)) if which == 2 and low <= high else 0
    system.middle = np.ldexp(system.middle, system.shift)
    return system, np.ldexp(w, system.shift)


def cubic(rng: np.random.Generator) -> tuple[System, Any]:
    """Equations of third degree, whose Lipschitz constants hold in a box."""
    system, center, length = factored(rng, degree=3)
    w = placed(rng, system, center, length)
    system.center, system.half = w, float(10.0 ** rng.uniform(-3, 1))
    return system, w


def sphere(rng: np.random.Generator) -> tuple[System, Any]:
    """A sphere and a subspace that meet, touch within 1e-14 to 1e-2, or miss each other by as little."""
    m = int(rng.integers(1, 6))
    L = full_rank(rng, int(rng.integers(0, m)), m)
    center = dyadic(rng.standard_normal(m))
    b, size = L @ center, int(center @ center) >> DIGITS
    G = inverse(L @ L.T)
    if which := rng.integers(3):  # just touching: the center is the point of the subspace nearest to 0
        foot = L.T @ (G @ b)
        size = int(b @ G @ b) >> DIGITS
        size += int(rng.choice([-1, 1])) * int(dyadic(10.0 ** rng.uniform(-14, -2)))
        center = integers([round(x) for x in foot])
    system = Sphere(n=len(L) + 1, m=m, y=target(rng, len(L) + 1), L=L, b=b, size=max(size, 0))
    return system, placed(rng, system, center, 1e-3 if which else 1.0)


def many(rng: np.random.Generator) -> tuple[System, Any]:
    """Up to 60 equations, some of them almost flat: q_i of w_i alone, with leading coefficients down to 2^-16."""
    k = int(rng.integers(20, 61))
    A = integers(np.eye(k, dtype=int))
    center = dyadic(rng.standard_normal(k))
    lead = integers(np.ldexp(1.0, rng.integers(0, C + 1, k)))
    apart = dyadic(10.0 ** rng.uniform(-2, 1, k))
    roots = [[t] if rng.random() < 0.5 else [t, t + d] for t, d in zip(center, apart, strict=True)]
    system = Factored(n=k, m=k, y=target(rng, k), A=A, M=A, roots=roots, lead=lead, gap=integers(np.zeros(k)))
    return system, placed(rng, system, center, 1e-5)


KINDS: dict[str, tuple[float, Callable[[np.random.Generator], tuple[System, Any]]]] = {
    "products of linear factors": (0.18, plain),
    "linear with nearly parallel rows, the solution in the weak direction": (0.04, weak),
    "double roots 1e-3 to 1e-12 apart, or missed by as much": (0.2, lambda rng: plain(rng, "double")),
    "a square plus a gap of 1e-14 to 1: no solution": (0.1, lambda rng: plain(rng, "none")),
    "rows parallel to within 2^-4 to 2^-26": (0.14, lambda rng: plain(rng, "ill", int(rng.integers(2, 4)))),
    "F times 2^±450, by rows, w by 2^±400": (0.12, scaled),
    "cubics in a box": (0.08, cubic),
    "a sphere and a subspace that just meet or miss": (0.1, sphere),
    "n > m": (0.03, lambda rng: plain(rng, "tall")),
    "20 to 60 equations, sigma_min to 1e-5": (0.01, many),
}


# -- how they are given ------------------------------------------------------------------------------------------------


def at_the_edge(rng: np.random.Generator, system: System, w: Any) -> Rounding:
    """Errors as large as the model allows, for half of the systems in the direction in which J is weakest."""
    n, m = system.n, system.m
    if rng.random() < 0.5:
        return Rounding(rng.choice([-1.0, 0.0, 1.0], n), rng.uniform(-1.0, 1.0, (n, m)))
    J = system.jac(w)
    size = np.linalg.norm(J, axis=1, keepdims=True)
    U, _, Vt = np.linalg.svd(J / np.where(size > 0.0, size, 1.0), full_matrices=False)
    u, v = (np.where(x < 0.0, -1.0, 1.0) for x in (U[:, -1], Vt[-1]))
    return Rounding(u * rng.choice([-1, 1]), np.outer(u, v) * rng.choice([-1, 1]))


def some_beta(rng: np.random.Generator, system: System) -> Any:
    """The exact constants, of all equations together or of each, or larger ones."""
    above = float(rng.choice([1.0, 1.0, 1.01, 10.0 ** rng.uniform(0, 2)]))
    return above * (system.beta if rng.random() < 0.4 else system.beta_rows)


def some_form(rng: np.random.Generator, jac: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """jac returns an array, a sparse matrix or an operator with gram()."""
    form = rng.choice(["array", "csr", "gram"], p=[0.8, 0.1, 0.1])
    return {"array": jac, "csr": lambda w: csr_array(jac(w)), "gram": lambda w: Gram(jac(w))}[form]


class Gram(LinearOperator):  # type: ignore[misc]
    """A matrix as an operator with gram(), which may be wrong by some factors."""

    def __init__(self, J: Any, wrong: Any = 1.0) -> None:
        super().__init__(np.dtype(float), J.shape)
        self.J, self.wrong = J, wrong

    def _matvec(self, v: Any) -> Any:
        return self.J @ v

    def _rmatvec(self, z: Any) -> Any:
        return self.J.T @ z

    def gram(self) -> Any:
        return self.J @ self.J.T * self.wrong


def trial(rng: np.random.Generator, make: Callable[[np.random.Generator], tuple[System, Any]]) -> Trial:
    system, w = make(rng)
    if rng.random() < 0.6:
        system.rounding = at_the_edge(rng, system, w)
    t = Trial(system, w, some_beta(rng, system), system.F, some_form(rng, system.jac))
    return moved(rng, t) if rng.random() < 0.4 else t


def moved(rng: np.random.Generator, t: Trial) -> Trial:
    """To where h is about 1/2, or less by up to 1e6, if the points between are alike."""
    h, center = certified(t)[0].h, t.system.middle
    if not 0.0 < h < np.inf or t.system.bounds is not None:
        return t
    wanted = rng.uniform(0.35, 0.55) if rng.random() < 0.5 else 10.0 ** -rng.uniform(0.3, 6)
    return t._replace(w=center + min(wanted / h, 1.0) * (t.w - center))


def certified(t: Trial) -> tuple[Certificate, bool]:
    """The certificate, and whether F was said to contradict beta or jac."""
    return watched(lambda: certify(t.F, t.jac, t.w, t.system.target, beta=t.beta, bounds=t.system.bounds))


def watched(make: Callable[[], Certificate]) -> tuple[Certificate, bool]:
    """The certificate, and whether a warning says that something is contradicted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        c = make()
    return c, any("contradict" in str(w.message) for w in caught)


def false(system: System, w: Any, c: Certificate) -> str:
    """What is false about a certificate; empty if nothing."""
    if c.exists and not system.solution_within(w, c.radius):
        return "no solution within the radius"
    if c.absent and system.solution_within(w, c.radius):
        return "a solution inside the ball said to be free of them"
    if c.gd_radius < np.inf and not system.solution_within(w, c.gd_radius):
        return "no solution within the radius of gradient descent"
    return ""


# -- what a certificate rests on, wrong --------------------------------------------------------------------------------


def wrong_jac(rng: np.random.Generator, t: Trial) -> Trial:
    """One entry, one row or one column of J wrong by 1e-4 to 1e-8, or everything; a sign; two columns exchanged."""
    n, m = t.system.n, t.system.m
    i, j, other = int(rng.integers(n)), int(rng.integers(m)), int(rng.integers(m))
    what, error = str(rng.choice(list("ercasx"), p=[0.3, 0.2, 0.2, 0.2, 0.05, 0.05])), 10.0 ** -rng.uniform(4, 8)
    by = {"e": (i, j), "r": (i,), "c": (slice(None), j), "s": (i, j)}
    noise = rng.standard_normal((n, m))

    def jac(w: Any) -> Any:
        J = t.system.jac(w)
        if what == "x":
            J[i, [j, other]] = J[i, [other, j]]
        elif what == "a":
            J += error * noise * np.abs(J).max()
        else:
            J[by[what]] *= -1.0 if what == "s" else 1.0 + error
        return J

    return t._replace(jac=jac)


def small_beta(rng: np.random.Generator, t: Trial) -> Trial:
    return t._replace(beta=t.beta * 10.0 ** -rng.uniform(0.05, 3))


def cancelling(rng: np.random.Generator, t: Trial) -> Trial:
    """F is computed from terms that are up to 2^30 times larger than the model knows."""
    K = np.abs(t.F(t.w)).max() * 2.0 ** rng.uniform(0, 30)
    return t._replace(F=lambda w: (t.system.F(w) + K) - K)


def single(rng: np.random.Generator, t: Trial) -> Trial:
    """F in single precision inside, and returned in double."""
    return t._replace(F=lambda w: t.system.F(w).astype(np.float32).astype(float))


def single_seen(rng: np.random.Generator, t: Trial) -> Trial:
    return t._replace(F=lambda w: t.system.F(w).astype(np.float32))


def wrong_gram(rng: np.random.Generator, t: Trial) -> Trial:
    wrong = np.ones((t.system.n,) * 2)
    i, k = rng.integers(t.system.n, size=2)
    wrong[i, k] = wrong[k, i] = 1.0 + 10.0 ** -rng.uniform(0, 8)
    return t._replace(jac=lambda w: Gram(t.system.jac(w), wrong))


def differenced(rng: np.random.Generator, t: Trial) -> Trial:
    return t._replace(jac=str(rng.choice(["2-point", "3-point"])))


ASSUMED: dict[str, tuple[float, Callable[[np.random.Generator, Trial], Trial]]] = {
    WRONG: (0.5, wrong_jac),
    "beta too small, by 1.1 to 1000": (0.15, small_beta),
    "F from terms that cancel, up to 2^30 times larger": (0.15, cancelling),
    "F in single precision inside": (0.05, single),
    "F in single precision": (0.03, single_seen),
    "gram() wrong by 1 to 1e-8": (0.07, wrong_gram),
    "J by differences": (0.05, differenced),
}


# -- the hunt ----------------------------------------------------------------------------------------------------------

Counts = dict[str, Counter[str]]


def chosen(rng: np.random.Generator, kinds: dict[str, tuple[float, Any]]) -> str:
    shares = np.array([share for share, _ in kinds.values()])
    return str(rng.choice(list(kinds), p=shares / shares.sum()))


def hunt(trials: Iterable[int], seed: int) -> tuple[Counts, list[str]]:
    """Counts by kind, and what went wrong, where F, jac and beta are as they should be."""
    count: Counts = {name: Counter() for name in (*KINDS, RUNS)}
    bad: list[str] = []
    for i in trials:
        rng = np.random.default_rng([seed, i])
        kind = chosen(rng, KINDS)
        t = trial(rng, KINDS[kind][1])
        if i % 20 == 0 and t.system.bounds is None:
            kind, sol = RUNS, run(t)
            t = t._replace(w=sol.x)
            c, doubted = watched(lambda sol=sol: sol.certificate)  # type: ignore[misc]
        else:
            c, doubted = certified(t)
        what = "F and jac are doubted" if doubted else false(t.system, t.w, c) if c.rigorous else ""
        said = "exists" if c.exists else "absent" if c.absent else "neither"
        count[kind].update({"trials": 1, said: 1, "rigorous": c.rigorous, "false": bool(what)})
        if what:
            bad.append(f"trial {i} ({kind}): {what}; {c!r}")
    return count, bad


def run(t: Trial) -> Result:
    """A run from the point."""
    return solve(t.F, t.jac, t.w, t.system.target, beta=t.beta, method="gauss-newton", max_iter=30)


def hunt_assumed(trials: Iterable[int], seed: int) -> tuple[Counts, list[str]]:
    """Counts by kind, and what went wrong, where jac, beta or the rounding of F is not as it should be."""
    count: Counts = {name: Counter() for name in ASSUMED}
    bad: list[str] = []
    systems = {name: kind for name, kind in KINDS.items() if kind[1] is not scaled}  # within the range of float32
    for i in trials:
        rng = np.random.default_rng([seed, 1, i])
        kind = chosen(rng, ASSUMED)
        t = ASSUMED[kind][1](rng, trial(rng, systems[chosen(rng, systems)][1]))
        c, doubted = certified(t)
        what = false(t.system, t.w, c) if c.rigorous and not doubted else ""
        count[kind].update({"trials": 1, "rigorous": c.rigorous, "doubted": doubted, "untrue": bool(what)})
        if kind == WRONG and c.rigorous:
            error = jac_error(t)
            count[kind].update({"within": error <= c.jac_margin})
            if error <= c.jac_margin and (what := false(t.system, t.w, at_margin(c))):
                count[kind].update({"false": 1})
                bad.append(f"trial {i} ({kind}, error {error:.3g}): {what}; {c!r}")
        if c.rigorous and (doubted or kind in NEVER):
            bad.append(f"trial {i} ({kind}): rigorous; {c!r}")
    return count, bad


def jac_error(t: Trial) -> float:
    """||J - DF|| at the point, J as given."""
    J = t.jac(t.w)
    return float(np.linalg.norm(J - t.system.jac(t.w)))


def at_margin(c: Certificate) -> Certificate:
    """What the certificate says for a J that is wrong."""
    return replace(c, radius=c.radius * (2.0 if c.exists else 0.5), gd_radius=np.inf)


# -- tables ------------------------------------------------------------------------------------------------------------

COLUMNS = {"trials": "trials", "solution proved": "exists", "absence proved": "absent", "neither": "neither",
           "rigorous": "rigorous", "false": "false"}  # fmt: skip
COLUMNS_ASSUMED = {"trials": "trials", "found out": "doubted", "rigorous": "rigorous", "then untrue": "untrue",
                   "jac wrong by less than `jac_margin`": "within", "then false": "false"}  # fmt: skip


def table(head: str, count: Counts, columns: dict[str, str]) -> str:
    """A row for each kind, and their sum."""
    rows = {**count, "all": sum(count.values(), Counter())}
    lines = [[head, *columns], ["---"] * (1 + len(columns))]
    for name, numbers in rows.items():
        lines.append([name, *(f"{numbers[key]:,}".replace(",", " ") for key in columns.values())])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--trials", type=int, default=85_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/checks.md")
    options = parser.parse_args()
    count, bad = hunt(range(options.trials), options.seed)
    assumed, worse = hunt_assumed(range(options.trials // 5), options.seed)
    tables = {
        "certificates": table("system", count, COLUMNS),
        "certificates that rest on something wrong": table("wrong", assumed, COLUMNS_ASSUMED),
    }
    for name, text in tables.items():
        print(text, end="\n\n")
        if options.write:
            marks.write(PAGE, name, text)
    print(*bad, *worse, sep="\n")
    return int(bool(bad or worse))


if __name__ == "__main__":
    sys.exit(main())
