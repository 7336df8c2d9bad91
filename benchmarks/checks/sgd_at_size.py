"""SGD where J does not fit: beside a plain loop, LSMR, L-BFGS-B and Adam, in processor time and memory.

    python -m benchmarks.checks.sgd_at_size [PART ...] [--level 1e-2] [--rows 1e6]

PART: memory, rows, layers, million, adam (all without one). The network has 42 inputs and 1024 tanh units, 45 057
weights, and 20 000 points of a teacher of 32 units. The plain loop is damped Gauss-Newton on batches of 500 rows, in a
new order each epoch. Run it with one thread (OPENBLAS_NUM_THREADS=1): it counts processor time. Exit code 1 if a limit
is missed.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.sparse.linalg import lsmr

from plsolve import solve
from plsolve.networks import WideNetwork

N, D, WIDTH, BATCH, DAMPING = 20_000, 42, 1024, 500, 1e-3
Array = Any


def norm(x: Array) -> float:
    return float(np.linalg.norm(x))


def data(n: int) -> tuple[Array, Array]:
    X = np.random.default_rng(0).standard_normal((n, D))
    teacher = WideNetwork(X, (32,))
    y = teacher.F(teacher.init(1))
    return X, (y - y.mean()) / y.std()


class Plain:
    """The network as anyone would write it: F and jac of some rows, arrays."""

    def __init__(self, X: Array) -> None:
        self.X, self.m = X, D * WIDTH + 2 * WIDTH + 1

    def units(self, w: Array, rows: Array) -> tuple[Array, Array]:
        W, b = w[: D * WIDTH].reshape(D, WIDTH), w[D * WIDTH : (D + 1) * WIDTH]
        return np.tanh(self.X[rows] @ W / np.sqrt(D) + b), w[(D + 1) * WIDTH : -1] / np.sqrt(WIDTH)

    def F(self, w: Array, rows: Array) -> Array:
        A, v = self.units(w, rows)
        return A @ v + w[-1]

    def jac(self, w: Array, rows: Array) -> Array:
        A, v = self.units(w, rows)
        S, J = (1.0 - A * A) * v, np.empty((len(rows), self.m))
        first = J[:, : D * WIDTH].reshape(len(rows), D, WIDTH)
        np.multiply(self.X[rows][:, :, None] / np.sqrt(D), S[:, None, :], out=first)
        J[:, D * WIDTH : (D + 1) * WIDTH] = S
        J[:, (D + 1) * WIDTH : -1], J[:, -1] = A / np.sqrt(WIDTH), 1.0
        return J


def orders(n: int, s: int) -> Iterator[Array]:
    """Batches of rows, epoch by epoch in a new order."""
    rng = np.random.default_rng(0)
    while True:
        order = rng.permutation(n)
        yield from (order[i : i + s] for i in range(0, n - s + 1, s))


def loop(p: Any, w: Array, y: Array, done: Callable[[int, Array], bool]) -> Array:
    """Damped Gauss-Newton on batches, until done(steps, w)."""
    for k, rows in enumerate(orders(y.size, min(BATCH, y.size))):
        if done(k, w):
            return w
        r, J = p.F(w, rows) - y[rows], p.jac(w, rows)
        K = J.gram() if hasattr(J, "gram") else J @ J.T
        K = K.toarray() if sparse.issparse(K) else K
        K[np.diag_indices(rows.size)] += DAMPING * np.trace(K) / rows.size
        w = w - J.T @ cho_solve(cho_factor(K), r)
    return w


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    value = run()
    return time.process_time() - begun, value


def network(kind: str, n: int = N) -> tuple[Any, Array, Array]:
    X, y = data(n)
    net = WideNetwork(X, (WIDTH,))
    return (Plain(X) if kind == "rows" else net), net.init(2), y


def to_level(kind: str, level: float) -> list[tuple[str, float, float]]:
    """Processor time to a relative residual, and for as many steps of the same size."""
    p, w0, y = network(kind)
    every, size = np.arange(N), norm(y)
    start = norm(p.F(w0, every) - y)

    def done(k: int, w: Array) -> bool:
        return k % 20 == 0 and norm(p.F(w, every) - y) <= level * start

    ours, sol = seconds(
        lambda: solve(p.F, p.jac, w0, y, method="sgd", rng=0, tol=level * start / max(size, norm(p.F(w0, every))))
    )
    theirs, _ = seconds(lambda: loop(p, w0, y, done))
    print(f"{kind}: {sol.message} {sol.method_reason}")
    print(f"  to {level:g} in {ours:.1f} s, {sol.nit} steps; loop {theirs:.1f} s", flush=True)
    options = {"step_size": "kaczmarz", "batch_size": BATCH}
    steps = 400 if kind == "layers" else 20
    mine, _ = seconds(lambda: solve(p.F, p.jac, w0, y, method="sgd", rng=0, max_iter=steps, options=options))
    plain, _ = seconds(lambda: loop(p, w0, y, lambda k, w: k == steps))
    print(f"  {steps} steps of {BATCH} rows: {mine:.1f} s, loop {plain:.1f} s")
    return [
        (f"{kind}: time to {level:g} over the loop's", ours / theirs if sol.success else np.inf, 1.0),
        (f"{kind}: time of {steps} steps over the loop's", mine / plain, 1.25),
    ]


def peak() -> float:
    """Megabytes that this process has held at most: of Linux's own count, since ru_maxrss is inherited."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def inner_memory(kind: str) -> None:
    """In a process of its own: what a run adds, and how many passes of J are made before the first step."""
    base = peak()
    p, w0, y = network(kind)
    asked: list[int] = []

    def jac(w: Array, rows: Array) -> Array:
        asked.append(len(rows))
        return p.jac(w, rows)

    solve(p.F, jac, w0, y, method="sgd", rng=0, max_iter=1)
    passes = sum(asked) / N
    solve(p.F, jac, w0, y, method="sgd", rng=0, max_iter=60, max_time=60.0).certificate  # noqa: B018
    print(peak() - base, passes)


