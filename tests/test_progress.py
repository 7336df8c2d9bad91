"""progress=True and the logger: what they show, that they are quiet otherwise, and that they leave the run alone."""

import builtins
import logging
import re
import sys

import numpy as np
import pytest

from plsolve import Status, solve, solve_batch, testing
from plsolve._pictures.progress import clock

METHODS = ["gauss-newton", "gd", "sgd"]
P = testing.prescribed_spectrum(5, 12, 30.0, e=0.2)
RATES = np.array([1.0, 0.1])


def shown(capsys):
    out, err = capsys.readouterr()
    assert out == ""
    return [line for line in re.split(r"[\r\n]+", err) if line.strip()]


@pytest.mark.parametrize("method", METHODS)
def test_the_bar_ends_full_with_the_loss_of_the_result(method, capsys):
    sol = solve(P.F, P.jac, P.w0, P.y, method=method, rng=0, progress=True)
    assert sol.success
    last = shown(capsys)[-1]
    assert last.startswith("100%")
    assert f"{sol.nit} iterations, loss {sol.history.loss[-1]:.2e}" in last


@pytest.mark.parametrize("method", METHODS)
def test_quiet_by_default(method, capsys, caplog):
    solve(P.F, P.jac, P.w0, P.y, method=method, rng=0)
    assert shown(capsys) == []
    assert all(record.levelno < logging.WARNING for record in caplog.records)


@pytest.mark.parametrize("method", METHODS)
def test_the_run_is_the_same(method, capsys):
    plain = solve(P.F, P.jac, P.w0, P.y, method=method, rng=0)
    watched = solve(P.F, P.jac, P.w0, P.y, method=method, rng=0, progress=True)
    assert plain.x.tobytes() == watched.x.tobytes()
    assert plain.history.loss.tobytes() == watched.history.loss.tobytes()
    assert shown(capsys)


def test_a_run_that_is_stopped_is_not_shown_as_done(capsys):
    sol = solve(P.F, P.jac, P.w0, P.y, method="gd", max_iter=20, progress=True)
    assert sol.status == Status.MAX_ITER
    percent = int(shown(capsys)[-1].split("%")[0])
    gone = np.log(sol.history.loss[0] / sol.cost) / np.log(sol.history.loss[0] / (0.5e-20 * (P.y @ P.y)))
    assert abs(percent - 100 * gone) <= 1.0


def test_the_time_to_go_comes_from_the_spectrum(capsys, monkeypatch):
    """A badly conditioned gd run: the pace of the loss says little, the small eigenvalues say how long."""
    monkeypatch.setattr("plsolve._pictures.progress._SETTLED", 0.0)
    monkeypatch.setattr("plsolve._pictures.progress._REFRESH", 0.0)
    p = testing.prescribed_spectrum(5, 12, 1e5)
    sol = solve(p.F, p.jac, p.w0, p.y, method="gd", max_iter=2000, progress=True)
    lines = shown(capsys)
    assert any("beyond max_iter" in line for line in lines)
    assert sol.forecast > 2000


def test_compiled_runs_show_it_too(capsys):
    njit = pytest.importorskip("numba").njit
    F, jac = njit(lambda w: RATES * (w[:2] + w[2:])), njit(lambda w: np.hstack((np.diag(RATES), np.diag(RATES))))
    sol = solve(F, jac, np.zeros(4), np.ones(2), progress=True)
    assert sol.compiled
    assert sol.success
    last = shown(capsys)[-1]
    assert last.startswith("100%")
    assert f"{sol.nit} iterations" in last


def test_the_bar_is_closed_when_a_function_fails(capsys):
    def F(w):
        if w.any():
            raise ArithmeticError("no")
        return w - 1.0

    with pytest.raises(ArithmeticError):
        solve(F, lambda w: np.eye(2), np.zeros(2), progress=True)
    assert "0 iterations" in shown(capsys)[-1]


def test_batch_bar(capsys):
    solve_batch(lambda w: w**2, None, [1.0], [[1.0], [4.0]], progress=True)
    assert "2/2" in shown(capsys)[-1]


@pytest.mark.parametrize("call", [
    lambda: solve(P.F, P.jac, P.w0, P.y, progress=True),
    lambda: solve_batch(lambda w: w**2, None, [1.0], [[1.0]], progress=True),
])  # fmt: skip
def test_without_the_extra_the_error_names_it(call, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == "tqdm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    for name in [name for name in sys.modules if name.split(".")[0] == "tqdm"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match=re.escape("plsolve[progress]")):
        call()
    assert solve(P.F, P.jac, P.w0, P.y).success  # not asked for


def test_the_logger_tells_the_run(caplog):
    with caplog.at_level(logging.DEBUG, logger="plsolve"):
        sol = solve(P.F, P.jac, P.w0, P.y, method="gd", max_iter=3)
    begin, *iterations, end = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert begin == ("INFO", "5 equations, 12 unknowns; gd: chosen by the caller.")
    assert [level for level, _ in iterations] == ["DEBUG"] * 4
    assert f"loss {sol.history.loss[1]:.6g}" in iterations[1][1]
    assert end[1].startswith(sol.message)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "00:00"), (61.0, "01:01"), (3600.0, "1:00:00"), (359999.0, "99:59:59"), (8.64e5, "10 days")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text
