"""What is compiled once and kept on disk, and that nothing piles up in memory."""

import os
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from jitted import PACKAGE, hand, hand_jac, run_python, valley
from numba import njit

from plsolve import solve, solve_batch

NEXT_PROCESS = """
    import numpy as np
    from numba import njit
    from numba.core import event
    from plsolve import solve
    with event.install_recorder("numba:compile") as record:
        F = njit(lambda w: np.array([w[0] + w[1] ** 2 - 1]))
        run = solve(F, None, np.array([1.0, 1.0, 1.0]), compiled=True)
    compiled = {e.data["dispatcher"].py_func.__module__ or "" for _, e in record.buffer}
    print(run.success, *sorted(name for name in compiled if "kernel" in name or "algebra" in name))
"""


def test_the_next_process_compiles_nothing_but_the_callbacks():
    assert solve(valley, None, np.ones(2)).compiled
    assert run_python(NEXT_PROCESS).split() == ["True"]


def test_two_processes_compile_at_once(tmp_path):
    """Both run, whatever the other writes to the cache meanwhile."""
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)}
    code = textwrap.dedent(NEXT_PROCESS)
    pair = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) for _ in range(2)]
    assert [p.communicate(timeout=300)[0].split()[:1] for p in pair] == [[b"True"]] * 2
    assert run_python(NEXT_PROCESS, NUMBA_CACHE_DIR=str(tmp_path)).split() == ["True"]


CONSTANT = """
    import numpy as np
    from numba import njit
    from plsolve import solve
    F = njit(lambda w: np.array([np.cos(np.cumsum(w)).sum() - 2, np.sin(np.cumsum(w)).sum() - 3]))
    print(solve(F, None, np.full(7, 0.1), compiled=True).nit)
"""


def test_cache_belongs_to_the_sources_and_is_used(tmp_path):
    """An edited copy of the package runs the new code; a second process finds what the first has compiled."""
    shutil.copytree(PACKAGE, tmp_path / "plsolve", ignore=shutil.ignore_patterns("__pycache__"))
    env = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    nit = int(run_python(CONSTANT, **env))
    files = set((tmp_path / "cache").rglob("*.nbc"))
    assert files
    assert int(run_python(CONSTANT, **env)) == nit
    assert set((tmp_path / "cache").rglob("*.nbc")) == files
    source = tmp_path / "plsolve" / "methods" / "tuning.py"  # not the compiled functions' own file
    edited = source.read_text().replace("first_probe: float = 0.5 ", "first_probe: float = 1e-3 ")
    assert edited != source.read_text()
    source.write_text(edited)
    run_python(CONSTANT, **env)
    assert set((tmp_path / "cache").rglob("*.nbc")) - files


@pytest.mark.parametrize("damage", ["empty", "cut", "scrambled", "index"])
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    env = {"NUMBA_CACHE_DIR": str(tmp_path)}
    nit = run_python(CONSTANT, **env)
    for path in sorted(tmp_path.rglob("*.nbi" if damage == "index" else "*.nb?"))[::5]:
        content = path.read_bytes()
        if damage == "cut":
            content = content[: len(content) // 2]
        elif damage == "scrambled":
            content = content[:20] + bytes(255 - b for b in content[20:])
        else:
            content = b""
        path.write_bytes(content)
    assert run_python(CONSTANT, **env) == nit
    assert run_python(CONSTANT, **env) == nit


def test_without_a_place_for_the_cache():
    no_place = """
    import logging
    import sys
    from numba.core import caching
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    caching.CacheImpl._locator_classes = caching.CompileResultCacheImpl._locator_classes = []
    """
    out = run_python(no_place + CONSTANT)
    assert out.count("no writable directory") == 1
    assert out.split()[-1] == run_python(CONSTANT).strip()


def test_the_first_compilation_says_so(tmp_path):
    code = "import logging\n    logging.basicConfig(level=logging.INFO)" + CONSTANT
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent("    " + code)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent), "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert out.stderr.count("compiles its solvers for this machine") >= 1


def test_nothing_is_compiled_at_import():
    out = run_python(
        """
        import sys
        import plsolve
        assert "numba" not in sys.modules
        from numba.core import event
        with event.install_recorder("numba:compile") as record:
            import plsolve.jit
        print(len(record.buffer))
        """
    )
    assert out.strip() == "0"


def test_memory_is_flat():
    resource = pytest.importorskip("resource")
    w0 = np.full(7, 0.1)
    for _ in range(300):
        solve(hand, hand_jac, w0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3000):
        solve(hand, hand_jac, w0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4000  # KiB


def test_memory_is_flat_where_functions_fail():
    resource = pytest.importorskip("resource")

    @njit
    def failing(w):
        if w[0] != 2.0:
            raise ValueError("w is", w[0])
        return w[:1] * 1.0

    many, goals = np.zeros((50_000, 2)), np.ones((50_000, 1))
    first = np.vstack((np.full((1, 2), 2.0), many))  # one that can be started

    def peak():
        assert (solve_batch(failing, None, first, np.vstack((goals[:1], goals)), threads=1).status[1:] == -5).all()
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = max(peak(), peak())
    for _ in range(3):
        last = peak()
    assert last - before < 4000  # KiB, where each failure would keep 80 bytes
