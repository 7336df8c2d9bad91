"""Whatever F, jac and callback do at whichever call: nothing is lost, nothing untrue is said."""

import numpy as np
import pytest
import scipy.sparse as sps

from benchmarks.checks import faults
from benchmarks.checks.fault_cases import case
from benchmarks.checks.fault_runs import Operator
from plsolve import Status, curve_fit, infer, least_squares, root, solve, solve_batch

A = np.random.default_rng(0).standard_normal((4, 9)) / 3
Y = np.full(4, 2.0)


def F(w):
    return np.tanh(A @ w) + A @ w


def jac(w):
    return (2 - np.tanh(A @ w) ** 2)[:, None] * A


@pytest.mark.parametrize("hundred", range(10))
@pytest.mark.filterwarnings("ignore")
def test_injected(hundred):
    """A thousand runs of benchmarks/checks/faults.py, which says what is tried."""
    with np.errstate(all="ignore"):
        broken = {
            seed: found for seed in range(100 * hundred, 100 * (hundred + 1)) if (found := faults.broken(case(seed)))
        }
    assert not broken


@pytest.mark.parametrize("seed", [1123233, 1146847, 2008456])
def test_found_by_longer_runs(seed):
    """A rejected trial that is the best point; a step that is cut in a corner; a kernel out of range."""
    assert not faults.broken(case(seed))


def test_what_is_injected_would_be_seen(monkeypatch):
    """The check can fail: it does where solve loses a point, miscounts, and reorders its history."""
    real = solve

    def lossy(F, jac, w0, *args, **settings):
        sol = real(F, jac, w0, *args, **settings)
        sol["x"] = sol.x + 1.0
        sol["nfev"] += 1
        sol["history"] = sol.history._replace(nit=-sol.history.nit)
        return sol

    monkeypatch.setattr("benchmarks.checks.fault_runs.solve", lossy)
    plain = [seed for seed in range(60) if case(seed).door == "solve" and case(seed).fault.what == "none"]
    found = {what.split()[0] for seed in plain for what in faults.broken(case(seed))}
    assert {"x", "nfev", "history.nit"} <= found


# -- after the run ----------------------------------------------------------------------------------------------------

FIRST_ORDER = [("gd", {}), ("gd", {"momentum": "nesterov"}), ("sgd", {}), ("sgd", {"batch_size": 2, "rows": "uniform"})]


class At:
    """jac, that goes wrong at one call; 0: at none."""

    def __init__(self, at, what, kind=np.asarray):
        self.at, self.what, self.kind, self.calls = at, what, kind, 0

    def __call__(self, w):
        self.calls += 1
        if self.calls == self.at and isinstance(self.what, BaseException):
            raise self.what
        return self.kind(np.full((4, 9), self.what) if self.calls == self.at else jac(w))


@pytest.mark.parametrize("kind", [np.asarray, sps.csr_array, Operator])
@pytest.mark.parametrize(("method", "options"), FIRST_ORDER)
def test_a_forecast_that_fails_loses_nothing(method, options, kind):
    """The last Jacobian of such a run is the forecast's (steps on blocks of rows need none for theirs)."""
    run = {"method": method, "options": options, "max_iter": 5, "rng": 0, "tol": 1e-14}
    whole = At(0, 0.0, kind)
    clean = solve(F, whole, np.zeros(9), Y, **run)
    assert clean.status == Status.MAX_ITER
    for value in (np.nan, np.inf, 1e300):
        sol = solve(F, At(whole.calls, value, kind), np.zeros(9), Y, **run)
        assert sol.status == Status.MAX_ITER
        assert np.isnan(sol.forecast)
        assert "No forecast: " in sol.message
        np.testing.assert_array_equal(sol.x, clean.x)
    for error in (RuntimeError("sensor lost"), KeyboardInterrupt(), ValueError("infs")):
        with pytest.raises(type(error)) as failure:
            solve(F, At(whole.calls, error, kind), np.zeros(9), Y, **run)
        assert failure.value is error
        np.testing.assert_array_equal(error.best, clean.x)


def fitted(method):
    def call(jac):
        def model(x, *w):
            return F(np.array(w))

        return curve_fit(model, np.arange(4.0), Y, np.zeros(9), jac=lambda x, *w: jac(np.array(w)), method=method)

    return call


DOORS = {
    "solve": lambda jac: solve(F, jac, np.zeros(9), 5 * Y, beta=3.0, bounds=(-1, 1)),
    "least_squares": lambda jac: least_squares(lambda w: F(w) - Y, np.zeros(9), jac),
    "root": lambda jac: root(lambda w: F(w) - Y, np.zeros(9), jac=jac),
    "curve_fit lm": fitted("lm"),
    "curve_fit trf": fitted("trf"),
}


