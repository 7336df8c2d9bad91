"""Bad arguments for every public function, generated from their signatures: refused by name, or rightly taken.

    python -m benchmarks.checks.bad_input [--calls 100000] [--seed 0] [--write] [-v]

Each call is a good one with one or two arguments replaced by values of the wrong type, shape, size or content, drawn
for the kind of argument. A refusal must be a TypeError or ValueError that names one of them as this function calls it.
Warnings point at the user's line. What is taken must give a right result: the solution is known, and a `success` must
be one. Some values must be refused whatever else (text, NaN, masked entries, complex numbers), and some must pass: what
is raised by a lack of memory, or by the user's functions. `uncovered` lists the public callables that are not called.
Those of JAX, PyTorch and MPI are called where these packages are. --write puts the table into docs/checks.md. Exits
with status 1 where one call did otherwise.
"""

import argparse
import collections
import inspect
import re
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import scipy.sparse as sps

from benchmarks import marks
from benchmarks.checks.bad_methods import of_the_rest
from benchmarks.checks.bad_models import of_models
from benchmarks.checks.bad_values import (
    BETA,
    BOUNDS,
    CALLBACK,
    CHOICE,
    COUNT,
    DEVIATIONS,
    EITHER,
    FLAG,
    JACOBIAN,
    LIMIT,
    MAPPING,
    NO_BOUNDS,
    NO_COUNT,
    NO_FLAG,
    NO_NUMBER,
    OFF,
    PASS,
    PLACE,
    REFUSE,
    SCALE,
    SECONDS,
    SEED,
    SIGMA,
    START,
    STARTS,
    STRUCTURE,
    TOLERANCE,
    WIDTHS,
    WORKERS,
    A,
    F,
    Lost,
    M,
    MemoryLostError,
    Tensor,
    W,
    WrongSizeError,
    X,
    Y,
    functions,
    jac,
    masked,
    model,
    numbers,
    refused,
    residual,
    returning,
    taken,
    those,
    with_entry,
)

PAGE = Path(__file__).parents[2] / "docs" / "checks.md"

# -- functions ---------------------------------------------------------------------------------------------------------


def is_solution(x, W=W):
    return np.allclose(x, W, rtol=1e-4, atol=1e-4)


def solved(sol, given):
    """Whether a Result tells the truth."""
    loose = {"tol", "xtol", "eps", "ftol", "gtol", "y"} & set(given)
    r = residual(np.asarray(sol.x))
    return (
        ("y" in given or np.allclose(sol.fun, r, rtol=1e-5, atol=1e-6))
        and bool(sol.success) == (sol.status > 0)
        and (not sol.success or is_solution(sol.x) or bool(loose))
    )


def inferred(sol, given):
    """Whether a fit tells the truth; with next to no noise it is the solution."""
    other = {"tol", "y", "noise", "prior", "w0", "bounds"} & set(given)
    return bool(sol.success) == (sol.status > 0) and (not sol.success or is_solution(sol.x) or bool(other))


def fitted(sol, given):
    return is_solution(sol[0], np.array([2.0, -1.0])) or bool({"sigma", "xdata", "ydata"} & set(given))


def batch_solved(res, given):
    right = np.isclose(res.x, W, rtol=1e-4, atol=1e-4).all(axis=1)
    return res.x.shape[1] == M and bool((right | ~res.success).all() or {"tol", "eps", "Y"} & set(given))


def certified(c, given):
    return not (c.rigorous and c.absent and c.radius > 1e-3) or "y" in given


def kernel_right(K, given):
    return np.isfinite(K.matrix).all()


def network_right(net, given):
    w = net.init(0)
    return np.isfinite(net.F(w)).all() and net.F(w).shape == (net.n,) and net.jac(w).shape == (net.n, net.m)


SYSTEM = {"F": functions(F), "jac": JACOBIAN, "y": numbers(Y), "args": taken(()), "bounds": BOUNDS}
SETTINGS = {"x_scale": SCALE, "tol": TOLERANCE, "eps": TOLERANCE, "max_iter": COUNT, "rng": SEED}
KEPT = {"checkpoint": PLACE, "resume": NO_FLAG + taken(True), "checkpoint_every": TOLERANCE}
SETTINGS |= {"progress": NO_FLAG, "compiled": NO_FLAG}


