"""Checkpoints: a run that was stopped anywhere goes on as if it had not been; files are refused, or left alone."""

import errno
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import time
import zipfile
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import problems
import pytest
from scipy.sparse import csr_array
from scipy.sparse.linalg import aslinearoperator
from stopped import Case, counted, header, moments, same, stop

from benchmarks.far_systems import sine
from plsolve import Status, _archive, _checkpoint, infer, solve
from plsolve.methods import METHODS, OPTIONS, Method, Stage, Start, tall

# -- runs --------------------------------------------------------------------------------------------------------------


def curved(n, m, seed=0):
    """z + 0.95 sin(z) = y for z = A w, which takes some steps."""
    A = problems.matrix(n, m, seed)

    def F(w, rows=None):
        z = (A if rows is None else A[rows]) @ w
        return z + 0.95 * np.sin(z)

    def jac(w, rows=None):
        A_ = A if rows is None else A[rows]
        z = A_ @ w
        return (1 + 0.95 * np.cos(z))[:, None] * A_

    return F, jac, np.zeros(m), 3 * problems.vector(n)


def by(kind, system):
    """The system with another kind of J."""
    F, jac, w0, y = system
    return F, lambda w: kind(jac(w)), w0, y


def plain(system):
    """F and jac without ``rows``."""
    F, jac, w0, y = system
    return lambda w: F(w), lambda w: jac(w), w0, y


def far(n, m, seed):
    F, jac, w0, y = sine(seed, n, m, 3.0)
    return F, jac, w0, y


def classic(p):
    return p.F, p.jac, p.w0, None


U = np.geomspace(1.0, 1e5, 6)
WIDE, SQUARE, TALL = curved(12, 40), curved(12, 12), curved(40, 6)
C = np.diag(np.linspace(0.5, 2.0, 40))
GD = {"method": "gd", "max_iter": 60}
NEAR = {"method": "gd", "options": {"momentum": "nesterov"}, "xtol": 1e-2, "max_iter": 300}
SGD = {"method": "sgd", "rng": 5, "max_iter": 150}


def sgd(**options):
    return SGD | {"options": options}


