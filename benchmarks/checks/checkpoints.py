"""Does a run that is killed go on as if it had not been, and what do checkpoints cost?

    python -m benchmarks.checks.checkpoints [--kills 100] [--seed 0] [--write]

Each run is made once undisturbed. Then a process makes it with a checkpoint every half second and is killed (kill -9)
at a random moment, again and again, each time followed by a new process that resumes, until it arrives. After each kill
the file must be readable. What the last process returns must be what the undisturbed run has returned: every bit of x,
fun and history, status and number of iterations. The work lost is the time since the iteration in the file was reached.
Allowed is one interval, half a second or 99 times what a write has taken (so that writing takes 1 % of the time), and
the time of two steps and a write. Exits with status 1 where one of these does not hold.

Then the cost: the time spent in keeping and writing as a share of runs of a minute with 8e6 unknowns, the write at the
end included, and of a run with very short steps. --write puts the tables into docs/checks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import scipy.sparse as sps
from scipy.sparse.linalg import LinearOperator

from benchmarks import marks
from plsolve import Result, _archive, _checkpoint, solve

EVERY = 0.5  # seconds
PAGE = Path(__file__).parents[2] / "docs" / "checks.md"


# -- runs --------------------------------------------------------------------------------------------------------------


class Scaled(LinearOperator):
    """diag(d) A for a sparse A, by its products."""

    def __init__(self, d: Any, A: Any) -> None:
        self._d, self._A, self._T = d, A, A.T.tocsr()
        super().__init__(np.float64, A.shape)

    def _matvec(self, v: Any) -> Any:
        return self._d * (self._A @ v.ravel())

    def _rmatvec(self, z: Any) -> Any:
        return self._T @ (self._d * z.ravel())


def gauss_newton(n: int, m: int, **options: Any) -> dict[str, Any]:
    """z + 0.95 sin z for z = A w, A sparse; J an operator without a kernel of its own."""
    A = sps.random_array((n, m), density=0.01, rng=np.random.default_rng(0), format="csr")
    A *= 3.0 / np.sqrt(A.multiply(A).sum(axis=1).mean())
    y = 4.0 * np.random.default_rng(1).standard_normal(n)
    return {
        "F": lambda w: (z := A @ w) + 0.95 * np.sin(z),
        "jac": lambda w: Scaled(1.0 + 0.95 * np.cos(A @ w), A),
        "w0": np.zeros(m),
        "y": y,
        "method": "gauss-newton",
        "options": options,
    }


def dense(n: int, m: int) -> tuple[Any, Any, Any]:
    """F and jac with ``rows`` for tanh-like equations in A w, and a target."""
    A = np.random.default_rng(0).standard_normal((n, m)) / m**0.5 * np.geomspace(1.0, 0.05, n)[:, None]

    def F(w: Any, rows: Any = None) -> Any:
        z = (A if rows is None else A[rows]) @ w
        return z + 0.5 * np.sin(z)

    def jac(w: Any, rows: Any = None) -> Any:
        A_ = A if rows is None else A[rows]
        return (1.0 + 0.5 * np.cos(A_ @ w))[:, None] * A_

    return F, jac, F(np.random.default_rng(1).standard_normal(m))


def by_gd(n: int, m: int, steps: int, momentum: str) -> dict[str, Any]:
    F, jac, y = dense(n, m)
    chosen = {"method": "gd", "max_iter": steps, "options": {"momentum": momentum}}
    return {"F": lambda w: F(w), "jac": lambda w: jac(w), "w0": np.zeros(m), "y": y, **chosen}


def by_sgd(n: int, m: int, steps: int, **options: Any) -> dict[str, Any]:
    F, jac, y = dense(n, m)
    chosen = {"method": "sgd", "max_iter": steps, "options": options, "rng": 3, "tol": 1e-13}
    return {"F": F, "jac": jac, "w0": np.zeros(m), "y": y, **chosen}


RUNS: dict[str, Callable[[], dict[str, Any]]] = {
    "gauss-newton, operator, 12 x 1e6": lambda: gauss_newton(12, 1_000_000),
    "gauss-newton, conjugate gradients, 16 x 1e6": lambda: gauss_newton(16, 1_000_000, linear_solver="cg"),
    "gd, nesterov, 100 x 20 000": lambda: by_gd(100, 20_000, 150, "nesterov"),
    "gd, heavy ball, 100 x 20 000": lambda: by_gd(100, 20_000, 1200, "heavy-ball"),
    "sgd, gradients, 2000 x 4000": lambda: by_sgd(2000, 4000, 5000, batch_size=8),
    "sgd, blocks, 2000 x 4000": lambda: by_sgd(2000, 4000, 300, step_size="kaczmarz", batch_size=100),
}


# -- a process that may be killed --------------------------------------------------------------------------------------


def child(name: str, folder: str) -> None:
    """Make or resume a run; each iteration is noted in the file ``steps``, the end in ``end``."""
    run = RUNS[name]()
    steps = os.open(Path(folder, "steps"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(steps, f"-1 {time.time()}\n".encode())

    write = _archive.write

    def timed(*args: Any) -> None:
        begun = time.time()
        write(*args)
        os.write(steps, f"write {time.time() - begun}\n".encode())

    def callback(intermediate_result: Any) -> None:
        os.write(steps, f"{intermediate_result.nit} {time.time()}\n".encode())

    _archive.write = timed

    path = str(Path(folder, "run.npz"))
    sol = solve(**run, callback=callback, checkpoint=path, resume=True, checkpoint_every=EVERY)
    Path(folder, "end").write_text(json.dumps(summary(sol)), "utf-8")


def summary(sol: Result) -> dict[str, Any]:
    """What two runs must have in common."""
    sums = {name: crc32(np.ascontiguousarray(x)) for name, x in sol.history._asdict().items()}
    return {"x": crc32(sol.x), "fun": crc32(sol.fun), "nit": sol.nit, "status": int(sol.status), **sums}


def start(name: str, folder: str) -> subprocess.Popen[bytes]:
    code = f"from benchmarks.checks import checkpoints as c; c.child({name!r}, {folder!r})"
    return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])


class Killed:
    """A run that was killed again and again until it arrived."""

    def __init__(self, name: str, rng: np.random.Generator, kills: int) -> None:
        self.kills, self.lost, self.interval, self.unreadable, self.late = 0, 0.0, 0.0, 0, 0
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            assert start(name, folder).wait() == 0
            self.seconds, self.whole = time.perf_counter() - begun, Path(folder, "end").read_text("utf-8")
        with tempfile.TemporaryDirectory() as folder:
            while not Path(folder, "end").exists():
                process = start(name, folder)
                try:
                    process.wait(float(rng.uniform(0.2, 1.1)) * self.seconds if self.kills < kills else None)
                    assert process.returncode == 0
                except subprocess.TimeoutExpired:
                    now = time.time()
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    self.kills += 1
                    self._look(folder, now)
            self.end = Path(folder, "end").read_text("utf-8")

    def _look(self, folder: str, now: float) -> None:
        """Is the file readable, and how much work is not in it?"""
        path, noted = Path(folder, "run.npz"), Path(folder, "steps")
        if not noted.exists():  # killed before it began
            return
        lines = [line.split() for line in noted.read_text("utf-8").splitlines()]
        lines = lines[max(i for i, (what, _) in enumerate(lines) if what == "-1") :]  # of this process
        steps, nit = [(int(what), float(when)) for what, when in lines if what != "write"], -1
        write = max((float(seconds) for what, seconds in lines if what == "write"), default=0.0)
        if path.exists():
            try:
                header, _ = _archive.parsed(path.read_bytes())
                nit = header["run"]["s"]["fields"]["nit"]
            except _archive.DAMAGE:
                self.unreadable += 1
        reached = max((when for k, when in steps if k <= nit), default=steps[0][1])
        longest = max(np.diff([when for _, when in steps] + [now]))
        interval = max(EVERY, (_checkpoint.SHARE - 1.0) * write)
        self.lost, self.interval = max(self.lost, now - reached), max(self.interval, interval)
        self.late += now - reached > interval + 2.0 * longest + write + 0.5

    @property
    def wrong(self) -> bool:
        return self.end != self.whole or self.unreadable > 0 or self.late > 0


def killed(kills: int, seed: int) -> tuple[list[str], bool]:
    """The table of the runs that were killed, and whether one has gone wrong."""
    rng, share = np.random.default_rng(seed), -(-kills // len(RUNS))
    rows, wrong = [], False
    for name in RUNS:
        runs: list[Killed] = []
        while sum(run.kills for run in runs) < share:
            runs.append(Killed(name, rng, share - sum(run.kills for run in runs)))
        wrong |= any(run.wrong for run in runs)
        elsewhere, unreadable = sum(run.end != run.whole for run in runs), sum(run.unreadable for run in runs)
        seconds, interval, lost = (max(getattr(run, what) for run in runs) for what in ("seconds", "interval", "lost"))
        numbers = f"{seconds:.0f}", len(runs), sum(run.kills for run in runs), elsewhere, unreadable
        more = f"{interval:.1f}", f"{lost:.1f}", sum(run.late for run in runs)
        rows.append(f"| {name} | {' | '.join(map(str, numbers + more))} |")
        print(rows[-1], flush=True)
    titles = (
        "run",
        "seconds",
        "runs",
        "kills",
        "end elsewhere",
        "unreadable",
        "interval, s",
        "most lost, s",
        "more lost",
    )
    head = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    return head + rows, wrong


# -- cost --------------------------------------------------------------------------------------------------------------


class Watched(_checkpoint.Checkpoint):
    """A checkpoint that measures itself."""

    spent, kept, writes = 0.0, 0, 0

    def keep(self, *args: Any, **named: Any) -> None:
        begun, before = time.perf_counter(), self._kept
        super().keep(*args, **named)
        self.spent += time.perf_counter() - begun
        self.kept += self._kept is not before

    def end(self, *args: Any) -> None:
        begun = time.perf_counter()
        super().end(*args)
        self.spent += time.perf_counter() - begun

    def write(self) -> None:
        self.writes += 1
        super().write()


def large(m: int) -> dict[str, Any]:
    """Twenty equations for sums over blocks of w, with a kernel of its own."""
    n = 20
    A = sps.csr_array((np.ones(m), np.arange(m), np.arange(0, m + 1, m // n)), (n, m)) / (m / n) ** 0.5
    F = lambda w: (z := A @ w) + 0.5 * np.sin(z)  # noqa: E731
    jac = lambda w: sps.diags_array(1.0 + 0.5 * np.cos(A @ w)) @ A  # noqa: E731
    return {"F": F, "jac": jac, "w0": np.zeros(m), "y": np.linspace(1.0, 3.0, n), "tol": 0.0}


def cost() -> list[str]:
    """The table of the cost."""
    m, rows = 8_000_000, []
    small = by_sgd(2000, 400, 20_000, batch_size=4)
    cases = {
        "gd, m = 8e6": large(m) | {"method": "gd", "options": {"step_size": 1e-5}, "max_time": 60.0},
        "gd, heavy ball, m = 8e6": large(m)
        | {"method": "gd", "options": {"momentum": "heavy-ball", "lipschitz": 30.0, "mu": 1e-4}, "max_time": 60.0},
        "sgd, steps of some microseconds": small,
    }
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "run.npz")
            keeper = Watched(str(path))
            begun = time.perf_counter()
            solve(**case, certify=False, checkpoint=keeper)
            seconds, size = time.perf_counter() - begun, path.stat().st_size / 2**20
        share = 100.0 * keeper.spent / seconds
        rows.append(f"| {name} | {seconds:.0f} | {keeper.kept} | {keeper.writes} | {size:.0f} | {share:.1f} |")
        print(rows[-1], flush=True)
    return ["| run | seconds | places kept | writes | MiB | % of the time |", "|" + " --- |" * 6, *rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    (first, wrong), second = killed(options.kills, options.seed), cost()
    if options.write:
        marks.write(PAGE, "checkpoints", "\n".join([*first, "", *second]))
    sys.exit(int(wrong))


if __name__ == "__main__":
    main()