def of_solve():
    from plsolve import solve

    kinds_of_solve = {"w0": STARTS, "method": CHOICE, "xtol": TOLERANCE, "max_time": SECONDS, "beta": BETA}
    kinds_of_solve |= KEPT | {"certify": FLAG, "callback": CALLBACK}
    kinds_of_solve["options"] = MAPPING + refused({"typo": 1}, {"nearest": "yes"}, {"linear_solver": "lu"})
    good = {"F": F, "jac": jac, "w0": np.zeros(M), "y": Y}
    steps = [{"step_size": size} for size in ("large", 0.0, -1.0, np.nan, True, np.ones(2), None)]
    constants = [
        {"lipschitz": "a"},
        {"mu": -1.0},
        {"lipschitz": np.inf},
        {"mu": None},
        {"momentum": 3},
    ]
    batches = [{"batch_size": size} for size in (0, -1, 2.5, "all", True, None)]
    of_batches = [
        {"rows": "some"},
        {"row_smoothness": 0.0},
        {"momentum": "nesterov"},
        {"rows": ["max"]},
        {"damping": 0.1},
    ]
    for method, wrong in (("gd", []), ("sgd", batches + of_batches)):
        wrong = MAPPING + refused(*steps, *constants, *wrong)
        kinds = SYSTEM | SETTINGS | kinds_of_solve | {"options": wrong, "jac": those(REFUSE, JACOBIAN)}
        yield solve, good | {"method": method, "rng": 0, "max_iter": 300}, kinds, solved
    yield solve, good, SYSTEM | SETTINGS | kinds_of_solve, solved
    yield solve, good | {"jac": None}, SYSTEM | SETTINGS | kinds_of_solve, solved


def of_infer():
    from plsolve import infer

    good = {"F": F, "jac": jac, "w0": np.zeros(M), "y": Y, "noise": 1e-6, "prior": 10.0}
    kinds = SYSTEM | {"w0": STARTS, "tol": TOLERANCE, "max_iter": COUNT, "max_time": SECONDS, "callback": CALLBACK}
    kinds |= {"noise": DEVIATIONS, "prior": DEVIATIONS + taken(None, np.eye(M), sps.eye_array(M))}
    kinds |= KEPT | {"linear_solver": CHOICE, "progress": NO_FLAG}
    yield infer, good, kinds, inferred


def of_root():
    from plsolve import root

    kinds = {
        "fun": functions(residual),
        "x0": STARTS,
        "args": taken(()),
        "method": CHOICE,
        "jac": JACOBIAN,
    }
    kinds |= {"tol": TOLERANCE, "callback": CALLBACK}
    kinds["options"] = MAPPING + refused(
        *({"xtol": "abc"}, {"diag": [1.0, -1.0, 1.0]}, {"eps": -1.0}, {"eps": "a"}, {"diag": "abc"}),
        *({"col_deriv": "yes"}, {"xtol": None}, {"diag": np.ones(5)}, {"maxfev": -3, "maxiter": -3}),
    )
    good = {"fun": residual, "x0": np.zeros(M), "jac": jac}
    for change in ({}, {"method": "lm"}, {"method": "gauss-newton", "jac": None}):
        yield root, good | change, kinds, solved


def of_least_squares():
    from plsolve import least_squares

    good = {"fun": residual, "x0": np.zeros(M), "jac": jac}
    kinds = {
        "fun": functions(residual),
        "x0": STARTS,
        "jac": [*JACOBIAN, *refused(False)],
        "bounds": BOUNDS,
    }
    kinds |= {"method": CHOICE, "ftol": OFF, "xtol": OFF, "gtol": OFF, "x_scale": SCALE, "workers": WORKERS}
    kinds |= {"loss": [*CHOICE, *refused(lambda z: np.ones(2), lambda z: None)], "tr_solver": CHOICE}
    kinds |= {"f_scale": [*NO_NUMBER, *refused(0.0, -1.0, np.inf, None, 10**400)], "jac_sparsity": STRUCTURE}
    kinds |= {"diff_step": refused("abc", 1j, np.nan, np.inf, [1.0, 2.0], {}, [None] * M) + taken(1e-6)}
    kinds |= {"tr_options": MAPPING, "max_nfev": [*LIMIT, *refused(0)], "kwargs": MAPPING, "callback": CALLBACK}
    kinds |= {"verbose": refused("loud", 3, [], np.ones(2), b"1", {}, 1.5), "args": refused(3, "ab", {"a": 1}, print)}
    yield least_squares, good | {"jac": "2-point"}, kinds, solved
    yield least_squares, good, kinds | {"jac_sparsity": those(EITHER, STRUCTURE)}, solved


