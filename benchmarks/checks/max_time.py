"""Does `max_time` bound the whole call? By a clock that only F, jac and products with J move.

    python -m benchmarks.checks.max_time

Every method and option, dense, sparse and operator Jacobians and differences, more unknowns than equations and fewer,
limits that end a run before its first step, in the middle, or late. A call may take 1.1 times the limit and one step:
the time of one J with its products and of some F. Exit code 1 if any takes longer.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from plsolve import Result, solve

ROW_F, ROW_J = 1e-5, 4e-5  # seconds for a row of F, and of J or of a product with it
SHAPES = [(60, 200), (150, 40), (50, 50)]
STEP = 10.0  # in J with all rows, or products with it: what the first step of gd takes
LIMITS = [0.003, 0.1, 1.0, 10.0]
METHODS: dict[str, list[dict[str, Any]]] = {
    "auto": [{}],
    "gauss-newton": [{}, {"nearest": True}, {"linear_solver": "qr"}, {"linear_solver": "cg"}],
    "gd": [{}, {"step_size": "polyak"}, {"step_size": 1e-4}, {"momentum": "chebyshev"}, {"momentum": "nesterov"}],
    "sgd": [
        {},
        {"batch_size": 4},
        {"step_size": "theorem"},
        {"step_size": "kaczmarz"},
        {"step_size": "kaczmarz", "batch_size": 8, "rows": "cyclic"},
        {"momentum": "mass"},
        {"rows": "shuffled", "batch_size": 4},
        {"rows": "residual", "batch_size": 4},
        {"rows": "max", "batch_size": 4},
    ],
}


class Timed:
    """A system with equations that no method meets soon, whose functions move a clock of its own.

    Attributes
    ----------
    now : float
        Seconds.
    unit : float
        What one J with all its rows takes.
    """

    def __init__(self, n: int, m: int, kind: str) -> None:
        rng = np.random.default_rng(0)
        A = rng.standard_normal((n, m)) * np.geomspace(1.0, 1e-4, m)
        self._A, self._b, self._kind = A, rng.standard_normal(n) * np.arange(1, n + 1), kind
        self.now, self.w0, self.unit = 0.0, np.ones(m), ROW_J * n

    def monotonic(self) -> float:
        return self.now

    def _rows(self, rows: Any) -> Any:
        return np.arange(len(self._A)) if rows is None else rows

    def F(self, w: Any, rows: Any = None) -> Any:
        rows = self._rows(rows)
        self.now += ROW_F * len(rows)
        z = self._A[rows] @ w
        return z + 0.3 * np.sin(z) - self._b[rows]

    def jac(self, w: Any, rows: Any = None) -> Any:
        rows = self._rows(rows)
        self.now += ROW_J * len(rows)
        J = (1 + 0.3 * np.cos(self._A[rows] @ w))[:, None] * self._A[rows]
        if self._kind == "sparse":
            return sparse.csr_array(J)
        return self._operator(J) if self._kind == "operator" else J

    def _operator(self, J: Any) -> Any:
        def product(M: Any) -> Callable[[Any], Any]:
            def apply(v: Any) -> Any:
                self.now += ROW_J * len(J)
                return M @ v

            return apply

        return LinearOperator(J.shape, product(J), product(J.T), dtype=float)


def settings() -> Iterator[tuple[str, dict[str, Any], tuple[int, int], str, float]]:
    """Method, options, shape, kind of J, limit."""
    for method, variants in METHODS.items():
        kinds = ["dense", "sparse", "operator", *(["differences"] if method != "sgd" else [])]
        yield from ((method, *rest) for rest in itertools.product(variants, SHAPES, kinds, LIMITS))  # type: ignore[misc]


def timed(
    method: str, options: dict[str, Any], shape: tuple[int, int], kind: str, limit: float
) -> tuple[Result, float]:
    """The result, and how much longer it took than 1.1 times the limit, in J with all its rows."""
    p = Timed(*shape, kind)
    with mock.patch.object(time, "monotonic", p.monotonic):
        sol = solve(
            p.F, None if kind == "differences" else p.jac, p.w0, np.zeros(shape[0]), method=method, options=options,
            max_time=limit, rng=0, tol=0.0,
        )  # fmt: skip
    return sol, (p.now - 1.1 * limit) / p.unit


def step(options: dict[str, Any], shape: tuple[int, int], kind: str) -> float:
    """What a step may take: that of Kaczmarz makes a kernel, of an operator by products."""
    return STEP + (2.0 * shape[0] if kind == "operator" and options.get("step_size") == "kaczmarz" else 0.0)


def main() -> int:
    late = 0
    for setting in settings():
        sol, excess = timed(*setting)
        if excess > step(*setting[1:4]):
            late += 1
            print(*setting, f"{sol.status.name} nit {sol.nit}: {excess:.1f} J beyond")
    print(f"{late} calls too late")
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main())
