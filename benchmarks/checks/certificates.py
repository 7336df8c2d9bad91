"""Hunt for a false certificate: 20 000 random systems, solvable or not, near singular, badly scaled.

    python -m benchmarks.checks.certificates [--systems 20000] [--seed 0]

Each system is certified at a random distance from a solution (or from where one would be) with its exact Lipschitz
constants, one number and one per equation, with 1 % more, and with a tenth. A rigorous certificate is false if Newton's
method in extended precision finds no solution inside the radius, if the system has none at all, or if a solution lies
where none should. Then the share of converged runs that certify at their last point. Exit code 1 if a limit is missed.
"""

import argparse
import sys
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from plsolve import Certificate, certify, solve

LIMIT = 0.99  # of converged runs with kappa(K) <= 1e10 after row scaling


@dataclass
class Quadratic:
    """F_i(w) = scale_i (b_i.w + w^T H_i w / 2) with target y; `solution` None: there is none."""

    B: Any
    H: Any
    scale: Any
    y: Any
    solution: Any
    kind: str
    center: Any  # where to look

    def F(self, w: Any) -> Any:
        return self.scale.astype(w.dtype) * (
            self.B.astype(w.dtype) @ w + 0.5 * np.einsum("ijk,j,k->i", self.H.astype(w.dtype), w, w)
        )

    def jac(self, w: Any) -> Any:
        return self.scale[:, None] * (self.B + np.einsum("ijk,k->ij", self.H, w))

    @property
    def beta(self) -> float:
        """The root of lambda_max(SUM H_i^2): a bound on the Lipschitz constant of jac (theory 8)."""
        H = self.scale[:, None, None] * self.H
        return float(np.sqrt(np.linalg.eigvalsh(np.einsum("ijk,ikl->jl", H, H))[-1])) * (1 + 1e-12)

    @property
    def beta_rows(self) -> Any:
        return self.scale * np.abs(np.linalg.eigvalsh(self.H)).max(axis=1) * (1 + 1e-12)


KINDS = {
    "plain": 0.2, "singular": 0.2, "scaled": 0.15, "columns": 0.1, "alike": 0.1, "none": 0.1, "none-near": 0.1,
    "none-alike": 0.05,
}  # fmt: skip


def random_system(rng: np.random.Generator) -> Quadratic:
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    n = int(rng.integers(1, 9))
    m = n + int(rng.integers(0, 13))
    if kind == "none-alike":
        return none_alike(rng, n, m)
    B = rng.standard_normal((n, m))
    if kind == "singular":
        U, s, Vt = np.linalg.svd(B, full_matrices=False)
        B = (U * 10.0 ** -rng.uniform(0, rng.uniform(0, 7), s.size)) @ Vt
    H = rng.standard_normal((n, m, m))
    if kind == "alike":  # all equations bend alike
        H[:] = H[0]
    H = (H + H.transpose(0, 2, 1)) * 10.0 ** rng.uniform(-4, 1) / np.sqrt(m)
    scale = 10.0 ** rng.uniform(-8, 8, n) if kind == "scaled" else np.ones(n)
    solution = rng.standard_normal(m) * 10.0 ** rng.uniform(-2, 1)
    if kind == "columns":  # the unknowns are badly scaled
        c = 10.0 ** rng.uniform(-3, 3, m)
        B, H, solution = B * c, H * c * c[:, None], solution / c
    system = Quadratic(B, H, scale, np.zeros(n), solution, kind, solution)
    if not kind.startswith("none"):
        system.y = system.F(solution)
        return system
    q = rng.standard_normal(m)  # the last equation is a square: (q.w)^2 = -gap
    gap = 10.0 ** rng.uniform(-14, 0)
    B[-1], H[-1] = 0.0, 2.0 * np.outer(q, q)
    if kind == "none-near":
        solution -= q * (q @ solution) / (q @ q)  # where it would be
    else:
        system.center = rng.standard_normal(m)
    system.y = system.F(solution)
    system.y[-1] = -gap
    system.solution = None
    return system


def none_alike(rng: np.random.Generator, n: int, m: int) -> Quadratic:
    """All equations bend alike, in the direction of ones, where K is small: the worst case for one beta per equation.

    Their sum is eps v + sqrt n v^2/2 = -g in v = q.w, with g up to twice what has a solution.
    """
    ones = np.ones((n, 1)) / np.sqrt(n)
    U = np.linalg.qr(np.hstack([ones, rng.standard_normal((n, n - 1))]))[0]
    U[:, 0] = ones[:, 0]
    V = np.linalg.qr(rng.standard_normal((m, n)))[0]
    eps = 10.0 ** rng.uniform(-2, 0)
    B = (U * np.append(eps, np.ones(n - 1))) @ V.T
    H = np.tile(np.outer(V[:, 0], V[:, 0]), (n, 1, 1))
    g = eps**2 / (2.0 * np.sqrt(n)) * rng.uniform(1.001, 2.0)
    return Quadratic(B, H, np.ones(n), -g * ones[:, 0], None, "none-alike", np.zeros(m))


