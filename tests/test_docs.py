"""The examples of docs/ run as printed, where the packages that they need are installed."""

import doctest
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's forward mode of itself
def test_models():
    for package in ("jax", "torch"):
        pytest.importorskip(package)
    result = doctest.testfile(str(DOCS / "guide" / "models.md"), module_relative=False, optionflags=FLAGS)
    assert result.attempted > 30
    assert result.failed == 0


def test_a_program_on_two_ranks(tmp_path):
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("there is no mpiexec")
    (code,) = re.findall(
        r"^```python\n(.*?)^```$", (DOCS / "guide" / "distributed.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "program.py").write_text(code, "utf-8")
    command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", "program.py"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True)
    assert out.stdout == "Solved: the residual is within `tol`.\n"