def of_curve_fit():
    from plsolve import curve_fit

    kinds = {
        "f": functions(model),
        "ydata": numbers(model(X, 2.0, -1.0)),
        "p0": numbers([1.0, 1.0]),
        "sigma": SIGMA,
    }
    kinds |= {"xdata": [(REFUSE, lambda rng: masked(X, rng)), (REFUSE, lambda rng: with_entry(X, np.nan, rng))]}
    kinds["xdata"] += refused(["a"] * X.size, X + 1j) + taken(X.tolist(), X.astype(np.float32))
    kinds |= {"absolute_sigma": FLAG, "check_finite": FLAG, "full_output": NO_FLAG, "bounds": NO_BOUNDS}
    kinds |= {"method": CHOICE, "jac": refused(3, True, "4-point", A, {}, lambda x, a, b: np.ones((2, 2)))}
    kinds |= {"nan_policy": refused("propagate", "typo", 3, [], np.ones(2), b"raise"), "kwargs": []}
    good = {"f": model, "xdata": X, "ydata": model(X, 2.0, -1.0), "p0": [1.0, 1.0]}
    for change in ({}, {"method": "trf"}, {"bounds": (-9.0, 9.0)}, {"sigma": np.eye(X.size)}):
        yield curve_fit, good | change, kinds, fitted


def of_solve_batch():
    from plsolve import solve_batch

    starts = STARTS + numbers([START, START])[-8:]
    kinds = {"W0": starts, "Y": numbers(Y), "restarts": NO_COUNT}
    kinds["threads"] = NO_COUNT + refused(10**9, 0)
    kinds["each"] = [
        *refused("abc", 3.0, (np.ones(2), "a"), {}, None, [None, None]),
        (REFUSE, lambda rng: (masked(np.ones(2), rng),)),
        (REFUSE, lambda rng: np.ones(int(rng.integers(3, 9)))),
        (PASS, lambda rng: (Lost(),)),
    ]
    many = {name: kind for name, kind in (SYSTEM | SETTINGS | kinds).items() if name != "y"}
    many["jac"] = refused(3, "4-point", A, {}, 1.5, False)  # what jac returns ends one system
    yield solve_batch, {"F": F, "jac": jac, "W0": [START, START], "Y": Y}, many, batch_solved


def of_the_others():
    from plsolve import certify, tangent_kernel
    from plsolve.networks import WideNetwork

    yield (
        certify,
        {"F": F, "jac": jac, "w": W, "y": Y},
        SYSTEM | {"w": STARTS, "beta": BETA},
        certified,
    )

    of_kernel = {
        "jac": refused(3, "abc", A, None, True) + returning(jac),
        "w": STARTS,
        "args": taken(()),
    }
    yield tangent_kernel, {"jac": jac, "w": W}, of_kernel, kernel_right

    net = {
        "X": those(REFUSE, numbers(X[:, None])) + taken(Tensor(X[:, None])),
        "widths": WIDTHS,
        "rng": SEED,
    }
    net |= {"activation": CHOICE, "output_activation": CHOICE, "bias": FLAG, "scaling": CHOICE, "train": CHOICE}
    net["outputs"] = NO_COUNT + refused(0)
    yield WideNetwork, {"X": X[:, None], "widths": (4, 3)}, net, network_right


def specifications():
    """Of each function: how it is called well, its kinds of arguments, and what a right result is."""
    for some in (of_solve, of_infer, of_root, of_least_squares, of_curve_fit, of_solve_batch, of_the_others):
        yield from some()
    yield from of_the_rest()
    yield from of_models()


MODULES = ("", ".testing", ".testing.more_garbow_hillstrom", ".networks", ".jit", ".methods", ".distributed", ".models")
NEED = {".distributed": "mpi4py", ".jit": "numba"}  # packages that may not be here
RECORDS = {  # results and parts of methods, made by the library or as they are; `theory` has formulas of numbers alone
    *(
        "BatchResult",
        "Certificate",
        "Result",
        "Status",
        "TangentKernel",
        "Uncertainty",
        "System",
        "Classic",
        "Solution",
    ),
    *(
        "Method",
        "Stage",
        "Start",
        "NetworkJacobian",
        "NetworkJacobian.row_squares",
        "Result.get",
        "System.n",
        "System.m",
    ),
}


def public():
    """The public functions, classes and methods, by the names that signatures have."""
    for name in MODULES:
        if name in NEED and find_spec(NEED[name]) is None:
            continue
        module = import_module(f"plsolve{name}")
        for attribute in getattr(module, "__all__", ["problems", "Classic"]):
            try:
                value = getattr(module, attribute)
            except ImportError:  # a package that is not here
                continue
            if inspect.isclass(value):
                members = {k: m for k, m in vars(value).items() if inspect.isfunction(m) and not k.startswith("_")}
                yield from (member.__qualname__ for member in members.values())
            if callable(value) and not isinstance(value, dict):
                yield value.__qualname__