def memory(kind: str) -> list[tuple[str, float, float]]:
    command = [sys.executable, "-m", "benchmarks.checks.sgd_at_size", "--inner", kind]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    used, passes = map(float, out.split())
    return [(f"{kind}: MB above import", used, 600.0), (f"{kind}: passes before the first step is over", passes, 2.0)]


# -- a million rows ----------------------------------------------------------------------------------------------------


class SparseRows:
    """Ten entries in each row, 1000 unknowns with kappa 100: z + e sin z, z = A w."""

    def __init__(self, n: int, e: float) -> None:
        m, q, rng = 1000, 10, np.random.default_rng(0)
        columns = rng.integers(0, m, n * q, dtype=np.int32)
        entries = rng.standard_normal(n * q) * np.geomspace(1.0, 0.1, m)[columns]
        self.A = sparse.csr_array((entries, columns, np.arange(0, n * q + 1, q, dtype=np.int32)), shape=(n, m))
        self.e, self.w0, self.asked = e, np.zeros(m), 0
        self.y = self.F(rng.standard_normal(m), np.arange(n))

    def F(self, w: Array, rows: Array) -> Array:
        z = self.A[rows] @ w
        return z + self.e * np.sin(z)

    def jac(self, w: Array, rows: Array) -> Any:
        self.asked += len(rows)
        B = self.A[rows]
        return sparse.diags_array(1.0 + self.e * np.cos(B @ w)) @ B if self.e else B

    def loss(self, w: Array) -> tuple[float, Array]:
        """Half the squares of all residuals, and their gradient."""
        z = self.A @ w
        r = z + self.e * np.sin(z) - self.y
        return 0.5 * float(r @ r), self.A.T @ ((1.0 + self.e * np.cos(z)) * r)


