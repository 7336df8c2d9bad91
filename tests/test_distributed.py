"""Columns on two ranks, each run in processes of its own; tests/on_ranks.py is what these do."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MPI = pytest.importorskip("mpi4py.MPI")

from plsolve import solve  # noqa: E402
from plsolve.distributed import Columns  # noqa: E402

BESIDE = Path(sys.executable).parent / "mpiexec"
MPIEXEC = str(BESIDE) if BESIDE.exists() else shutil.which("mpiexec")
on_ranks = pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec")


def run(case, ranks=2):
    program = str(Path(__file__).parent / "on_ranks.py")
    command = [MPIEXEC, "-n", str(ranks), sys.executable, "-m", "mpi4py", program, case]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@on_ranks
@pytest.mark.parametrize("case", ["products", "agreement", "network", "stopped", "resumed"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_on_ranks(case, ranks):
    out = run(case, ranks=ranks)
    assert out.returncode == 0, out.stderr + out.stdout
    assert "done" in out.stdout


@on_ranks
@pytest.mark.parametrize(("case", "word"), [("fails", "rank 1 has a fault of its own"), ("killed", "signal 9")])
def test_a_rank_that_fails_ends_all(case, word):
    out = run(case)
    assert out.returncode != 0
    assert "done" not in out.stdout
    assert word in (out.stdout + out.stderr).lower()


@on_ranks
def test_only_rank_0_speaks():
    out = run("told")
    assert out.returncode == 0, out.stderr
    assert out.stderr.count("told by the log") == 2


def test_one_rank_is_enough():
    part = Columns(5, MPI.COMM_SELF)
    assert part.mine == slice(0, 5)
    A = np.arange(1.0, 11.0).reshape(2, 5)
    sol = solve(lambda w: part.total(A @ w), lambda w: part.jacobian(A), np.zeros(5), np.ones(2))
    np.testing.assert_allclose(sol.x, np.linalg.pinv(A) @ np.ones(2), atol=1e-12)
    assert "rank 0 of 1" in repr(part)


def test_bad_input():
    with pytest.raises(ValueError, match="`m`"):
        Columns(0, MPI.COMM_SELF)
    with pytest.raises(TypeError, match="`m`"):
        Columns(2.5, MPI.COMM_SELF)
    with pytest.raises(ValueError, match="shape"):
        Columns(3, MPI.COMM_SELF).jacobian(np.ones((2, 4)))