def uncovered():
    """The public callables that no specification calls, and that are no mere records."""
    called = {call.__qualname__ for call, *_ in specifications()}
    return sorted(set(public()) - called - RECORDS)


# -- calls -------------------------------------------------------------------------------------------------------------


UNKNOWN = "typo"  # a keyword that no function has


def group(call):
    """The row of a function in the table: its class, or the name of its module where this has many small ones."""
    if call.__module__.startswith("plsolve.testing"):
        return "testing"
    return call.__qualname__.partition(".")[0]


def parameters(call):
    return [name for name in inspect.signature(call).parameters if name != "self"]


class Checker:
    """Makes calls, and tells what was wrong with them."""

    def __init__(self):
        self.specifications = list(specifications())
        for call, _, kinds, _ in self.specifications:
            kinds.pop(UNKNOWN, None)
            assert set(parameters(call)) == set(kinds), (call.__name__, set(parameters(call)) ^ set(kinds))
            kinds[UNKNOWN] = refused(1)

    def call(self, seed):
        """The function's name, the arguments that were replaced, and what is wrong (empty: nothing)."""
        rng = np.random.default_rng(seed)
        call, good, kinds, right = self.specifications[rng.integers(len(self.specifications))]
        names = [name for name in kinds if kinds[name]]
        chosen = rng.choice(names, size=min(int(rng.choice([1, 1, 1, 2])), len(names)), replace=False).tolist()
        arguments, verdicts = dict(good), {}
        for name in chosen:
            verdicts[name], make = kinds[name][rng.integers(len(kinds[name]))]
            arguments[name] = make(rng)
        return group(call), {name: arguments[name] for name in chosen}, self.judged(call, arguments, verdicts, right)

    def judged(self, call, arguments, verdicts, right):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            fault = self.outcome(call, arguments, verdicts, right)
        inside = [str(w.message) for w in heard if w.filename != __file__]
        return fault or (f"warns from inside: {inside[0]}" if inside else "")

    def outcome(self, call, arguments, verdicts, right):
        try:
            result = call(**arguments)
        except WrongSizeError:
            return ""
        except MemoryLostError:
            return "" if PASS in verdicts.values() else "another's error"
        except (TypeError, ValueError) as error:
            if verdicts == dict.fromkeys(verdicts, PASS):
                return f"turned into {type(error).__name__}: {error}"
            named = any(re.search(rf"\b{name}\b", str(error)) for name in verdicts)
            return "" if named else f"names none: {error}"
        except Exception as error:  # noqa: BLE001 - any other is what is looked for
            return "" if fair(error, verdicts) else f"leak: {type(error).__name__}: {error}"
        if REFUSE in verdicts.values():
            return "taken silently"
        return "" if right(result, verdicts) else "wrong result"


def fair(error, verdicts):
    """Whether it is how scipy's `curve_fit` says that no fit was found."""
    return isinstance(error, RuntimeError) and str(error).startswith("Optimal parameters not found")


def brief(value):
    return re.sub(r"\s+", " ", repr(value) if not isinstance(value, int) or abs(value) < 1e30 else "a huge integer")[
        :60
    ]


def spaced(count):
    """The number, with spaces between groups of three digits."""
    return f"{count:_}".replace("_", " ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=float, default=1e5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write the table into docs/checks.md")
    parser.add_argument("-v", action="store_true", help="show every call that went wrong")
    options = parser.parse_args()
    checker, counts, wrong = Checker(), collections.Counter(), collections.Counter()
    for i in range(int(options.calls)):
        name, replaced, fault = checker.call([options.seed, i])
        counts[name] += 1
        wrong[name] += bool(fault)
        if fault and options.v:
            print(f"{i} {name}({', '.join(f'{k}={brief(v)}' for k, v in replaced.items())}): {fault[:200]}")
    rows = [(name, counts[name], wrong[name]) for name in sorted(counts, key=str.lower)]
    rows.append(("all", counts.total(), wrong.total()))
    head = "| function or class | calls | error without a name, or wrong result |\n| --- | --- | --- |\n"
    table = head + "\n".join(f"| {name} | {spaced(count)} | {found} |" for name, count, found in rows)
    print(table)
    if options.write:
        marks.write(PAGE, "bad input", table)
    return bool(wrong.total())


if __name__ == "__main__":
    sys.exit(main())