def extended_newton(s: Quadratic, w: Any) -> Any:
    """A solution near w to 64-bit mantissas, or None: minimum-norm Newton steps by SVD, F in extended precision."""
    x = w.astype(np.longdouble)
    for _ in range(60):
        r = s.F(x) - s.y
        d = 1.0 / np.where(s.scale > 0, s.scale, 1.0)
        step = np.linalg.lstsq(d[:, None] * s.jac(x.astype(float)), (d * r).astype(float), rcond=1e-15)[0]
        x = x - step
        if not np.isfinite(step).all():
            return None
        if np.linalg.norm(step) <= 1e-18 * np.linalg.norm(x.astype(float)):
            break
    r = (s.F(x) - s.y) / s.scale
    a = np.abs(x).astype(float)
    size = np.abs(s.B) @ a + 0.5 * np.einsum("ijk,j,k->i", np.abs(s.H), a, a) + np.abs(s.y) / s.scale + 1e-300
    return x if np.all(np.abs(r) <= 1e-17 * size * x.size) else None


def false(s: Quadratic, w: Any, c: Certificate) -> str:
    """What is false about a certificate; empty if nothing."""
    if c.exists:
        if s.solution is None:
            return "a solution where none exists"
        x = extended_newton(s, w)
        if x is None:
            return "no solution found"
        if float(np.linalg.norm((x - w).astype(np.longdouble))) > c.radius:
            near = float(np.linalg.norm(s.solution - w))
            return "" if near <= c.radius else "the solution lies outside the radius"
    elif c.absent:
        for x in (s.solution, extended_newton(s, w) if s.solution is not None else None):
            if x is not None and float(np.linalg.norm((x - w).astype(np.longdouble))) < c.radius * (1 - 1e-9):
                return "a solution inside the ball said to be free of them"
    return ""


def hunt(systems: int, seed: int) -> tuple[Counter[str], list[str]]:
    count: Counter[str] = Counter()
    bad: list[str] = []
    for i in range(systems):
        rng = np.random.default_rng([seed, i])
        s = random_system(rng)
        offset = rng.standard_normal(s.center.size)
        w = s.center + offset * 10.0 ** rng.uniform(-14, 0.5) / np.linalg.norm(offset)
        tries = {"exact": s.beta, "rows": s.beta_rows, "1% above": 1.01 * s.beta, "rows 1% above": 1.01 * s.beta_rows}
        for name, beta in tries.items():
            c = certify(s.F, s.jac, w, s.y, beta=beta)
            count[f"{name}: {'exists' if c.exists else 'absent' if c.absent else 'neither'}"] += 1
            if not c.rigorous and (c.exists or c.absent):
                bad.append(f"system {i} ({s.kind}), beta {name}: not rigorous, {c.reason}")
            if c.rigorous and (what := false(s, w, c)):
                bad.append(f"system {i} ({s.kind}), beta {name}: {what}; {c!r}")
        low(s, w, i, count, bad)
    return count, bad


def low(s: Quadratic, w: Any, i: int, count: Counter[str], bad: list[str]) -> None:
    """A tenth of beta: once contradicted, never rigorous."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        c = certify(s.F, s.jac, w, s.y, beta=0.1 * s.beta)
    contradicted = any("contradicted" in str(x.message) for x in caught)
    count[f"a tenth: {'contradicted' if contradicted else 'not contradicted'}"] += 1
    if contradicted and c.rigorous:
        bad.append(f"system {i} ({s.kind}): rigorous with a contradicted beta")
    if c.rigorous and false(s, w, c):
        count["a tenth: not contradicted and false (the user's error)"] += 1


def runs(systems: int, seed: int) -> tuple[Counter[str], float]:
    """Converged Gauss-Newton runs: how many certify at their last point."""
    count: Counter[str] = Counter()
    for i in range(systems):
        s = random_system(np.random.default_rng([seed, 1, i]))
        if s.solution is None:
            continue
        offset = np.random.default_rng([seed, 2, i]).standard_normal(s.solution.size)
        sol = solve(s.F, s.jac, s.solution + 0.3 * offset, s.y, method="gauss-newton", beta=s.beta_rows)
        if not sol.success:
            continue
        J = s.jac(sol.x)
        spectrum = np.linalg.svd(J / np.linalg.norm(J, axis=1)[:, None], compute_uv=False)
        if not (spectrum[0] / spectrum[-1]) ** 2 <= 1e10:
            continue
        count["converged"] += 1
        c = sol.certificate
        count["certified"] += c is not None and c.exists and c.rigorous
        if s.kind != "scaled":
            count["converged, one beta"] += 1
            c = certify(s.F, s.jac, sol.x, s.y, beta=s.beta)
            count["certified, one beta"] += c.exists and c.rigorous
        if c.rigorous and (what := false(s, sol.x, c)):
            count[f"FALSE: {what}"] += 1
    return count, min(
        count["certified"] / max(count["converged"], 1),
        count["certified, one beta"] / max(count["converged, one beta"], 1),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--systems", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start = time.perf_counter()
    count, bad = hunt(options.systems, options.seed)
    for name in sorted(count):
        print(f"{name:60s} {count[name]}")
    print(f"false or doubtful: {len(bad)}")
    print("\n".join(bad[:20]))
    found, share = runs(options.systems, options.seed)
    for name in sorted(found):
        print(f"{name:60s} {found[name]}")
    wrong = any(name.startswith("FALSE") for name in found)
    print(f"share certified {share:.4f} (limit {LIMIT}); {time.perf_counter() - start:.0f} s")
    return int(bool(bad) or wrong or share < LIMIT)


if __name__ == "__main__":
    sys.exit(main())