CASES = {
    "dense": Case(*plain(WIDE)),
    "sparse": Case(*by(csr_array, WIDE)),
    "operator": Case(*by(aslinearoperator, WIDE)),
    "gram": Case(*by(problems.GramOperator, WIDE)),
    "cg": Case(*by(aslinearoperator, WIDE), {"options": {"linear_solver": "cg"}}),
    "cg, preconditioned": Case(*curved(150, 400), {"options": {"linear_solver": "cg"}, "tol": 1e-12}),
    "qr": Case(*plain(WIDE), {"options": {"linear_solver": "qr"}}),
    "differences": Case(WIDE[0], None, *WIDE[2:]),
    "2-point": Case(WIDE[0], "2-point", *WIDE[2:]),
    "pair": Case(lambda w: (WIDE[0](w), WIDE[1](w)), True, *WIDE[2:]),
    "bounds": Case(*plain(WIDE), {"bounds": (-0.4 * np.ones(40), 0.3 * np.ones(40))}),
    "x_scale": Case(*plain(WIDE), {"x_scale": np.linspace(1.0, 3.0, 40)}),
    "x_scale of J": Case(*plain(TALL), {"x_scale": "jac"}),
    "covariance": Case(*plain(WIDE), {"x_scale": C}),
    "nearest": Case(*far(5, 12, 1), {"options": {"nearest": True}}),
    "nearest, differences": Case(far(5, 12, 1)[0], None, *far(5, 12, 1)[2:], {"options": {"nearest": True}}),
    "xtol": Case(*plain(WIDE), NEAR | {"beta": 9.0}),
    "xtol, differences": Case(WIDE[0], None, *WIDE[2:], NEAR),
    "far": Case(*far(10, 20, 202)),
    "far, differences": Case(far(3, 5, 1)[0], None, *far(3, 5, 1)[2:], {"max_iter": 60}),
    "kicks": Case(*classic(problems.classic("Freudenstein and Roth"))),
    "square": Case(*plain(SQUARE)),
    "tall": Case(*plain(TALL)),
    "tall, a residual stays": Case(*classic(problems.kowalik_osborne())),
    "tall, bounds": Case(*plain(TALL), {"bounds": (-0.2, 0.2)}),
    "units": Case(lambda w: TALL[0](w * U), lambda w: TALL[1](w * U) * U, np.ones(6) / U, TALL[3]),
    "gd": Case(*plain(WIDE), GD),
    "gd, sparse, bounds": Case(*by(csr_array, WIDE), GD | {"bounds": (-0.4, 0.3)}),
    "polyak": Case(*plain(WIDE), GD | {"options": {"step_size": "polyak"}}),
    "cauchy": Case(*plain(WIDE), GD | {"options": {"step_size": "cauchy"}, "beta": 3.0}),
    "heavy ball": Case(*plain(WIDE), GD | {"options": {"momentum": "heavy-ball"}}),
    "nesterov": Case(*plain(WIDE), GD | {"options": {"momentum": "nesterov"}, "x_scale": np.linspace(1.0, 2.0, 40)}),
    "chebyshev": Case(*plain(WIDE), GD | {"options": {"momentum": "chebyshev"}}),
    "sgd": Case(*WIDE, SGD),
    "sgd, no rows": Case(*plain(WIDE), SGD),
    "sgd, differences": Case(WIDE[0], None, *WIDE[2:], SGD),
    "sgd, mass": Case(*WIDE, sgd(momentum="mass", batch_size=2)),
    "sgd, fixed": Case(*WIDE, sgd(step_size=1e-3, batch_size=5)),
    "sgd, theorem": Case(*WIDE, sgd(step_size="theorem")),
    "sgd, cyclic": Case(*WIDE, sgd(rows="cyclic", batch_size=3)),
    "sgd, largest": Case(*WIDE, sgd(rows="max", batch_size=3)),
    "sgd, residual": Case(*WIDE, sgd(rows="residual", batch_size=3)),
    "sgd, shuffled": Case(*WIDE, sgd(rows="shuffled", batch_size=5)),
    "sgd, blocks": Case(*WIDE, sgd(step_size="kaczmarz", batch_size=4)),
    "sgd, blocks, too few": Case(*curved(30, 8), sgd(step_size="kaczmarz", batch_size=4) | {"max_iter": 400}),
    "infer": Case(*plain(WIDE), {"noise": 0.01, "prior": 2.0}, infer),
    "infer, operator": Case(*by(aslinearoperator, WIDE), {"noise": 1e-3, "linear_solver": "cg"}, infer),
    "infer, differences": Case(TALL[0], None, *TALL[2:], {"noise": 0.1, "prior": C[:6, :6]}, infer),
    "infer, bounds": Case(*plain(WIDE), {"noise": 0.01, "bounds": (-0.4, 0.3)}, infer),
}


@cache
def undisturbed(name):
    return CASES[name].run()


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["callback", "interrupt", "limit", "F", "jac"])
@pytest.mark.parametrize("name", CASES)
def test_a_run_goes_on_as_if_it_had_not_been_stopped(name, way, tmp_path):
    case, whole, path = CASES[name], undisturbed(name), str(tmp_path / "run.npz")
    if way == "jac" and not callable(case.jac):
        pytest.skip("there is no jac")
    last = {"F": whole.nfev + whole.nfev_jac, "jac": whole.njev, "limit": whole.nit - 1}
    for k in moments(last.get(way, whole.history.nit.size - 2)):
        stop(case, way, k, path)
        if not os.path.exists(path):
            assert way in ("F", "jac"), "nothing is kept before the first step"
            continue
        before = header(path)["run"]["progress"]["fields"]["counts"]["dict"]
        again, F, jac = counted(case)
        sol = again.run(checkpoint=path, resume=True)
        same(sol, whole)
        assert sol.nfev + sol.nfev_jac == F.calls + before["nfev"] + before["nfev_jac"]
        if jac is not None:
            assert sol.njev - before["njev"] == jac.calls


def test_what_the_cases_go_through():
    ends = {name: undisturbed(name).status for name in CASES}
    assert set(ends.values()) >= {
        Status.RESIDUAL,
        Status.DISTANCE,
        Status.STATIONARY,
        Status.MAX_ITER,
        Status.CONVERGED,
    }
    assert ends["nearest"] == ends["far"] == Status.RESIDUAL
    assert ends["xtol"] == ends["xtol, differences"] == Status.DISTANCE


