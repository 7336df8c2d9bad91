"""Compiled runs that are stopped between chunks of steps go on as if they had not been."""

import jitted
import numpy as np
import problems
import pytest
from stopped import Case, header, moments, same, stop

from plsolve import Status, _checkpoint

X = np.linspace(0.0, 3.0, 30)
A = problems.matrix(12, 40)
FAR = np.array([2.8, -1.0, 3.0, 2.5, 0.4, -2.0, 1.0])
SGD = {"method": "sgd", "rng": 5, "args": (A, 0.4), "max_iter": 150}
CASES = {
    "valley": Case(jitted.valley, jitted.valley_jac, np.array([-1.2, 1.0])),
    "valley, bounds": Case(
        jitted.valley, jitted.valley_jac, np.array([-1.2, 1.0]), None, {"bounds": (-2.0, [0.8, 2.0])}
    ),
    "x_scale": Case(jitted.valley, jitted.valley_jac, np.array([-1.2, 1.0]), None, {"x_scale": "jac"}),
    "far": Case(jitted.hand, jitted.hand_jac, FAR, np.array([2.0, 3.5])),
    "differences": Case(jitted.hand, None, FAR, np.array([2.0, 3.5])),
    "nearest": Case(jitted.hand, jitted.hand_jac, FAR, np.array([2.0, 3.5]), {"options": {"nearest": True}}),
    "tall": Case(jitted.decay, jitted.decay_jac, np.array([1.0, 9.0, 3.0]), None, {"args": (X, 1.0 + np.sin(5 * X))}),
    "sgd": Case(jitted.wavy_rows, jitted.wavy_rows_jac, np.zeros(40), problems.vector(12), SGD),
    "sgd, batches": Case(
        *(jitted.wavy_rows, jitted.wavy_rows_jac, np.zeros(40), problems.vector(12)),
        SGD | {"options": {"batch_size": 5, "momentum": "mass"}},
    ),
}


@pytest.mark.parametrize("way", ["callback", "interrupt", "limit"])
@pytest.mark.parametrize("name", CASES)
def test_a_compiled_run_goes_on_as_if_it_had_not_been_stopped(name, way, tmp_path):
    case, path = CASES[name], str(tmp_path / "run.npz")
    watched = {} if way == "limit" else {"callback": lambda w: None}  # then each step is noted by itself
    whole = case.run(**watched)
    assert whole.compiled
    for k in moments(whole.nit - 1 if way == "limit" else whole.history.nit.size - 1):
        stop(case, way, k, path)
        before = header(path)["run"]["progress"]["fields"]["counts"]["dict"]
        sol = case.run(checkpoint=path, resume=True, **watched)
        same(sol, whole)
        assert sol.nfev - whole.nfev in (1, 2)  # F(w0), and where J comes from differences
        assert 0 <= sol.njev - whole.njev <= 3
        assert sol.nfev > before["nfev"]
        same(case.run(checkpoint=path, resume=True), whole)


def test_a_file_of_an_interpreted_run_is_refused(tmp_path):
    path = str(tmp_path / "run.npz")
    for mine, other in ((True, False), (False, True)):
        CASES["valley"].run(checkpoint=path, max_iter=1, compiled=mine)
        with pytest.raises(ValueError, match=f"another run: compiled is {other} in this call, {mine} in the file"):
            CASES["valley"].run(checkpoint=path, resume=True, compiled=other)
        whole = CASES["valley"].run(checkpoint=path, resume=True, compiled=mine)
        same(whole, CASES["valley"].run(compiled=mine))


def test_written_within_an_epoch(tmp_path, monkeypatch):
    """An epoch of sgd may take long: the places between its chunks are written, too."""
    case, path, written = CASES["sgd"], str(tmp_path / "run.npz"), []
    monkeypatch.setattr(_checkpoint, "SHARE", 1.0)
    monkeypatch.setattr("plsolve._compiled.sgd.ROWS", 4)
    whole = case.run()

    def write(self):
        written.append(self._kept.s.nit)
        kept(self)

    kept = _checkpoint.Checkpoint.write
    monkeypatch.setattr(_checkpoint.Checkpoint, "write", write)
    same(case.run(checkpoint=path, checkpoint_every=0.0), whole)
    assert any(nit % 12 for nit in written)
    monkeypatch.undo()
    case.run(checkpoint=path, checkpoint_every=0.0, max_iter=31)
    same(case.run(checkpoint=path, resume=True), whole)


def test_the_time_is_that_of_each_call(tmp_path):
    case, path = CASES["sgd"], str(tmp_path / "run.npz")
    case = Case(case.F, case.jac, case.w0, case.y, SGD | {"max_iter": 30_000, "options": {"step_size": 1e-9}})
    whole = case.run()
    assert case.run(checkpoint=path, max_time=0.05).status == Status.MAX_TIME
    same(case.run(checkpoint=path, resume=True), whole)
