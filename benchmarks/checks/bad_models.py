"""Bad arguments of the models of JAX and PyTorch and of `Columns`, where their packages are."""

from importlib.util import find_spec

import numpy as np
import scipy.sparse as sps

from benchmarks.checks.bad_methods import ROWS, finite, without_nan
from benchmarks.checks.bad_values import (
    CHOICE,
    FLAG,
    NO_COUNT,
    NO_FUNCTION,
    NO_NUMBER,
    STARTS,
    A,
    F,
    W,
    X,
    Y,
    functions,
    jac,
    numbers,
    refused,
    taken,
    those,
)

EXAMPLES = X[:, None]


def of_model(model):
    """The methods of a model."""
    w, kinds = model.w0, {"w": [*without_nan(those("refuse", numbers(model.w0))), *taken(model.w0.tolist())]}
    rows = {"rows": ROWS} if hasattr(model, "predict") else {}
    yield model.F, {"w": w}, kinds | rows, finite
    yield model.jac, {"w": w}, kinds | rows, lambda J, given: finite(J.gram(), given)
    yield model.params, {"w": w}, kinds, lambda params, given: params is not None
    if hasattr(model, "predict"):
        inputs = refused("abc", None, 3.0, object(), print, np.empty((0, 1)), [None], np.array(["a"]))
        yield model.predict, {"w": w, "X": EXAMPLES}, kinds | {"X": inputs}, finite


def whole(model, given):
    return np.isfinite(model.F(model.w0)).all()


def of_jax():
    import jax
    import jax.numpy as jnp

    from plsolve.models import JaxModel, JaxSystem

    jax.config.update("jax_enable_x64", True)
    params = {"W": jnp.ones((1, 3)), "v": jnp.ones(3)}

    def f(p, x):
        return jnp.tanh(x @ p["W"]) @ p["v"]

    def total(p):
        return jnp.append(jnp.tanh(p["W"]).ravel(), p["v"])

    of_params = refused(3, "abc", None, {}, [], {"W": 1}, print, {"W": jnp.ones(3, int)})
    kinds = {"params": of_params, "dtype": CHOICE}
    kinds |= {"mask": refused(3, "abc", {"W": True}, [True], {"W": False, "v": False}, {"W": "yes", "v": 1.5}, print)}
    no_data = refused("abc", None, 3.0, print, object(), np.empty((0, 1)), [None], {})
    good = {"f": f, "params": params, "X": EXAMPLES}
    yield JaxModel, good, kinds | {"f": NO_FUNCTION, "X": no_data, "batch": FLAG}, whole
    terms = refused([f], [(f,)], [(f, None)], [(3, EXAMPLES)], [], (), [(f, np.empty((0, 1)))], "ab", [("a", "b")])
    yield JaxSystem, {"f": total, "params": params}, kinds | {"f": [*NO_FUNCTION, *terms]}, whole
    yield from of_model(JaxModel(f, params, EXAMPLES))
    yield from of_model(JaxSystem(total, params))


def of_torch():
    import torch

    from plsolve.models import TorchModel

    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)).double()
    no_module = refused(3, "abc", None, print, {}, [], np.ones(2), torch.nn.Tanh(), torch.nn.Dropout().train())
    no_data = refused("abc", None, 3.0, print, object(), np.empty((0, 1)), [None], {}, ())
    yield TorchModel, {"module": module, "X": EXAMPLES}, {"module": no_module, "X": no_data, "dtype": CHOICE}, whole
    yield from of_model(TorchModel(module, EXAMPLES))


def of_mpi():
    from mpi4py import MPI

    from plsolve.distributed import Columns

    part = Columns(3, MPI.COMM_SELF)
    kinds = {"m": [*NO_COUNT, *refused(0)], "comm": refused(3, "abc", None, {}, print, A)}
    yield Columns, {"m": 3, "comm": MPI.COMM_SELF}, kinds, lambda part, given: part.mine == slice(0, part.m)
    vector = without_nan(those("refuse", numbers(np.ones(3))))
    yield part.total, {"x": np.ones(3)}, {"x": [entry for entry in NO_NUMBER if entry[0] == "refuse"][:2]}, finite
    yield part.whole, {"x": np.ones(3)}, {"x": vector}, finite
    local = refused("abc", None, 3.0, print, {}, np.ones((2, 4)), np.ones((2, 3, 1)), A * 1j, sps.csr_array(A * 1j))
    good = {"F": F, "jac": lambda w: part.jacobian(jac(w)), "w0": np.zeros(3), "y": Y}
    system = {
        "F": functions(F),
        "jac": refused(3, "4-point", A, {}, 1.5),
        "w0": STARTS,
        "y": numbers(Y),
        "as_solve": [],
    }
    yield part.solve, good, system, lambda sol, given: not sol.success or "y" in given or np.allclose(sol.x, W, 1e-4)
    yield part.jacobian, {"local_J": A}, {"local_J": local}, lambda J, given: finite(J.gram(), given)


def of_models():
    for package, some in (("jax", of_jax), ("torch", of_torch), ("mpi4py", of_mpi)):
        if find_spec(package) is not None:
            yield from some()
