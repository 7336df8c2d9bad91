"""scipy's protocol: callback(intermediate_result) by that name, callback(w) by any other; StopIteration stops."""

import naive
import numpy as np
import problems
import pytest
from scipy.optimize import OptimizeResult

from plsolve import Status, solve

METHODS = ["gauss-newton", "gd", "sgd"]
P = problems.kowalik_osborne()  # a residual stays: a run of many steps
OPTIONS = {"gauss-newton": {}, "gd": {"step_size": 1e-3}, "sgd": {"step_size": 1e-3, "batch_size": 6}}


def run(method, callback, **kwargs):
    return solve(P.F, P.jac, P.w0, method=method, callback=callback, rng=0, options=OPTIONS[method],
                 **({"max_iter": 6, "tol": 1e-14} | kwargs))  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_by_name_it_gets_a_result(method):
    seen = []

    def callback(intermediate_result):
        seen.append(intermediate_result)

    sol = run(method, callback)
    assert seen
    for state in seen:
        assert isinstance(state, OptimizeResult)
        assert state.x.shape == (4,)
        assert isinstance(state.nit, (int, np.integer))
        if method != "sgd":
            np.testing.assert_allclose(state.cost, naive.loss(P.F(state.x)), rtol=1e-10)
            np.testing.assert_allclose(state.fun, P.F(state.x), rtol=1e-10, atol=1e-14)
    counts = [state.nit for state in seen]
    assert counts == sorted(counts)
    assert counts[-1] == sol.nit


@pytest.mark.parametrize("method", METHODS)
def test_keyword_only_name(method):
    seen = []

    def callback(*, intermediate_result):
        seen.append(intermediate_result.x)

    run(method, callback)
    assert seen


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["w", "x", "xk"])
def test_by_any_other_name_it_gets_the_point(method, name):
    seen = []
    callback = eval(f"lambda {name}: seen.append({name})", {"seen": seen})
    run(method, callback)
    assert all(type(w) is np.ndarray and w.shape == (4,) for w in seen)
    assert seen


@pytest.mark.parametrize("callback", [[].append, print, type("C", (), {"__call__": lambda self, w: None})()])
def test_callables_of_other_kinds(callback, capsys):
    assert run("gauss-newton", callback).nit > 0
    capsys.readouterr()


@pytest.mark.parametrize("method", METHODS)
def test_once_an_iteration(method):
    seen = []
    sol = run(method, lambda w: seen.append(w.copy()))
    epoch = 2 if method == "sgd" else 1  # eleven equations in batches of six: sgd reports once an epoch
    assert len(seen) in {sol.nit // epoch, sol.nit // epoch + 1}
    assert len({w.tobytes() for w in seen}) == len(seen), "the same point twice"
    if method != "sgd":
        np.testing.assert_array_equal(seen[-1], sol.x)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("k", [1, 2, 4])
def test_stop_iteration(method, k):
    calls = naive.Recorded(lambda w: None, error=StopIteration(), at=k)
    seen = []

    def callback(w):
        seen.append(w.copy())
        calls(w)

    sol = run(method, callback, max_iter=50)
    assert sol.status == Status.CALLBACK, sol.message
    assert not sol.success
    assert calls.calls == k
    assert sol.nit <= (2 * k if method == "sgd" else k)
    if method == "sgd":
        assert naive.loss(P.F(sol.x)) <= naive.loss(P.F(P.w0))
    else:
        best = min([P.w0, *seen], key=lambda w: naive.loss(P.F(w)))
        np.testing.assert_array_equal(sol.x, best)
    np.testing.assert_allclose(sol.fun, P.F(sol.x), rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_what_it_returns_does_not_matter(method):
    assert run(method, lambda w: True).nit == run(method, lambda w: None).nit > 1


@pytest.mark.parametrize("method", METHODS)
def test_what_it_does_to_its_arrays_does_not_matter(method):
    def rude(intermediate_result):
        for value in intermediate_result.values():
            if isinstance(value, np.ndarray) and value.flags.writeable:
                value[...] = np.nan
        intermediate_result.clear()

    def ruder(w):
        if w.flags.writeable:
            w[:] = np.nan

    plain = run(method, None)
    for callback in (rude, ruder):
        sol = run(method, callback)
        np.testing.assert_array_equal(sol.x, plain.x)
        np.testing.assert_array_equal(sol.history.loss, plain.history.loss)


@pytest.mark.parametrize("method", METHODS)
def test_points_that_it_keeps_do_not_change(method):
    kept, copies = [], []

    def callback(w):
        kept.append(w)
        copies.append(w.copy())

    run(method, callback)
    for w, c in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(w, c)


@pytest.mark.parametrize("method", METHODS)
def test_watching_does_not_change_the_run(method):
    plain = run(method, None)
    watched = run(method, lambda intermediate_result: None)
    assert plain.x.tobytes() == watched.x.tobytes()
    assert (plain.nit, plain.nfev, plain.njev) == (watched.nit, watched.nfev, watched.njev)


def test_not_called_when_there_is_no_iteration():
    seen = []
    run("gauss-newton", seen.append, max_iter=0)
    assert len(seen) <= 1


STOPPED = {  # systems without a solution, and where the run ends
    "a circle": (lambda w: np.array([w[0] ** 2 + 1 + 0 * w[1]]), [1.0, 2.0], Status.STATIONARY),
    "two equations": (lambda w: np.array([w @ w + 0.1, np.sin(w[0])]), [1.0, 2.0, 1.0], Status.STATIONARY),
    "square": (lambda w: np.array([w @ w + 0.1, np.sin(w[0]), w[1]]), [1.0, 2.0, 1.0], Status.STATIONARY),
    "a fit": (P.F, P.w0, Status.STATIONARY),
}


@pytest.mark.parametrize("case", STOPPED)
def test_stopping_in_the_last_iteration_is_stopping(case):
    """Also where that iteration would have ended the run with another verdict."""
    F, w0, ended = STOPPED[case]
    seen = []
    assert solve(F, None, w0, method="gauss-newton", callback=lambda w: seen.append(w)).status == ended
    last = len(seen)

    def stop(w):
        seen.append(w)
        if len(seen) == 2 * last:
            raise StopIteration

    sol = solve(F, None, w0, method="gauss-newton", callback=stop)
    assert sol.status == Status.CALLBACK
    assert len(seen) == 2 * last
    assert not sol.success


@pytest.mark.parametrize("callback", [max, np.sum, str, dict.fromkeys])
def test_builtin_callbacks_that_tell_nothing_of_their_arguments(callback):
    sol = run("gauss-newton", callback)
    assert sol.x.tolist() == run("gauss-newton", None).x.tolist()