@pytest.mark.parametrize("name", ["dense", "nearest", "tall, a residual stays", "xtol", "sgd", "infer"])
def test_a_finished_run_returns_its_result_at_once(name, tmp_path):
    path, whole = str(tmp_path / "run.npz"), CASES[name].run(checkpoint=str(tmp_path / "run.npz"))
    same(whole, undisturbed(name))
    for _ in range(2):
        again, F, _ = counted(CASES[name])
        sol = again.run(checkpoint=path, resume=True, callback=lambda w: pytest.fail("no step is to be made"))
        same(sol, whole)
        assert F.calls == 1 or name == "sgd"  # which ends by its limit: constants, and the last step
    assert str(sol.certificate if name != "infer" else "") == str(whole.certificate if name != "infer" else "")


@pytest.mark.parametrize("name", ["dense", "gd", "sgd, shuffled", "sgd, blocks", "infer", "nearest"])
def test_it_can_be_stopped_again_and_again(name, tmp_path):
    """A new process for each iteration, for every second one where there are many."""
    path, case, whole = str(tmp_path / "run.npz"), CASES[name], undisturbed(name)
    for k in range(1, whole.nit, 1 if whole.nit < 100 else 7):
        sol = case.run(checkpoint=path, resume=True, max_iter=k)
        assert sol.nit == k
    same(case.run(checkpoint=path, resume=True), whole)


def test_between_two_stages(tmp_path, monkeypatch):
    """Interrupted after a stage has begun, before its first state: the place is that of the stage before."""
    path, case = str(tmp_path / "run.npz"), CASES["kicks"]

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tall, "init", interrupted)
        with pytest.raises(KeyboardInterrupt):
            case.run(checkpoint=path)
    assert header(path)["run"]["stage"] == 0
    same(case.run(checkpoint=path, resume=True), undisturbed("kicks"))


def test_the_certificate_and_the_bound_are_those_of_the_whole_run(tmp_path):
    path = str(tmp_path / "run.npz")
    for name, settings in (("dense", {"beta": 9.0}), ("gd", {"options": {"lipschitz": 6.0, "mu": 0.01}, "beta": 9.0})):
        case = Case(*plain(WIDE), CASES[name].settings | settings)
        whole = case.run()
        stop(case, "interrupt", 3, path)
        sol = case.run(checkpoint=path, resume=True)
        assert str(sol.certificate) == str(whole.certificate)
        np.testing.assert_array_equal(sol.history.bound, whole.history.bound)
        assert not np.isnan(whole.history.bound).all() or name == "dense"


def test_the_time_is_that_of_each_call(tmp_path, monkeypatch):
    """The clock moves by a second with each F; sgd looks at all equations when the time is over, for the result."""
    path, now = str(tmp_path / "run.npz"), [0.0]
    monkeypatch.setattr("plsolve._clock.time.monotonic", lambda: now[0])

    def slow(F):
        def timed(w, rows=None):
            now[0] += 1.0
            return F(w) if rows is None else F(w, rows=rows)

        return timed

    for name in ("dense", "gd", "sgd, shuffled", "sgd", "infer"):
        case = CASES[name]
        case = Case(slow(case.F), case.jac, case.w0, case.y, case.settings, case.call)
        whole = undisturbed(name)
        sol = case.run(checkpoint=path, max_time=11.5)
        assert sol.status == Status.MAX_TIME
        nits = [sol.nit]
        while sol.status == Status.MAX_TIME:
            sol = case.run(checkpoint=path, resume=True, max_time=11.5)
            nits.append(sol.nit)
        assert nits == sorted(nits)
        same(sol, whole)


@pytest.mark.parametrize("name", ["gd", "nesterov", "infer"])
def test_no_time_is_left_for_a_step(name, tmp_path):
    """What an earlier run has reached is returned, and the place stays in the file."""
    path, case = str(tmp_path / "run.npz"), CASES[name]
    stop(case, "limit", 5, path)
    before = header(path)["run"]["s"]
    sol = case.run(checkpoint=path, resume=True, max_time=0.0)
    assert (sol.status, sol.nit) == (Status.MAX_TIME, 5)
    assert sol.cost == case.run(max_iter=5).cost
    assert header(path)["run"]["s"] == before
    same(case.run(checkpoint=path, resume=True), undisturbed(name))
    if undisturbed(name).status != Status.MAX_ITER:
        same(case.run(checkpoint=path, resume=True, max_time=0.0), undisturbed(name))


