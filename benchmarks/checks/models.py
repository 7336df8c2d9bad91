"""Models of JAX and PyTorch, and systems on several ranks: what issue 18 says they must reach.

    python -m benchmarks.checks.models [NAME ...]

Every case runs in a process of its own, so that its peak memory is its own, on one thread of JAX, torch and BLAS;
times are CPU seconds, of runs that take turns. Needs the extras jax, torch and mpi, and optimistix.
Exit code 1 if any limit is missed.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import numpy as np

import plsolve
from benchmarks.limits import Check
from plsolve import solve
from plsolve.networks import WideNetwork


def peak() -> float:
    """Largest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def in_turn(ways: dict[str, Callable[[], Any]], repeats: int = 5) -> dict[str, float]:
    """The best CPU seconds of each, after a run that compiles."""
    times = dict.fromkeys(ways, np.inf)
    for turn in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if turn:
                times[name] = min(times[name], time.process_time() - start)
    return times


def jax_mlp(params: Any, x: Any) -> Any:
    from jax import numpy as jnp

    for W, b in params[:-1]:
        x = jnp.tanh(x @ W + b)
    return (x @ params[-1][0] + params[-1][1])[0]


def jax_normed(params: Any, x: Any) -> Any:
    """A residual network with layer norms."""
    from jax import numpy as jnp

    for W, b, scale in params[:-1]:
        z = x @ W + b
        x = jnp.tanh((z - z.mean()) / jnp.sqrt(z.var() + 1e-5) * scale) + (x if x.shape == z.shape else 0.0)
    return (x @ params[-1][0] + params[-1][1])[0]