def million(n: int) -> list[tuple[str, float, float]]:
    limits: list[tuple[str, float, float]] = []
    others: dict[float, tuple[str, Callable[[SparseRows], float]]] = {
        0.0: ("LSMR", by_lsmr),
        0.3: ("L-BFGS-B", lambda p: by_lbfgs(p.loss, p.w0, 1e-8) / norm(p.y)),
    }
    for e, (name, other) in others.items():
        p = SparseRows(n, e)
        ours, sol = seconds(lambda p=p: solve(p.F, p.jac, p.w0, p.y, method="sgd", rng=0, tol=1e-8))
        theirs, left = seconds(lambda p=p, other=other: other(p))
        print(
            f"{n} rows, e = {e}: {sol.message} {sol.method_reason}\n"
            f"  ours {ours:.2f} s, {p.asked / n:.2f} passes of J, residual {norm(sol.fun) / norm(p.y):.1e}; "
            f"{name} {theirs:.2f} s, {left:.1e}"
        )
        limits.append((f"{n} rows: time over {name}'s", ours / theirs if sol.success else np.inf, 1.0))
    return [*limits, (f"{n} rows: MB in all", peak(), 500.0)]


def by_lsmr(p: SparseRows) -> float:
    w = lsmr(p.A, p.y, atol=1e-12, btol=1e-8, conlim=0.0)[0]
    return norm(p.A @ w - p.y) / norm(p.y)


def by_lbfgs(loss: Callable[[Array], tuple[float, Array]], w0: Array, gtol: float) -> float:
    """||r|| where the gradient has fallen by gtol, or after 2000 iterations."""
    stop = {"maxiter": 2000, "ftol": 0.0, "gtol": gtol * norm(loss(w0)[1])}
    return float(np.sqrt(2.0 * minimize(loss, w0, jac=True, method="L-BFGS-B", options=stop).fun))


# -- Adam --------------------------------------------------------------------------------------------------------------


def adam(level: float) -> list[tuple[str, float, float]]:
    """torch's Adam on batches of 500, the best of three steps, in the time that ours takes to the level."""
    try:
        import torch
    except ImportError:
        print("adam: torch is not installed")
        return []
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    p, w0, y = network("layers")
    every = np.arange(N)
    start = norm(p.F(w0, every) - y)
    tol = level * start / max(norm(y), norm(p.F(w0, every)))
    ours, sol = seconds(lambda: solve(p.F, p.jac, w0, y, method="sgd", rng=0, tol=tol))
    least = min(adam_run(torch, p.X, y, w0, ours, eta) / start for eta in (1e-2, 3e-3, 1e-3))
    print(f"adam: after {ours:.1f} s {least:.3f}, ours {norm(sol.fun) / start:.3f}")
    return [("residual over Adam's in the same time", norm(sol.fun) / start / least, 1.0)]


def adam_run(torch: Any, X: Array, y: Array, w0: Array, limit: float, eta: float) -> float:
    """||r|| after so much processor time."""
    X, y = torch.tensor(X), torch.tensor(y)
    sizes = [D * WIDTH, WIDTH, WIDTH, 1]
    W, b, v, c = (part.clone().requires_grad_() for part in torch.tensor(w0).split(sizes))
    optimizer = torch.optim.Adam([W, b, v, c], lr=eta)

    def F(rows: Any) -> Any:
        return torch.tanh(X[rows] @ W.view(D, WIDTH) / D**0.5 + b) @ v / WIDTH**0.5 + c

    begun = time.process_time()
    for rows in orders(N, BATCH):
        if time.process_time() - begun > limit:
            break
        optimizer.zero_grad()
        torch.mean((F(rows) - y[rows]) ** 2).backward()
        optimizer.step()
    with torch.no_grad():
        return float(torch.linalg.vector_norm(F(slice(None)) - y))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="*", help="memory, rows, layers, million, adam")
    parser.add_argument("--level", type=float, default=1e-2, help="relative residual of the network")
    parser.add_argument("--rows", type=float, default=1e6, help="rows of the sparse system")
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inner:
        inner_memory(given.inner)
        return 0
    parts: dict[str, Callable[[], list[tuple[str, float, float]]]] = {
        "memory": lambda: [*memory("rows"), *memory("layers")],
        "layers": lambda: to_level("layers", given.level),
        "million": lambda: million(int(given.rows)),
        "adam": lambda: adam(given.level),
        "rows": lambda: to_level("rows", given.level),
    }
    missed = 0
    for name in given.part or parts:
        for what, value, limit in parts[name]():
            missed += not value <= limit
            print(f"{'ok    ' if value <= limit else 'MISSED'} {what}: {value:.3g} (limit {limit:g})", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