def ended(call, jac):
    """What a call returns, and what it raises."""
    try:
        return call(jac), None
    except BaseException as error:  # noqa: BLE001 - whatever was injected
        return None, error


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("error", [RuntimeError("sensor lost"), KeyboardInterrupt(), SystemExit(2)])
@pytest.mark.filterwarnings("ignore")
def test_an_exception_at_any_jacobian_carries_the_best_point(door, error):
    whole = At(0, 0.0)
    DOORS[door](whole)
    assert whole.calls > 2
    for at in range(1, whole.calls + 1):
        error.__dict__.pop("best", None)
        assert ended(DOORS[door], At(at, error))[1] is error
        assert np.linalg.norm(F(error.best) - Y) <= np.linalg.norm(F(np.zeros(9)) - Y)


@pytest.mark.parametrize("error", [KeyError("lost"), np.linalg.LinAlgError("lost"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("name", ["jac", "grad", "optimality", "kernel", "certificate"])
@pytest.mark.parametrize("raises", ["F", "jac"])
@pytest.mark.filterwarnings("ignore:.*is contradicted by F")
def test_an_exception_of_what_is_computed_on_request_passes(raises, name, error):
    """A result says neither that there is no such entry nor that there is no certificate."""
    failing = []

    def called(f, own):
        def function(w):
            if own in failing:
                raise error
            return f(w)

        return function

    sol = solve(called(F, "F"), called(jac, "jac"), np.zeros(9), Y)
    message = sol.message
    failing.append(raises)
    if raises == "F" and name != "certificate":
        assert sol.get(name) is not None
        return
    for read in (lambda: sol[name], lambda: getattr(sol, name), lambda: sol.get(name)):
        with pytest.raises(type(error)) as failure:
            read()
        assert failure.value is error
        np.testing.assert_array_equal(error.best, sol.x)
    assert sol.message == message
    failing.clear()
    assert sol[name] is not None


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.filterwarnings("ignore")
def test_a_jacobian_that_is_not_finite_at_any_call(door, value):
    """A ValueError that says so, at w0; then a result, or scipy's way to say that a fit failed."""
    whole = At(0, 0.0)
    DOORS[door](whole)
    for at in range(1, whole.calls + 1):
        result, raised = ended(DOORS[door], At(at, value))
        if at == 1 and value != 1e300:
            assert isinstance(raised, ValueError)
            assert "must be finite" in str(raised)
        elif result is None:
            assert door.startswith("curve_fit")
            assert type(raised) is RuntimeError
            assert "Optimal parameters not found" in str(raised)


class Bar:
    """A progress bar whose terminal is gone."""

    def __init__(self, at):
        self.n, self.at, self.calls = 0.0, at, 0

    def set_description_str(self, text):
        self.calls += 1
        if self.calls == self.at:
            raise BrokenPipeError("terminal")

    def close(self):
        raise BrokenPipeError("terminal")


@pytest.mark.parametrize("at", [1, 2, 0])
@pytest.mark.parametrize(
    "call",
    [
        lambda **more: solve(F, jac, np.zeros(9), Y, **more),
        lambda **more: solve(F, jac, np.zeros(9), Y, method="gd", max_iter=5, **more),
        lambda **more: infer(F, jac, np.zeros(9), Y, noise=0.1, **more),
    ],
    ids=["gauss-newton", "gd", "infer"],
)
def test_a_bar_that_fails_loses_nothing(monkeypatch, call, at):
    clean = call()
    monkeypatch.setattr("plsolve._pictures.progress.new_bar", lambda **settings: Bar(at))
    with pytest.raises(BrokenPipeError) as failure:
        call(progress=True)
    if at != 1:
        np.testing.assert_array_equal(failure.value.best, clean.x)


class Sealed(Exception):  # noqa: N818
    """An exception that takes no attributes."""

    def __setattr__(self, name, value):
        if name == "best":
            raise AttributeError(name)
        super().__setattr__(name, value)


@pytest.mark.parametrize("at", [1, 2, 7])
def test_an_exception_without_attributes_passes(at):
    calls, error = [], Sealed("lost")

    def fails(w):
        calls.append(w)
        if len(calls) >= at:
            raise error
        return F(w)

    for call in (
        lambda: solve(fails, jac, np.zeros(9), Y),
        lambda: solve(fails, jac, np.zeros(9), Y, x_scale=np.eye(9) + 0.1),
        lambda: infer(fails, jac, np.zeros(9), Y, noise=0.1),
        lambda: root(lambda w: fails(w) - Y, np.zeros(9), jac=jac),
        lambda: least_squares(lambda w: fails(w) - Y, np.zeros(9), jac),
        lambda: solve_batch(fails, jac, np.zeros((2, 9)), Y, rng=0) if at == 1 else fails(np.zeros(9)),
    ):
        calls.clear()
        while len(calls) < at - 1:
            calls.append(0)
        assert ended(lambda _, call=call: call(), None)[1] is error


# -- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["gauss-newton", "gd", "sgd"])
@pytest.mark.parametrize("jacobian", [jac, None, "2-point"])
@pytest.mark.parametrize("scale", [1.0, np.eye(9) + 0.1, 2.0 * np.eye(9)], ids=["plain", "correlated", "diagonal"])
def test_every_call_is_counted_in_a_metric(method, jacobian, scale):
    calls = []

    def counted(w):
        calls.append(w)
        return F(w)

    sol = solve(counted, jacobian, np.zeros(9), Y, x_scale=scale, method=method, max_iter=20, rng=0)
    assert sol.nfev + sol.nfev_jac == len(calls)


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restarts", [0, 2])
@pytest.mark.parametrize("at", [1, 2, 9, 20, 33])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_a_batch_that_is_interrupted_carries_the_best_points(error, at, restarts):
    error.__dict__.pop("best", None)
    calls, W0 = [], np.random.default_rng(1).standard_normal((4, 2))
    targets = np.array([[4.0], [-1.0], [9.0], [-2.0]])  # two have no solution

    def f(w):
        calls.append(w)
        if len(calls) == at:
            raise error
        return w[:1] ** 2 + w[1:] ** 2

    with pytest.raises(type(error)) as failure:
        solve_batch(f, None, W0, targets, restarts=restarts, rng=0, compiled=False)
    assert failure.value is error
    assert error.best.shape == W0.shape
    before = np.abs((W0**2).sum(axis=1) - targets.ravel())
    assert (np.abs((error.best**2).sum(axis=1) - targets.ravel()) <= before + 1e-12).all()
    if at > 20:
        assert abs((error.best[0] ** 2).sum() - 4.0) < 1e-6, "what was solved is kept"


# -- what counts upwards ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jacobian", ["2-point", "3-point", None])
@pytest.mark.parametrize(
    ("method", "options"),
    [("gd", {"momentum": "heavy-ball"}), ("gd", {"step_size": "polyak"}), ("sgd", {"batch_size": 2}), ("auto", {})],
)
def test_time_that_ends_among_differences_does_not_turn_the_history_back(monkeypatch, method, options, jacobian):
    B = np.random.default_rng(0).standard_normal((3, 3))
    y = np.tanh(B @ np.ones(3))
    for last in range(4, 60, 3):
        now, nits = [0.0], []
        monkeypatch.setattr("time.monotonic", lambda now=now: now[0])

        def f(w, now=now):
            now[0] += 1.0
            return np.tanh(B @ w)

        def callback(intermediate_result, nits=nits):
            nits.append(intermediate_result.nit)

        sol = solve(
            f, jacobian, np.zeros(3), y, method=method, options=options, rng=0, max_time=float(last), callback=callback
        )
        assert (np.diff(nits) > 0).all()
        assert (np.diff(sol.history.nit) > 0).all()
        assert sol.history.nit[-1] == sol.nit
        assert not nits or nits[-1] <= sol.nit


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["lm", "trf"])
@pytest.mark.filterwarnings("ignore")
def test_a_full_output_where_the_last_jacobian_is_not_finite(method, value):
    x = np.linspace(0.0, 1.0, 7)

    def model(x, a, b):
        return a * np.exp(b * x)

    calls = []

    def slopes(x, a, b):
        calls.append(a)
        J = np.column_stack([np.exp(b * x), a * x * np.exp(b * x)])
        return J * value if len(calls) == last else J

    last = 0
    curve_fit(model, x, model(x, 2.0, -1.0), [1.0, 1.0], jac=slopes, method=method, full_output=True)
    for last in range(2, len(calls) + 1):  # noqa: B007 - slopes reads it
        calls.clear()
        try:
            fit = curve_fit(model, x, model(x, 2.0, -1.0), [1.0, 1.0], jac=slopes, method=method, full_output=True)
        except RuntimeError as error:
            assert "Optimal parameters not found" in str(error)  # noqa: PT017
        else:
            np.testing.assert_allclose(fit[0], [2.0, -1.0], rtol=1e-3)