def jax_jacrev(f: Callable[..., Any], params: Any, X: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """F and J as one writes them: jacrev of the batch."""
    import jax
    from jax.flatten_util import ravel_pytree

    unravel = ravel_pytree(params)[1]

    def batch(w: Any) -> Any:
        return jax.vmap(lambda x: f(unravel(w), x))(X)

    F, J = jax.jit(batch), jax.jit(jax.jacrev(batch))
    return lambda w: np.asarray(F(w)), lambda w: np.asarray(J(w))


def torch_mlp(net: WideNetwork, w0: Any) -> Any:
    """The module of a WideNetwork with standard scaling."""
    import torch

    layers: list[Any] = []
    for layer in net.layers:
        W, b = layer.split(w0)
        linear = torch.nn.Linear(*W.shape).double()
        with torch.no_grad():
            linear.weight.copy_(torch.as_tensor(W.T.copy()))
            linear.bias.copy_(torch.as_tensor(b.copy()))
        layers += [linear, torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def torch_jacrev(module: Any, X: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    parameters = dict(module.named_parameters())
    sizes, data = [p.numel() for p in parameters.values()], torch.as_tensor(X)

    def split(w: Any) -> tuple[Any, ...]:
        parts = torch.as_tensor(w.copy()).split(sizes)
        return tuple(part.view(p.shape) for part, p in zip(parts, parameters.values(), strict=True))

    def f(*values: Any) -> Any:
        return torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (data,)).reshape(-1)

    jacobian = torch.func.jacrev(f, argnums=tuple(range(len(sizes))))

    def J(w: Any) -> Any:
        return torch.cat([j.reshape(len(X), -1) for j in jacobian(*split(w))], dim=1).numpy()

    return lambda w: f(*split(w)).detach().numpy(), J


Way = tuple[Callable[..., Any], Callable[..., Any], Any]  # F, jac, w0


def ways(width: int) -> tuple[dict[str, Way], Any]:
    """A network 80-width-1 by each way to the kernel for which the packages are installed, and y, at 168 points."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((168, 80)), rng.standard_normal(168)
    net = WideNetwork(X, (width,), scaling="standard")
    w0 = net.init(0)
    found: dict[str, Way] = {"WideNetwork": (net.F, net.jac, w0)}
    if find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
        params = [layer.split(w0) for layer in net.layers]
        of_jax = plsolve.models.JaxModel(jax_mlp, params, X)
        found["JaxModel"] = of_jax.F, of_jax.jac, of_jax.w0
        found["jacrev, JAX"] = *jax_jacrev(jax_mlp, params, X), w0
    if find_spec("torch"):
        module = torch_mlp(net, w0)
        of_torch = plsolve.models.TorchModel(module, X)
        found["TorchModel"] = of_torch.F, of_torch.jac, of_torch.w0
        found["jacrev, torch"] = *torch_jacrev(module, X), of_torch.w0
    return found, y


def wide() -> Iterator[Check]:
    """n = 168, m = 41 001: a warm whole solve of 80-500-1, by each way to the kernel."""
    systems, y = ways(500)
    for name, (F, jac, start) in systems.items():
        sol = solve(F, jac, start, y, certify=False)
        print(f"  {name:14} {sol.nit} iterations, {sol.njev} J, {sol.nfev} F, success {sol.success}")
    times = in_turn({name: lambda s=s: solve(*s, y, certify=False) for name, s in systems.items()})  # type: ignore[misc]
    print("  " + ", ".join(f"{name} {1e3 * t:.1f} ms" for name, t in times.items()))
    for name, other in (("JaxModel", "jacrev, JAX"), ("TorchModel", "jacrev, torch")):
        yield Check(f"{name} / WideNetwork", times[name] / times["WideNetwork"], 2.0)
        yield Check(f"{other} / {name}", times[other] / times[name], 10.0, at_least=True)


def rows() -> Iterator[Check]:
    """The kernel of a residual network with layer norms, by layers and with all parameters by rows, against jacrev."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from plsolve.models import _jaxpr

    rng = np.random.default_rng(0)
    n, d, h = 168, 80, 142
    X = rng.standard_normal((n, d))
    shapes = [(d, h), (h, h), (h, 70)]
    params: list[Any] = [(rng.standard_normal(s) / s[0] ** 0.5, np.zeros(s[1]), np.ones(s[1])) for s in shapes]
    params.append((rng.standard_normal((70, 1)) / 70**0.5, np.zeros(1)))
    by_layers = plsolve.models.JaxModel(jax_normed, params, X)
    _jaxpr.ROOM = 0  # type: ignore[misc]
    by_rows = plsolve.models.JaxModel(jax_normed, params, X)
    _, J = jax_jacrev(jax_normed, params, X)
    w = by_rows.w0
    dense = J(w)
    for model in (by_layers, by_rows):
        K = model.jac(w).gram()
        yield Check("K against jacrev", float(np.abs(K - dense @ dense.T).max() / np.abs(K).max()), 1e-13)

    def formed() -> Any:
        A = J(w)
        return A @ A.T

    ways = {"jacrev": formed, "rows": lambda: by_rows.jac(w).gram(), "layers": lambda: by_layers.jac(w).gram()}
    times = in_turn(ways, 3)
    print(f"  m = {by_rows.m}: K " + ", ".join(f"{name} {1e3 * t:.0f} ms" for name, t in times.items()))
    point = by_rows.jac(w)._point  # type: ignore[union-attr]
    held = max(2 * point.rows(b, 0).size if len(b.chunks) > 1 else point.rows(b, 0).size for b in point.blocks)
    yield Check("jacrev / rows", times["jacrev"] / times["rows"], 2.0, at_least=True)
    yield Check("jacrev / layers", times["jacrev"] / times["layers"], 2.0, at_least=True)
    yield Check("numbers of J held at once / n m", held / (n * by_rows.m), 0.25)


def large(which: str) -> Iterator[Check]:
    """n = 442, m = 8.0e6: a network of three layers of 2000 units on 442 points."""
    rng = np.random.default_rng(0)
    X, sizes = rng.standard_normal((442, 10)), (10, 2000, 2000, 2000, 1)
    y = np.sin(X[:, 0]) + X[:, 1]
    layers = [(rng.standard_normal(s) / s[0] ** 0.5, np.zeros(s[1])) for s in pairwise(sizes)]
    model: Any
    if which == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
        model = plsolve.models.JaxModel(jax_mlp, layers, X)
    else:
        import torch

        parts: list[Any] = []
        for W, _ in layers:
            linear = torch.nn.Linear(*W.shape, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(torch.as_tensor(W.T))
                linear.bias.zero_()
            parts += [linear, torch.nn.Tanh()]
        model = plsolve.models.TorchModel(torch.nn.Sequential(*parts[:-1]), X)
    del layers
    start = time.process_time()
    sol = solve(model.F, model.jac, model.w0, y, tol=1e-10, certify=False)
    print(f"  m = {model.m}: {sol.message} {sol.nit} iterations, {sol.nfev} F, {time.process_time() - start:.0f} CPU s")
    yield Check("solved", float(sol.success), 1.0, at_least=True)
    yield Check("iterations", sol.nit, 13)
    yield Check("peak memory [MiB]", peak(), 2048)


def large_jax() -> Iterator[Check]:
    """n = 442, m = 8.0e6, JAX."""
    yield from large("jax")


def large_torch() -> Iterator[Check]:
    """n = 442, m = 8.0e6, torch."""
    yield from large("torch")


WIDTH, EDGE = 1500, 10.0  # units, and the weight of the boundary


def square() -> tuple[Any, Any]:
    """676 points inside the unit square, and 120 on its boundary."""
    side, edge = (np.arange(26) + 0.5) / 26, (np.arange(30) + 0.5) / 30
    ends = [np.stack([edge, 0.0 * edge + k], axis=1) for k in (0.0, 1.0)]
    inside = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return inside, np.concatenate([*ends, *(e[:, ::-1] for e in ends)])


def poisson_by_hand(inside: Any, boundary: Any, rhs: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """F and J of -Delta u = rhs inside, u = 0 on the boundary, u = tanh(x W + b) v + c; w is W, b, c, v."""
    n, k = len(inside), WIDTH

    def split(w: Any) -> tuple[Any, Any, Any, Any]:
        return w[: 2 * k].reshape(2, k), w[2 * k : 3 * k], w[3 * k], w[3 * k + 1 :]

    def F(w: Any) -> Any:
        W, b, c, v = split(w)
        t = np.tanh(inside @ W + b)
        laplacian = (-2.0 * t * (1.0 - t * t) * (W * W).sum(0)) @ v
        return np.concatenate([-laplacian - rhs, EDGE * (np.tanh(boundary @ W + b) @ v + c)])

    def jac(w: Any) -> Any:
        W, b, _, v = split(w)
        square, t = (W * W).sum(0), np.tanh(inside @ W + b)
        slope = 1.0 - t * t
        second, third = -2.0 * t * slope, slope * (6.0 * t * t - 2.0)
        J = np.zeros((n + len(boundary), w.size))
        tb = np.tanh(boundary @ W + b)
        for d in range(2):
            J[:n, d * k : (d + 1) * k] = -v * (2.0 * W[d] * second + square * third * inside[:, d : d + 1])
            J[n:, d * k : (d + 1) * k] = EDGE * v * (1.0 - tb * tb) * boundary[:, d : d + 1]
        J[:n, 2 * k : 3 * k], J[:n, 3 * k + 1 :] = -v * square * third, -square * second
        J[n:, 2 * k : 3 * k], J[n:, 3 * k], J[n:, 3 * k + 1 :] = EDGE * v * (1.0 - tb * tb), EDGE, EDGE * tb
        return J

    return F, jac


def pinn() -> Iterator[Check]:
    """Poisson's equation on the square, 796 x 6001: JaxSystem, the same by hand, and optimistix."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax import numpy as jnp

    inside, boundary = square()
    rng = np.random.default_rng(0)
    W, b = 3.0 * rng.standard_normal((2, WIDTH)), 3.0 * rng.standard_normal(WIDTH)
    params = {"W": W, "b": b, "c": np.zeros(()), "v": rng.standard_normal(WIDTH) / WIDTH**0.5}

    def exact(x: Any) -> Any:
        return np.sin(np.pi * x[..., 0]) * np.sin(np.pi * x[..., 1])

    def u(p: Any, x: Any) -> Any:
        return jnp.tanh(x @ p["W"] + p["b"]) @ p["v"] + p["c"]

    def laplacian(p: Any, x: Any) -> Any:
        def second(e: Any) -> Any:
            return jax.jvp(lambda x: jax.jvp(lambda x: u(p, x), (x,), (e,))[1], (x,), (e,))[1]

        return second(jnp.array([1.0, 0.0])) + second(jnp.array([0.0, 1.0]))

    rhs = 2.0 * np.pi**2 * exact(inside)
    terms = [
        (lambda p, x: -laplacian(p, x[0]) - x[1], (inside, rhs)),
        (lambda p, x: EDGE * u(p, x), boundary),
    ]
    grid = np.stack(np.meshgrid(*2 * [np.linspace(0.0, 1.0, 101)]), axis=-1).reshape(-1, 2)

    def error(p: Any) -> float:
        values = np.asarray(jax.vmap(lambda x: u(p, x))(grid))
        return float(np.linalg.norm(values - exact(grid)) / np.linalg.norm(exact(grid)))

    system = plsolve.models.JaxSystem(terms, params)
    runs = {}
    for name, (F, jac) in {
        "by hand": poisson_by_hand(inside, boundary, rhs),
        "JaxSystem": (system.F, system.jac),
    }.items():
        start = time.process_time()
        sol = runs[name] = solve(F, jac, system.w0, certify=False)
        off = error(system.params(sol.x))
        print(f"  {name}: {sol.message} {sol.njev} J, {sol.nfev} F, {time.process_time() - start:.1f} CPU s, {off:.1e}")
    yield Check("solved", float(runs["JaxSystem"].success), 1.0, at_least=True)
    yield Check("J, beside those by hand", abs(runs["JaxSystem"].njev - runs["by hand"].njev), 1)
    yield Check("relative error of u", off, 1e-4)
    theirs(lambda p, _: jnp.concatenate([jax.vmap(lambda x, f=f: f(p, x))(X) for f, X in terms]), params, error)


def theirs(f: Callable[..., Any], params: Any, error: Callable[..., float]) -> None:
    """What optimistix makes of it: its methods for least squares ask for 155 GB, L-BFGS runs."""
    import jax
    import optimistix
    from jax import numpy as jnp

    params = jax.tree.map(jnp.asarray, params)
    start = time.process_time()
    solver: Any = optimistix.LBFGS(rtol=1e-10, atol=1e-10)
    found = optimistix.least_squares(f, solver, params, max_steps=1000, throw=False).value
    share = float(jnp.linalg.norm(f(found, None)) / jnp.linalg.norm(f(params, None)))
    seconds = time.process_time() - start
    print(f"  optimistix's LBFGS, 1000 steps: {share:.1e} of ||r0||, {seconds:.1f} CPU s, {error(found):.1e}")


RANKS = """
import sys, time
import numpy as np
from mpi4py import MPI
from plsolve.distributed import Columns
n, m, comm = 300, 1_000_000, MPI.COMM_WORLD
part = Columns(m, comm)
rng = np.random.default_rng(0)
A = np.empty((n, part.mine.stop - part.mine.start))
for i in range(n):
    A[i] = rng.standard_normal(m)[part.mine] / 1000
y = np.random.default_rng(1).standard_normal(n)
J = np.empty_like(A)
def F(w):
    return np.sinh(part.total(A @ w[part.mine]))
def jac(w):
    np.multiply(np.cosh(part.total(A @ w[part.mine]))[:, None], A, out=J)
    return part.jacobian(J)
comm.Barrier()
start, cpu = time.perf_counter(), time.process_time()
sol = part.solve(F, jac, np.zeros(m), y, certify=False)
if comm.rank == 0:
    print(time.perf_counter() - start, time.process_time() - cpu, sol.nit, sol.success, np.linalg.norm(sol.x))
"""


def ranks() -> Iterator[Check]:
    """n = 300, m = 1e6 on one rank and on two, one BLAS thread each.

    Judged by the CPU time of rank 0, which includes all of its waiting: ranks that wait do so busily.
    """
    mpiexec, times = str(Path(sys.executable).parent / "mpiexec"), {1: np.inf, 2: np.inf}
    for count in 3 * [1, 2]:
        command = [mpiexec, "-n", str(count), sys.executable, "-m", "mpi4py", "-c", RANKS]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        print(
            f"  {count} ranks: {float(out[0]):.2f} s, rank 0 {float(out[1]):.2f} CPU s; {' '.join(out[2:])}", flush=True
        )
        times[count] = min(times[count], float(out[1]))
    yield Check("time of one rank / of two", times[1] / times[2], 1.6, at_least=True)


CASES = {case.__name__: case for case in (wide, rows, large_jax, large_torch, pinn, ranks)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[[], *CASES], default=[])
    parser.add_argument("--here", action="store_true", help="run in this process")
    arguments = parser.parse_args()
    missed = 0
    for name in arguments.names or CASES:
        if not arguments.here:
            missed += subprocess.run(
                [sys.executable, "-m", "benchmarks.checks.models", "--here", name], check=False
            ).returncode
            continue
        print(f"{name}: {CASES[name].__doc__}", flush=True)
        for check in CASES[name]():
            print(
                f"  {'ok    ' if check.passed else 'MISSED'} {check.text}: {check.value:.3g} (limit {check.limit:.3g})",
                flush=True,
            )
            missed += not check.passed
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
