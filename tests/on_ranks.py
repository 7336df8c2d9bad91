"""What tests/test_distributed.py runs on several ranks: python -m mpi4py tests/on_ranks.py CASE."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from importlib.util import find_spec

import numpy as np
from mpi4py import MPI
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator

import plsolve
from plsolve.distributed import Columns
from plsolve.networks import WideNetwork

COMM = MPI.COMM_WORLD
N, M = 30, 2001
A = np.random.default_rng(0).standard_normal((N, M)) / 40
Y = np.random.default_rng(1).standard_normal(N)
W0 = np.zeros(M)
KINDS = {"array": np.asarray, "sparse": csr_array, "operator": aslinearoperator}


def system(part, kind="array", pause=0.0):
    """sinh(A w), of which each rank knows its columns of A; ranks take their time, each its own."""
    own = A[:, part.mine]

    def F(w, rows=None):
        time.sleep(pause * (1.0 + 0.1 * COMM.rank))
        f = np.sinh(part.total(own @ w[part.mine]))
        return f if rows is None else f[rows]

    def jac(w, rows=None):
        J = np.cosh(part.total(own @ w[part.mine]))[:, None] * own
        return part.jacobian(KINDS[kind](J if rows is None else J[rows]))

    return F, jac


REQUESTS = {
    "auto": {},
    "cg": {"options": {"linear_solver": "cg"}},
    "bounds": {"bounds": (W0 - 0.15, W0 + 0.15)},
    "x_scale": {"x_scale": np.linspace(1.0, 2.0, M)},
    "gd": {"method": "gd"},
    "sgd": {"method": "sgd", "rng": 3, "max_iter": 200},
    "sgd without a seed": {"method": "sgd", "max_iter": 20},
    "in time": {"method": "gd", "tol": 0.0, "max_time": 0.3, "max_iter": 10**9},
}


def path_of(part, kind, request):
    path = []
    F, jac = system(part, kind, 0.02 if "max_time" in request else 0.0)
    sol = part.solve(F, jac, W0, Y, callback=lambda w: path.append(w), **request)
    return sol, path


def agreement():
    """All ranks hold the same bits, and those of one rank to rounding."""
    part, alone = Columns(M, COMM), Columns(M, MPI.COMM_SELF)
    for kind in KINDS:
        for name, request in REQUESTS.items():
            if kind != "array" and name not in ("auto", "bounds", "cg"):
                continue
            sol, path = path_of(part, kind, request)
            assert len({x.tobytes() for x in COMM.allgather(sol.x)}) == 1, name
            assert len(set(COMM.allgather((sol.status, sol.nit, sol.message)))) == 1, name
            assert sol.success or name in ("in time", "sgd without a seed"), (name, sol.message)
            assert name != "in time" or sol.status == plsolve.Status.MAX_TIME
            assert bool(path) == (COMM.rank == 0)
            if name in ("in time", "sgd without a seed"):
                continue
            one, steps = path_of(alone, kind, request)
            assert one.nit == sol.nit, name
            if COMM.rank == 0:
                np.testing.assert_allclose(path, steps, rtol=0.0, atol=1e-12, err_msg=name)


def products():
    part = Columns(M, COMM)
    rng = np.random.default_rng(2)
    V, Z, d2 = rng.standard_normal((M, 3)), rng.standard_normal((N, 2)), rng.uniform(size=M)
    for kind in KINDS.values():
        J = part.jacobian(kind(A[:, part.mine]))
        for ours, theirs in (
            (J @ V, A @ V), (J @ V[:, 0], A @ V[:, 0]), (J.rmatmat(Z), A.T @ Z), (J.rmatvec(Z[:, 0]), A.T @ Z[:, 0]),
            (J.gram(), A @ A.T), (J.gram(d2), (A * d2) @ A.T),
        ):  # fmt: skip
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)
            assert len({x.tobytes() for x in COMM.allgather(ours)}) == 1


def network():
    """Branches of hidden units, one on each rank, whose outputs are added."""
    X = np.random.default_rng(3).standard_normal((20, 4))
    branches = [WideNetwork(X, (50,)) for _ in range(COMM.size)]
    net, part = branches[COMM.rank], Columns(sum(b.m for b in branches), COMM)
    w0 = np.concatenate([b.init(k) for k, b in enumerate(branches)])
    y = np.sin(X[:, 0])
    sol = part.solve(lambda w: part.total(net.F(w[part.mine])), lambda w: part.jacobian(net.jac(w[part.mine])), w0, y)
    assert sol.success
    whole = sum(b.F(w) for b, w in zip(branches, np.split(sol.x, COMM.size), strict=True))
    np.testing.assert_allclose(whole, y, atol=1e-8)


def stopped():
    """The callback of rank 0 stops all."""
    part = Columns(M, COMM)

    def callback(intermediate_result):
        assert COMM.rank == 0
        if intermediate_result.nit == 3:
            raise StopIteration

    sol = part.solve(*system(part), W0, Y, method="gd", callback=callback if COMM.rank == 0 else None)
    assert (sol.status, sol.nit) == (plsolve.Status.CALLBACK, 3)


def resumed():
    """A run goes on from the file of rank 0, or is refused on all ranks."""
    part, folder = Columns(M, COMM), COMM.bcast(tempfile.mkdtemp() if COMM.rank == 0 else None)
    path = os.path.join(folder, "run.npz")
    for name in ("auto", "cg", "gd", "sgd"):
        request = REQUESTS[name] | {"checkpoint": path if COMM.rank == 0 else None}
        whole = part.solve(*system(part), W0, Y, **REQUESTS[name])
        assert whole.nit > 3
        part.solve(*system(part), W0, Y, **request | {"max_iter": 3})
        assert COMM.rank > 0 or os.listdir(folder) == ["run.npz"]
        sol = part.solve(*system(part), W0, Y, resume=COMM.rank == 0, **request)
        assert sol.x.tobytes() == whole.x.tobytes(), name
        assert (sol.nit, sol.status, sol.message) == (whole.nit, whole.status, whole.message)
        assert len({x.tobytes() for x in COMM.allgather(sol.x)}) == 1
        try:
            part.solve(*system(part), W0, 2 * Y, resume=True, **request)
        except ValueError as error:
            said = str(error)
        assert "belongs to another run: y is" in said
    COMM.barrier()
    if COMM.rank == 0:
        shutil.rmtree(folder)


def told():
    """The log and the bar are those of rank 0, whatever each rank has asked for."""
    logging.basicConfig(level=logging.INFO, format="told by the log: %(levelname)s")
    part = Columns(M, COMM)
    part.solve(*system(part), W0, Y, method="gd", progress=COMM.rank == 0 and find_spec("tqdm") is not None)


def fails():
    """One rank raises."""
    part = Columns(M, COMM)
    F, jac = system(part)
    calls = []

    def faulty(w):
        calls.append(1)
        if COMM.rank == 1 and len(calls) == 3:
            raise RuntimeError("rank 1 has a fault of its own")
        return F(w)

    part.solve(faulty, jac, W0, Y, method="gd")


def killed():
    """One rank is killed."""
    part = Columns(M, COMM)
    F, jac = system(part)
    calls = []

    def mortal(w):
        calls.append(1)
        if COMM.rank == 1 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return F(w)

    part.solve(mortal, jac, W0, Y, method="gd")
    time.sleep(60)


globals()[sys.argv[1]]()
if COMM.rank == 0:
    sys.stdout.write("done")
