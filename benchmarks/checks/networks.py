"""Wide networks and large kernels: what issue 6 says plsolve must reach.

    python -m benchmarks.checks.networks [NAME ...] [--quick]

Every case runs in a process of its own, so that its peak memory is its own; torch's L-BFGS, where torch is installed,
in another. --quick shrinks the cases (a smoke test: its verdicts mean nothing). Exit code 1 if any limit is missed.
"""

import argparse
import contextlib
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk
from scipy.sparse.linalg import LinearOperator

import plsolve
from benchmarks.checks.operators import Operator, damped
from benchmarks.limits import Check
from plsolve import _krylov as krylov
from plsolve import testing
from plsolve.networks import NetworkJacobian, WideNetwork

PATIENCE = {"deep": 60.0, "teacher": 600.0}  # seconds after which torch is given up


def peak() -> float:
    """Largest memory of this process so far, interpreter and libraries included, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def seconds(call: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def diabetes() -> tuple[Any, Any]:
    from sklearn.datasets import load_diabetes

    data = load_diabetes()
    return data.data * np.sqrt(len(data.target)), (data.target - data.target.mean()) / data.target.std()


def relative(net: WideNetwork, w: Any, y: Any) -> float:
    return float(np.linalg.norm(net.F(w) - y) / np.linalg.norm(y))


class Timed:
    """Counts and times the calls of a function."""

    reads_only = True

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls, self.seconds = function, 0, 0.0

    def __call__(self, *args: Any) -> Any:
        start = time.perf_counter()
        value = self.function(*args)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return value


# --- torch, in its own process ----------------------------------------------------------------------------------------


def torch_lbfgs(net: WideNetwork, w0: Any, y: Any, enough: float, patience: float) -> None:
    """L-BFGS with strong Wolfe line search on the same network from the same weights, in double precision."""
    import torch

    X, target = torch.from_numpy(net.X), torch.from_numpy(y)
    weights = [torch.from_numpy(np.array(part)).requires_grad_() for layer in net.layers for part in layer.split(w0)]
    optimizer = torch.optim.LBFGS(weights, max_iter=100_000, max_eval=10**9, history_size=20, tolerance_grad=0.0,
                                  tolerance_change=0.0, line_search_fn="strong_wolfe")  # fmt: skip
    size, start, best = float(np.linalg.norm(y)), time.perf_counter(), np.inf
    evaluations = 0

    class Enough(Exception):  # noqa: N818
        pass

    def closure() -> Any:
        nonlocal best, evaluations
        optimizer.zero_grad()
        A = X
        for i, layer in enumerate(net.layers):
            A = layer.factor * (A @ weights[2 * i]) + weights[2 * i + 1]
            A = torch.tanh(A) if i < len(net.layers) - 1 else A
        r = A[:, 0] - target
        loss = 0.5 * r.dot(r)
        evaluations += 1
        best = min(best, float(torch.linalg.vector_norm(r.detach())) / size)
        if best <= enough or time.perf_counter() - start > patience:
            raise Enough
        loss.backward()
        return loss

    with contextlib.suppress(Enough):
        optimizer.step(closure)
    print(f"{time.perf_counter() - start} {best} {evaluations}")


def torch_race(name: str, quick: bool) -> tuple[float, float]:
    """Seconds and relative residual of torch on the case; infinite where torch is not installed."""
    if find_spec("torch") is None:
        print("  torch is not installed: no race")
        return np.inf, np.inf
    command = [sys.executable, "-m", "benchmarks.checks.networks", "--torch", name, *(["--quick"] if quick else [])]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    print(f"  torch L-BFGS: {float(out[0]):.1f} s, relative residual {float(out[1]):.1e}, {out[2]} evaluations")
    return float(out[0]), float(out[1])


# --- the cases --------------------------------------------------------------------------------------------------------


def deep_case(quick: bool) -> tuple[WideNetwork, Any, Any, float]:
    X, y = diabetes()
    net = WideNetwork(X, (200,) * 3 if quick else (2000,) * 3)
    return net, net.init(0), y, 1e-4


def bare(net: WideNetwork, w: Any) -> dict[str, float]:
    """Seconds of the matrix products alone, into memory that is there: forward, backward, J^T z, K, Cholesky."""
    J = net.jac(w)
    layers = list(J._trained())
    out = [(np.empty((len(A), layer.fan_out)), np.empty(A.shape), np.empty((layer.fan_in, layer.fan_out)))
           for layer, A, _ in layers]  # fmt: skip
    K = J.gram()
    P, Q = np.empty_like(K), np.empty_like(K)

    def forward() -> None:
        for (layer, A, _), (Z, _, _) in zip(layers, out, strict=True):
            np.matmul(A, layer.split(w)[0], out=Z)

    def backward() -> None:
        for (layer, _, D), (_, B, _) in zip(layers[1:], out[1:], strict=True):
            np.matmul(D[0], layer.split(w)[0].T, out=B)

    def adjoint() -> None:
        for (_, A, D), (_, _, G) in zip(layers, out, strict=True):
            np.matmul(A.T, D[0], out=G)

    def products() -> None:
        for _, A, D in layers:
            np.matmul(A, A.T, out=P)
            np.matmul(D[0], D[0].T, out=Q)

    calls = {"F": forward, "J": backward, "J^T z": adjoint, "K": products, "Cholesky": lambda: np.linalg.cholesky(K)}
    return {name: seconds(call) for name, call in calls.items()}


def deep(quick: bool) -> Iterator[Check]:
    """442 points, tanh, three hidden layers: memory and time against the work that nobody can avoid.

    Unavoidable is a J with its kernel and Cholesky factor for each iteration, an F for each step that is tried, and for
    each such step one product J^T z, without which it is not known. Beside it the sum with one J^T z an iteration, and
    that of the bare matrix products.
    """
    net, w0, y, _ = deep_case(quick)
    F, jac, matvec, rmatvec, gram = map(
        Timed, (net.F, net.jac, NetworkJacobian._matvec, NetworkJacobian._rmatvec, NetworkJacobian.gram)
    )
    for name, timed in (("_matvec", matvec), ("_rmatvec", rmatvec), ("gram", gram)):
        setattr(NetworkJacobian, name, lambda *args, timed=timed: timed(*args))
    start = time.perf_counter()
    sol = plsolve.solve(F, jac, w0, y, tol=1e-10)
    total, memory = time.perf_counter() - start, peak()
    calls = {"F": F.calls, "J": jac.calls, "J^T z": min(rmatvec.calls, F.calls - 1), "K": gram.calls,
             "Cholesky": gram.calls}  # fmt: skip
    K = net.jac(sol.x).gram()
    cholesky = seconds(lambda: np.linalg.cholesky(K))
    each = {"F": F.seconds / F.calls, "J": jac.seconds / jac.calls, "J^T z": rmatvec.seconds / rmatvec.calls,
            "K": gram.seconds / gram.calls, "Cholesky": cholesky}  # fmt: skip
    print(f"  n = {net.n}, m = {net.m}: {sol.message} {total:.2f} s, {sol.nit} iterations, {F.calls} F, {jac.calls} J, "
          f"{rmatvec.calls} J^T z, {matvec.calls} J v; relative residual {relative(net, sol.x, y):.1e}")  # fmt: skip
    products = bare(net, sol.x)
    for name, times in (("one call", each), ("its matrix products", products)):
        print(f"  {name}: " + ", ".join(f"{what} {t:.3f} s" for what, t in times.items()))
    yield Check("solved", float(sol.success), 1.0, at_least=True)
    yield Check("iterations", sol.nit, 12)
    yield Check("peak memory [MiB]", memory, 1024)
    yield Check("time / unavoidable work", total / sum(calls[name] * t for name, t in each.items()), 1.2)
    once = {**calls, "J^T z": jac.calls}
    strict = total / sum(once[name] * t for name, t in each.items())
    alone = total / sum(calls[name] * t for name, t in products.items())
    print(f"  with one J^T z an iteration counted {strict:.2f}, against the matrix products alone {alone:.2f}")
    theirs, _ = torch_race("deep", quick)
    if np.isfinite(theirs):
        yield Check("time / torch's L-BFGS to 1e-4 (or to where it was stopped)", total / theirs, 1.0)


def operator(quick: bool) -> Iterator[Check]:
    """The network of `deep` by somebody else's operator: no more time than a plain damped loop with backtracking.

    plsolve makes 11 J, 20 F, 15 J^T z and 11 K, the loop 12 J, 19 F, 12 J^T z and 12 K; at c22c6c4 11, 24, 24 and 11.
    """
    net, w0, y, _ = deep_case(quick)
    ways: dict[str, Callable[..., Any]] = {
        "plsolve": lambda F, jac: plsolve.solve(F, jac, w0, y, tol=1e-10, certify=False).x,
        "damped loop": lambda F, jac: damped(F, jac, w0, y, 1e-10),
    }
    times = dict.fromkeys(ways, np.inf)
    for name in 3 * list(ways):  # in turn, the best of each, unless they take long
        if 10.0 < times[name] < np.inf:
            continue
        calls = Counter[str]()

        def F(w: Any, calls: Counter[str] = calls) -> Any:
            calls["F"] += 1
            return net.F(w)

        def jac(w: Any, calls: Counter[str] = calls) -> Any:
            calls["J"] += 1
            return Operator(net.jac(w), calls)

        start = time.perf_counter()
        x = ways[name](F, jac)
        total = time.perf_counter() - start
        times[name] = min(times[name], total)
        counted = ", ".join(f"{calls[what]} {what}" for what in ("J", "F", "J^T z", "J v", "K"))
        print(f"  {name}: {counted}; {total:.2f} s, ||x - w0|| {np.linalg.norm(x - w0):.4g}, "
              f"relative residual {relative(net, x, y):.1e}", flush=True)  # fmt: skip
    yield Check("time / the damped loop's", times["plsolve"] / times["damped loop"], 1.0)


def shallow(quick: bool) -> Iterator[Check]:
    """One hidden layer: layer products against J formed, the plain way and the best way."""
    X, y = diabetes()
    width = 200 if quick else 1000
    net = WideNetwork(X, (width,))
    w0 = net.init(0)

    def plain(w: Any) -> Any:
        W, b = net.layers[0].split(w)
        v, _ = net.layers[1].split(w)
        T = np.tanh(X @ W / np.sqrt(X.shape[1]) + b)
        D = (1.0 - T**2) * v[:, 0] / np.sqrt(width)
        by_w = (X[:, :, None] * D[:, None, :]).reshape(len(X), -1) / np.sqrt(X.shape[1])
        return np.concatenate([by_w, D, T / np.sqrt(width), np.ones((len(X), 1))], axis=1)

    operator = net.jac(w0)
    np.testing.assert_allclose(plain(w0) @ w0, operator.matvec(w0), rtol=1e-10)
    best = testing.two_layer_tanh(X / np.sqrt(X.shape[1]), y, width)

    def form_and_multiply() -> Any:
        J = plain(w0)
        return dsyrk(1.0, J.T, trans=1, lower=1)

    def kernel() -> Any:
        return NetworkJacobian(net, net._evaluated(w0, net.X), None).gram()

    def dense_kernel() -> Any:
        J = best.jac(best.w0)
        return J @ J.T

    ways = {"layer products": kernel, "plain J, dsyrk": form_and_multiply, "J in place, J J^T": dense_kernel}
    times = {name: seconds(call, 5) for name, call in ways.items()}
    print("  K: " + ", ".join(f"{name} {t * 1e3:.0f} ms" for name, t in times.items()))
    each = {}
    for name, (F, jac, start) in {
        "layer products": (net.F, net.jac, w0),
        "plain J": (net.F, plain, w0),
        "J in place": (best.F, best.jac, best.w0),
    }.items():
        runs = []
        for _ in range(3):
            begin = time.perf_counter()
            sol = plsolve.solve(F, jac, start, y)
            runs.append((time.perf_counter() - begin) / sol.nit)
        each[name] = min(runs)
        print(f"  {name:15} {each[name] * 1e3:6.1f} ms an iteration, {sol.nit} iterations, {sol.nfev} F")
        yield Check(f"solved, {name}", float(sol.success), 1.0, at_least=True)
    yield Check("plain K / ours", times["plain J, dsyrk"] / times["layer products"], 2.0, at_least=True)
    yield Check("plain iteration / ours", each["plain J"] / each["layer products"], 2.0, at_least=True)
    yield Check("our iteration / the dense path's best", each["layer products"] / each["J in place"], 1.0)


def teacher_case(quick: bool) -> tuple[WideNetwork, Any, Any, float]:
    n, width = (2000, 512) if quick else (20_000, 2048)
    X = np.random.default_rng(0).standard_normal((n, 20))
    net, teacher = WideNetwork(X, (width,)), WideNetwork(X, (50,))
    return net, net.init(1), teacher.F(teacher.init(7)), 1e-6


def without_gram(net: WideNetwork, products: list[int]) -> Callable[[Any], Any]:
    """The Jacobian as an operator that knows J V and J^T Z alone."""

    def jac(w: Any) -> Any:
        J = net.jac(w)

        def adjoint(z: Any) -> Any:
            products[0] += 1
            return J.rmatvec(z)

        def adjoints(Z: Any) -> Any:
            products[1] += Z.shape[1]
            return J.rmatmat(Z)

        return LinearOperator(J.shape, J.matvec, adjoint, J.matmat, np.float64, adjoints)

    jac.reads_only = True  # type: ignore[attr-defined]
    return jac


def teacher(quick: bool) -> Iterator[Check]:
    """20 000 equations, an operator without gram(): conjugate gradients."""
    net, w0, y, enough = teacher_case(quick)
    tol = enough * float(np.linalg.norm(y) / max(np.linalg.norm(y), np.linalg.norm(net.F(w0))))
    products, start = [0, 0], time.perf_counter()  # one by one, and many at once

    def show(intermediate_result: Any) -> None:
        size = np.sqrt(2.0 * intermediate_result.cost) / np.linalg.norm(y)
        print(f"  {intermediate_result.nit:3} {size:9.2e} {products[0]:6} + {products[1]} products "
              f"{time.perf_counter() - start:7.1f} s", flush=True)  # fmt: skip

    sol = plsolve.solve(net.F, without_gram(net, products), w0, y, tol=tol, callback=show,
                        options={"linear_solver": "cg"} if quick else None)  # fmt: skip
    total, memory = time.perf_counter() - start, peak()
    print(f"  n = {net.n}, m = {net.m}: {sol.message} {total:.1f} s, relative residual {relative(net, sol.x, y):.1e}")
    yield Check("relative residual", relative(net, sol.x, y), enough)
    yield Check("peak memory [MiB]", memory, 2048)
    J, r = net.jac(w0), net.F(w0) - y

    def product(z: Any) -> Any:
        return J.matmat(J.rmatmat(z)) if z.ndim == 2 else J.matvec(J.rmatvec(z))

    steps = {}
    for rank in (0, krylov.RANK, 8 * krylov.RANK):
        P = krylov.nystrom(product, net.n, rank, 64) if rank else None
        steps[rank] = krylov.conjugate_gradients(product, r, P, 1e-2 * float(np.linalg.norm(r)), 3000).steps
    print("  K z = r to 1e-2 at the start: " + ", ".join(f"rank {rank} {k} steps" for rank, k in steps.items()))
    yield Check("steps without / with preconditioner", steps[0] / steps[8 * krylov.RANK], 1.0, at_least=True)
    theirs, size = torch_race("teacher", quick)
    if np.isfinite(theirs):
        yield Check("time / torch's L-BFGS" + ("" if size <= enough else ", which stops short"), total / theirs, 1.0)


def digits(quick: bool) -> Iterator[Check]:
    """1797 images, ten classes one against all: each column interpolated; the test part is held back."""
    from sklearn.datasets import load_digits

    data = load_digits()
    X = (data.data - data.data.mean()) / data.data.std()
    width = 400 if quick else 4000
    for name, train in (("all 1797", np.arange(len(X))), ("two thirds", np.arange(len(X)) % 3 > 0)):
        start, worst, scores = time.perf_counter(), 0.0, []
        test = np.arange(len(X)) % 3 == 0
        for digit in range(10):
            net = WideNetwork(X[train], (width,))
            y = np.where(data.target[train] == digit, 1.0, -1.0)
            w0 = net.init(digit)
            offset = net.F(w0)  # minus the start's own outputs, which mean nothing
            sol = plsolve.solve(net.F, net.jac, w0, y + offset)
            worst = max(worst, float(np.linalg.norm(sol.fun) / np.linalg.norm(y + offset)))
            scores.append(net.predict(sol.x, X[test]) - net.predict(w0, X[test]))
            yield Check(f"solved, {name}, digit {digit}", float(sol.success), 1.0, at_least=True)
        print(f"  {name}: ten networks {time.perf_counter() - start:.1f} s, n = {net.n}, m = {net.m}, "
              f"worst relative residual {worst:.1e}")  # fmt: skip
    accuracy = float(np.mean(np.argmax(scores, axis=0) == data.target[test]))
    print(f"  test accuracy of the minimum-move solutions, trained on two thirds: {100 * accuracy:.2f} %")
    yield Check("test accuracy", accuracy, 0.9, at_least=True)


def singular(quick: bool) -> Iterator[Check]:
    """Duplicate inputs, with equal and with different labels: a clear status."""
    X, y = diabetes()
    X, y = X.copy(), y.copy()
    X[100:110] = X[:10]
    for name, y_of_copies, status in (
        ("equal", y[:10].copy(), "RESIDUAL"),
        ("different", y[100:110].copy(), "STATIONARY"),
    ):
        y[100:110] = y_of_copies
        for width in (200,) if quick else (1000, 10_000):  # J is formed to finish, and is not
            net = WideNetwork(X, (width,))
            start = time.perf_counter()
            sol = plsolve.solve(net.F, net.jac, net.init(0), y)
            print(f"  {name} labels, m = {net.m}: {sol.status.name}, {time.perf_counter() - start:.1f} s, "
                  f"{sol.nit} iterations, cost {sol.cost:.3g}")  # fmt: skip
            yield Check(f"{status} for {name} labels", float(sol.status.name == status), 1.0, at_least=True)
            yield Check("finite", float(np.isfinite(sol.x).all()), 1.0, at_least=True)
        y = diabetes()[1].copy()


CASES: dict[str, Callable[[bool], Iterator[Check]]] = {
    "deep": deep,
    "operator": operator,
    "shallow": shallow,
    "teacher": teacher,
    "digits": digits,
    "singular": singular,
}
RACES = {"deep": deep_case, "teacher": teacher_case}


def run(name: str, quick: bool) -> bool:
    print(f"{name}: {CASES[name].__doc__}", flush=True)
    fine = True
    for check in CASES[name](quick):
        relation = ">=" if check.at_least else "<="
        print(
            f"  {'ok  ' if check.passed else 'MISS'} {check.text}: {check.value:.4g} ({relation} {check.limit:g})",
            flush=True,
        )
        fine = fine and check.passed
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checks.networks", description=__doc__.split("\n", 1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--torch", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.torch:
        name = arguments.names[0]
        torch_lbfgs(*RACES[name](arguments.quick), 10.0 if arguments.quick else PATIENCE[name])
        return 0
    names = arguments.names or list(CASES)
    if len(names) == 1:
        return 0 if run(names[0], arguments.quick) else 1
    each = partial(subprocess.run, check=False)
    flags = ["--quick"] if arguments.quick else []
    return max(each([sys.executable, "-m", "benchmarks.checks.networks", name, *flags]).returncode for name in names)


if __name__ == "__main__":
    sys.exit(main())