def test_no_time_is_left_after_the_end(tmp_path):
    path, case = str(tmp_path / "run.npz"), CASES["heavy ball"]
    case = Case(case.F, case.jac, case.w0, case.y, case.settings | {"max_iter": 1000, "tol": 1e-4})
    whole = case.run(checkpoint=path)
    assert whole.success
    sol = case.run(checkpoint=path, resume=True, max_time=0.0)
    assert sol.success
    assert (sol.nit, sol.message) == (whole.nit, whole.message)
    np.testing.assert_array_equal(sol.x, whole.x)


def test_rng_goes_on_whatever_it_is(tmp_path):
    path, case = str(tmp_path / "run.npz"), CASES["sgd, shuffled"]
    for kind in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
        whole = case.run(rng=np.random.Generator(getattr(np.random, kind)(3)))
        case.run(rng=np.random.Generator(getattr(np.random, kind)(3)), checkpoint=path, max_iter=31)
        same(case.run(rng=None, checkpoint=path, resume=True), whole)
    case.run(rng=None, checkpoint=path, max_iter=31)
    files = [str(tmp_path / name) for name in ("one.npz", "two.npz")]
    for file in files:
        shutil.copy(path, file)
    same(*(case.run(rng=rng, checkpoint=file, resume=True) for rng, file in zip((None, 7), files, strict=True)))


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (3, 30)])
@pytest.mark.parametrize("settings", [{}, GD, SGD])
def test_small_systems_of_any_scale(n, m, scale, settings, tmp_path):
    F, jac, w0, y = curved(n, m)
    case = Case(lambda w: scale * F(w), lambda w: scale * jac(w), w0, scale * y, settings)
    whole = case.run()
    stop(case, "limit", whole.nit // 2, str(tmp_path / "run.npz"))
    same(case.run(checkpoint=tmp_path / "run.npz", resume=True), whole)


def test_callback_and_history_count_on(tmp_path):
    path, case, seen = str(tmp_path / "run.npz"), CASES["gd"], []

    def callback(intermediate_result):
        seen.append(intermediate_result.nit)
        if len(seen) == 10:
            raise StopIteration

    case.run(checkpoint=path, callback=callback)
    sol = case.run(checkpoint=path, resume=True, callback=callback)
    assert seen == list(range(1, 61))
    assert sol.history.nit.tolist() == list(range(61))


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(tmp_path):
    path = str(tmp_path / "run.npz")
    stop(CASES["dense"], "limit", 4, path)
    return path


OTHERS: dict[str, dict[str, Any]] = {
    "n": {"F": lambda w: w[:5], "jac": None, "y": np.ones(5)},
    "m": {"F": lambda w: np.r_[w, 0.0], "jac": None, "y": np.ones(12), "w0": np.zeros(11)},
    "y": {"y": WIDE[3] + 1.0},
    "w0": {"w0": np.full(40, 1e-9)},
    "||F(w0)||": {"F": lambda w: WIDE[0](w) + 1.0},
    "jac": {"jac": None},
    "method": {"method": "gd"},
    "options": {"options": {"linear_solver": "qr"}},
    "beta": {"beta": 9.0},
    "tol": {"tol": 1e-8},
    "xtol": {"xtol": 1e-8},
    "eps": {"eps": 1e-8},
    "bounds": {"bounds": (-9.0, 9.0)},
    "x_scale": {"x_scale": np.linspace(1.0, 2.0, 40)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_run_is_refused_and_left(name, stopped):
    before = Path(stopped).read_bytes()
    good = {"F": plain(WIDE)[0], "jac": plain(WIDE)[1], "w0": WIDE[2], "y": WIDE[3]}
    with pytest.raises(
        ValueError, match=rf"^`checkpoint`: .*run\.npz belongs to another run: .*{re.escape(name)}"
    ) as e:
        solve(**good | OTHERS[name], checkpoint=stopped, resume=True)
    for said in (" in this call, ", " in the file", "left as it was"):
        assert said in str(e.value)
    assert Path(stopped).read_bytes() == before


def test_what_differs_is_said_with_both_values(stopped):
    with pytest.raises(ValueError, match=r"tol is 1e-08 in this call, 1e-10 in the file; eps is 0\.5 in "):
        CASES["dense"].run(checkpoint=stopped, resume=True, tol=1e-8, eps=0.5)


def test_fits_and_covariances_are_told_apart(tmp_path):
    path = str(tmp_path / "run.npz")
    stop(CASES["infer"], "limit", 3, path)
    for name, more in (
        ("noise", {"noise": 0.02}),
        ("prior", {"prior": 1.0}),
        ("linear_solver", {"linear_solver": "qr"}),
    ):
        with pytest.raises(ValueError, match=f"another run: {name} is"):
            CASES["infer"].run(checkpoint=path, resume=True, **more)
    with pytest.raises(ValueError, match="call is 'solve' in this call, 'infer' in the file"):
        CASES["dense"].run(checkpoint=path, resume=True)
    stop(CASES["covariance"], "limit", 3, path)
    for more in ({"x_scale": 2 * C}, {"x_scale": 1.0}):
        with pytest.raises(ValueError, match=r"another run: .*x_scale is"):
            CASES["covariance"].run(checkpoint=path, resume=True, **more)


def test_the_format_and_other_versions(stopped):
    whole = _archive.parsed(Path(stopped).read_bytes())
    for change, words in (
        (lambda h: h.update(format=2), "has the format 2; this version of plsolve reads the format 1"),
        (lambda h: h["run"]["s"]["fields"].pop("watch"), "written by another version of plsolve"),
        (lambda h: h["run"]["progress"]["fields"].update(more=1), "written by another version of plsolve"),
        (lambda h: h.pop("run"), "is damaged, or no checkpoint of plsolve"),
    ):
        head = json.loads(json.dumps(whole[0]))
        change(head)
        _archive.write(stopped, head, whole[1])
        before = Path(stopped).read_bytes()
        with pytest.raises(ValueError, match=f"^`checkpoint`: .*{words}.*left as it was"):
            CASES["dense"].run(checkpoint=stopped, resume=True)
        assert Path(stopped).read_bytes() == before


class Boom:
    """Unpickling it would leave a trace."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def damages(good, folder):
    """Bytes that are no checkpoint any more."""
    yield from (good[:size] for size in {0, 1, 4, 100, *range(50, len(good), len(good) // 40), len(good) - 1})
    yield from (bytes(size) for size in (1, 1000, len(good)))
    yield good[: len(good) // 2] + bytes(len(good) - len(good) // 2)
    yield pickle.dumps(Boom())
    np.savez(folder / "objects.npz", header=np.array([Boom()], object))
    yield (folder / "objects.npz").read_bytes()
    np.savez(folder / "other.npz", x=np.ones(3))
    yield (folder / "other.npz").read_bytes()
    np.savez(folder / "text.npz", header=np.frombuffer(b"[1, 2]", np.uint8))
    yield (folder / "text.npz").read_bytes()
    with zipfile.ZipFile(folder / "empty.npz", "w"):
        pass
    yield (folder / "empty.npz").read_bytes()
    yield b"a text\n" * 100


def test_damaged_files_are_refused_and_left(stopped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in damages(Path(stopped).read_bytes(), tmp_path):
        Path(stopped).write_bytes(data)
        with pytest.raises(ValueError, match=r"^`checkpoint`: .*run\.npz is damaged, or no checkpoint.*left as it was"):
            CASES["dense"].run(checkpoint=stopped, resume=True)
        assert Path(stopped).read_bytes() == data
    assert not os.path.exists("unpickled")


def test_flipped_bits_are_found_or_do_no_harm(stopped):
    good, rng, refused = bytearray(Path(stopped).read_bytes()), np.random.default_rng(0), 0
    for place in rng.integers(0, len(good), 400).tolist():
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        Path(stopped).write_bytes(bad)
        try:
            sol = CASES["dense"].run(checkpoint=stopped, resume=True)
        except ValueError as error:
            said = str(error)
        else:
            same(sol, undisturbed("dense"))
            continue
        assert said.startswith("`checkpoint`")
        assert Path(stopped).read_bytes() == bad
        refused += 1
    assert refused > 300


def test_an_array_that_several_fields_share_is_stored_once(stopped):
    with np.load(stopped) as file:  # without pickle
        names = set(file.files)
    assert {"header", "state.w", "state.r", "seen.nit"} <= names
    assert not {"state.at.w", "best.w", "progress.best"} & names


@pytest.mark.parametrize("name", ["a b/ü 日本.npz", "no ending", "-r", "with.two.dots", Path("path.npz")])
def test_names_of_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("a b")
    CASES["gd"].run(checkpoint=name, max_iter=20)
    assert header(name)["run"]["s"]["fields"]["nit"] == 20
    same(CASES["gd"].run(checkpoint=name, resume=True), undisturbed("gd"))
    assert not list(tmp_path.rglob("*.part"))


def test_a_run_that_changes_its_folder(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    case = CASES["gd"]
    same(case.run(checkpoint="run.npz", callback=lambda w: os.chdir(tmp_path / "other")), undisturbed("gd"))
    assert (tmp_path / "run.npz").exists()
    assert os.listdir(tmp_path / "other") == []


def test_a_link_stays_one(tmp_path):
    (tmp_path / "other").mkdir()
    link, file = tmp_path / "run.npz", tmp_path / "other" / "file.npz"
    link.symlink_to(file)
    for resume in (False, True):
        CASES["gd"].run(checkpoint=link, resume=resume, max_iter=20)
        assert link.is_symlink()
        assert os.listdir(tmp_path / "other") == ["file.npz"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
@pytest.mark.parametrize("resume", [False, True])
def test_devices_and_pipes_are_refused(resume, tmp_path):
    os.mkfifo(tmp_path / "run.npz")
    with pytest.raises(ValueError, match=r"^`checkpoint` must be the path of a file, but .* is a device or a pipe"):
        CASES["dense"].run(checkpoint=tmp_path / "run.npz", resume=resume)
    assert (tmp_path / "run.npz").is_fifo()


def test_a_run_without_resume_replaces_the_file(stopped):
    same(CASES["gd"].run(checkpoint=stopped, max_iter=60), undisturbed("gd"))
    assert header(stopped)["identity"]["method"] == "gd"


def test_resume_without_a_file_begins_anew(tmp_path):
    same(CASES["dense"].run(checkpoint=tmp_path / "none.npz", resume=True), undisturbed("dense"))
    assert os.listdir(tmp_path) == ["none.npz"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"resume": True}, ValueError, "`resume` needs a `checkpoint`"),
        ({"checkpoint": 3}, TypeError, "`checkpoint` must be the path of a file, got 3"),
        ({"checkpoint": b"run.npz"}, TypeError, "`checkpoint` must be the path"),
        ({"checkpoint": ""}, ValueError, "`checkpoint` must be the path"),
        ({"checkpoint": "a\0b"}, ValueError, "`checkpoint` must be the path"),
        ({"checkpoint": "."}, ValueError, "`checkpoint`.* is a folder"),
        ({"checkpoint": "no such folder/run.npz"}, ValueError, "`checkpoint`: there is no folder"),
        ({"checkpoint": "run.npz", "resume": "yes"}, TypeError, "`resume`"),
        ({"checkpoint_every": -1.0}, ValueError, "`checkpoint_every`"),
        ({"checkpoint_every": "often"}, TypeError, "`checkpoint_every`"),
    ],
)
@pytest.mark.parametrize("name", ["dense", "infer", "covariance"])
def test_arguments(name, arguments, error, words):
    with pytest.raises(error, match=words):
        CASES[name].run(**arguments)


# -- writing -----------------------------------------------------------------------------------------------------------


def often(monkeypatch):
    """Write at every place."""
    monkeypatch.setattr(_checkpoint, "SHARE", 1.0)
    return {"checkpoint_every": 0.0}


def test_it_is_written_at_most_so_often(tmp_path, monkeypatch):
    path, now, written = str(tmp_path / "run.npz"), [0.0], []
    monkeypatch.setattr(_checkpoint.time, "monotonic", lambda: now[0])

    def write(*args):
        written.append(now[0])
        now[0] += cost

    def callback(w):
        now[0] += 1.0

    monkeypatch.setattr(_archive, "write", write)
    for cost, every, times in (
        (0.0, 5.0, [5.0, 10.0, 15.0]),
        (0.0, 0.0, [1.0, 2.0, 3.0]),
        (0.1, 5.0, [5.0, 15.1, 25.2]),
        (0.2, 5.0, [5.0, 25.2, 45.4]),
    ):
        now[0], written[:] = 0.0, []
        CASES["gd"].run(checkpoint=path, callback=callback, checkpoint_every=every)
        np.testing.assert_allclose(written[:3], times)
        assert written[-1] >= 60.0
        assert cost * len(written) <= 0.01 * now[0] + 2 * cost


@pytest.mark.parametrize("failing", ["open", "replace", "fsync"])
@pytest.mark.parametrize("name", ["dense", "sgd", "infer"])
def test_where_it_cannot_be_written_the_run_goes_on_and_says_so_once(name, failing, tmp_path, monkeypatch):
    path, case, tried = str(tmp_path / "run.npz"), CASES[name], []

    def full(*args, **kwargs):
        tried.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if failing == "open":
            patched.setattr(_archive, "open", full, raising=False)
        else:
            patched.setattr(os, failing, full)
        with pytest.warns(UserWarning, match="No space left on device.*the run goes on") as told:
            sol = case.run(checkpoint=path, **often(patched))
    same(sol, undisturbed(name))
    assert len(told) == 1
    assert told[0].filename.endswith("stopped.py")
    assert len(tried) > 3
    assert os.listdir(tmp_path) == []


def test_it_is_written_again_once_that_is_possible(tmp_path, monkeypatch):
    folder = tmp_path / "inside"
    folder.mkdir()
    path, seen = str(folder / "run.npz"), []

    def callback(w):
        seen.append(1)
        if len(seen) == 3:
            shutil.rmtree(folder)
        if len(seen) == 10:
            folder.mkdir()
        if len(seen) == 20:
            os.remove(path)
        if len(seen) == 31:
            raise KeyboardInterrupt

    case = CASES["gd"]
    with pytest.warns(UserWarning, match="could not be written") as told, pytest.raises(KeyboardInterrupt):
        case.run(checkpoint=path, callback=callback, **often(monkeypatch))
    assert len(told) == 1
    assert len(header(path)["run"]["seen"]["fields"]) > 3
    same(case.run(checkpoint=path, resume=True), undisturbed("gd"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.warns(UserWarning, match="could not be written"):
            same(CASES["dense"].run(checkpoint=tmp_path / "run.npz"), undisturbed("dense"))
    finally:
        tmp_path.chmod(0o700)


def test_a_failure_to_write_does_not_hide_the_exception_that_ends_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda *args: (_ for _ in ()).throw(OSError("full")))
    interrupted, _, _ = counted(CASES["dense"], at_F=5)
    with pytest.raises(KeyboardInterrupt):  # warnings are errors here
        interrupted.run(checkpoint=tmp_path / "run.npz")


def test_killed_while_writing(stopped, monkeypatch):
    """The file of before stays, and what is left beside it is written over."""

    def killed(*args):
        raise SystemExit

    before = Path(stopped).read_bytes()
    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, killed)
            with pytest.raises(SystemExit):
                CASES["dense"].run(checkpoint=stopped, resume=True)
        assert Path(stopped).read_bytes() == before
        assert set(os.listdir(Path(stopped).parent)) == {"run.npz", "run.npz.part"}
    same(CASES["dense"].run(checkpoint=stopped, resume=True), undisturbed("dense"))
    assert os.listdir(Path(stopped).parent) == ["run.npz"]


def test_two_runs_that_write_at_the_same_time_leave_a_whole_file(stopped, monkeypatch):
    """While one run has written but not yet renamed, another one begins to write."""
    fsync, part = os.fsync, Path(f"{stopped}.part")

    def another(file):
        fsync(file)
        part.unlink()
        part.write_bytes(b"not complete")

    before = Path(stopped).read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", another)
        with pytest.warns(UserWarning, match="could not be written .another run writes it at the same time"):
            same(CASES["dense"].run(checkpoint=stopped, resume=True), undisturbed("dense"))
    assert Path(stopped).read_bytes() == before
    assert part.read_bytes() == b"not complete"
    same(CASES["dense"].run(checkpoint=stopped, resume=True), undisturbed("dense"))
    assert os.listdir(part.parent) == ["run.npz"]


SLOW = """
import sys, time
sys.path[:0] = [{tests!r}, {root!r}]
from test_checkpoint import CASES, Case

case = CASES[{name!r}]
def F(w, rows=None):
    time.sleep(0.02)
    return case.F(w) if rows is None else case.F(w, rows=rows)
Case(F, case.jac, case.w0, case.y, case.settings).run(checkpoint={path!r}, checkpoint_every=0.05)
"""


@pytest.mark.parametrize("name", ["heavy ball", "sgd, shuffled"])
def test_a_process_is_killed(name, tmp_path):
    """kill -9; benchmarks.checks.checkpoints does it a hundred times."""
    path, tests = str(tmp_path / "run.npz"), Path(__file__).parent
    code = SLOW.format(tests=str(tests), root=str(tests.parent), name=name, path=path)
    process = subprocess.Popen([sys.executable, "-c", code])
    while not os.path.exists(path) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() != 0, "it was over before"
    assert header(path)["run"]["s"]["fields"]["nit"] < undisturbed(name).nit
    same(CASES[name].run(checkpoint=path, resume=True), undisturbed(name))


# -- methods of the user's own -----------------------------------------------------------------------------------------


class Memory(NamedTuple):
    """A state with other fields."""

    w: np.ndarray
    r: np.ndarray
    past: tuple[Start, ...]
    notes: Any
    status: int = -100
    nit: int = 0
    step: float = 0.0
    checked: bool = True
    pl: float = -1.0
    beta_seen: float = 0.0


def polyak(problem, s):
    g = problem.linearise(s.w, s.r, False).adjoint(s.r)
    eta = (s.r @ s.r) / (g @ g)
    w = problem.project(s.w - eta * g)
    return s._replace(w=w, r=problem.residual(w), nit=s.nit + 1, step=eta * np.linalg.norm(g))


def remembering(problem, s):
    new = polyak(problem, s)
    past = (*s.past, Start(s.w, s.r, nit=s.nit))[-3:]
    w = new.w if len(past) < 3 else (new.w + past[0].w + past[-1].w) / 3.0
    return new._replace(w=w, r=problem.residual(w), past=past, notes={"mean": w.mean(), "kind": "of three"})


def own(monkeypatch, init, step, name="mine"):
    monkeypatch.setitem(OPTIONS, name, ())
    monkeypatch.setitem(METHODS, name, lambda problem, options, beta: Method(stages=[Stage(init, step)], limit=30))
    return Case(*plain(WIDE), {"method": name})


@pytest.mark.parametrize("notes", [None, np.arange(3.0), {"a": (1, None)}, np.float32(2.0), "text"])
def test_a_method_of_your_own_goes_on(notes, tmp_path, monkeypatch):
    def start(limit, problem, before):
        return Memory(problem.w0, problem.r0, (), notes)

    cases = (
        own(monkeypatch, start, remembering),
        own(monkeypatch, lambda limit, problem, before: Start(problem.w0, problem.r0), polyak, "other"),
    )
    for case in cases:
        whole = case.run()
        stop(case, "interrupt", 11, str(tmp_path / "run.npz"))
        same(case.run(checkpoint=tmp_path / "run.npz", resume=True), whole)


@pytest.mark.parametrize("notes", [object(), [1.0], {1: 2}, np.array(["a"]), lambda w: w, 1j])
def test_a_state_that_cannot_be_stored_is_refused_before_the_first_step(notes, tmp_path, monkeypatch):
    def start(limit, problem, before):
        return Memory(problem.w0, problem.r0, (), notes)

    case = own(monkeypatch, start, lambda problem, s: pytest.fail("a step"))
    with pytest.raises(TypeError, match=r"^`checkpoint` is not possible with the method 'mine': state\.notes"):
        case.run(checkpoint=tmp_path / "run.npz")
    assert os.listdir(tmp_path) == []


def test_a_state_that_cannot_be_stored_later_is_said_once(tmp_path, monkeypatch):
    def later(problem, s):
        new = polyak(problem, s)
        return new._replace(notes=object() if new.nit > 5 else None)

    case = own(monkeypatch, lambda limit, problem, before: Memory(problem.w0, problem.r0, (), None), later)
    with pytest.warns(UserWarning, match=r"could not be written \(state\.notes is of type object") as told:
        case.run(checkpoint=tmp_path / "run.npz", **often(monkeypatch))
    assert len(told) == 1
    assert header(tmp_path / "run.npz")["run"]["s"]["fields"]["nit"] == 5
