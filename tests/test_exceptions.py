"""An exception of F, jac or callback passes through as the same object and carries the best point as exc.best."""

import naive
import numpy as np
import problems
import pytest

from plsolve import Status, solve

METHODS = ["gauss-newton", "gd", "sgd"]
ERRORS = [RuntimeError("mine"), KeyboardInterrupt(), ValueError("w0"), np.linalg.LinAlgError("singular"),
          StopIteration("not from the callback"), FloatingPointError(), SystemExit(3), TypeError("shape")]  # fmt: skip
P = problems.kowalik_osborne()  # a residual stays: a run of many steps


def fail(where, at, error, method, **kwargs):
    """Run until `where` raises at call `at`; return the exception and the recorded F."""
    functions = {"F": naive.Recorded(P.F), "jac": naive.Recorded(P.jac), "callback": naive.Recorded(lambda w: None)}
    functions[where].error, functions[where].at = error, at
    F, jac, record = functions["F"], functions["jac"], functions["callback"]

    def callback(w):
        return record(w)

    options = {} if method == "gauss-newton" else {"step_size": 1e-3}
    with pytest.raises(type(error)) as failure:
        solve(F, jac, P.w0, method=method, callback=callback, rng=0, options=options, tol=1e-14, **kwargs)
    return failure.value, F, record


@pytest.mark.parametrize(
    ("where", "error"),
    [  # StopIteration of the callback stops the run: test_callback.py
        pytest.param(where, error, id=f"{where}-{type(error).__name__}")
        for where in ("F", "jac", "callback")
        for error in ERRORS
        if (where, type(error)) != ("callback", StopIteration)
    ],
)
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_the_same_object_passes_through(method, where, at, error):
    error.__traceback__ = error.__context__ = None
    error.__dict__.pop("best", None)
    text = str(error)
    raised, F, steps = fail(where, at, error, method)
    assert raised is error
    assert str(raised) == text
    assert raised.__cause__ is None
    best = raised.best
    assert type(best) is np.ndarray
    assert best.shape == (4,)
    assert best.dtype == np.float64
    assert any(np.array_equal(best, w) for w in [P.w0, *F.points]), "a point that was never tried"
    reached = [naive.loss(P.F(w)) for w in [P.w0, *steps.points]]
    if method != "sgd":  # sgd knows the whole loss once an epoch only
        assert naive.loss(P.F(best)) <= min(reached) * (1 + 1e-12)
    assert naive.loss(P.F(best)) <= reached[0] * (1 + 1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("where", ["F", "jac"])
def test_at_the_very_first_call_the_best_is_the_start(where, method):
    raised, _, _ = fail(where, 1, RuntimeError(), method)
    np.testing.assert_array_equal(raised.best, P.w0)


def test_best_is_a_copy_that_cannot_touch_the_input():
    raised, _, _ = fail("F", 1, RuntimeError(), "gauss-newton")
    assert not np.shares_memory(raised.best, P.w0)


@pytest.mark.parametrize("at", range(2, 9))
def test_interrupt_at_any_call_keeps_what_was_reached(at):
    """With analytic jac every call of F is a point of interest: the best of all of them is kept."""
    raised, F, _ = fail("F", at, KeyboardInterrupt(), "gauss-newton")
    assert naive.loss(P.F(raised.best)) <= min(naive.loss(r) for r in F.values) * (1 + 1e-12)


@pytest.mark.parametrize("mode", [None, "2-point", "3-point", "cs"])
@pytest.mark.parametrize("at", [1, 2, 4, 12])
def test_while_differencing(mode, at):
    p = problems.tanh_system(3, 6)
    error = RuntimeError()
    F = naive.Recorded(p.F, error=error, at=at)
    with pytest.raises(RuntimeError) as failure:
        solve(F, mode, p.w0, tol=1e-14)
    assert failure.value is error
    assert error.best.shape == (6,)
    assert error.best.dtype == np.float64
    assert naive.loss(p.F(error.best)) <= naive.loss(p.F(p.w0))


def test_function_that_returns_both():
    error = RuntimeError()
    F = naive.Recorded(lambda w: (P.F(w), P.jac(w)), error=error, at=3)
    with pytest.raises(RuntimeError) as failure:
        solve(F, True, P.w0)
    assert failure.value is error
    assert error.best.shape == (4,)


@pytest.mark.parametrize("product", ["_matvec", "_rmatvec"])
def test_inside_an_operator(product):
    p = problems.tanh_system(3, 6)
    error = RuntimeError("product")

    class Failing(problems.Operator):
        pass

    def refuse(self, v):
        raise error

    setattr(Failing, product, refuse)
    with pytest.raises(RuntimeError) as failure:
        solve(p.F, lambda w: Failing(p.jac(w)), p.w0, method="gd")
    assert failure.value is error
    assert error.best.shape == (6,)


class ClosedError(Exception):
    """An exception that takes no attributes."""

    def __setattr__(self, name, value):
        raise AttributeError("closed")


@pytest.mark.parametrize("where", ["F", "jac", "callback"])
def test_exception_that_takes_no_attributes(where):
    error = ClosedError("kept")
    raised, _, _ = fail(where, 2, error, "gauss-newton")
    assert raised is error
    assert not hasattr(raised, "best")


def test_partial_calls_of_sgd():
    A = problems.matrix(20, 40)
    error = RuntimeError()
    calls = 0

    def F(w, rows=None):
        nonlocal calls
        calls += 1
        if calls == 30:
            raise error
        return A @ w if rows is None else A[rows] @ w

    with pytest.raises(RuntimeError) as failure:
        solve(F, lambda w, rows=None: A if rows is None else A[rows], np.zeros(40), np.ones(20), method="sgd",
              rng=0, options={"batch_size": 2})  # fmt: skip
    assert failure.value is error
    assert error.best.shape == (40,)
    assert naive.loss(A @ error.best - 1) <= naive.loss(-np.ones(20))


def test_a_later_run_is_not_disturbed():
    fail("F", 3, RuntimeError(), "gauss-newton")
    assert solve(P.F, P.jac, P.w0).status == Status.STATIONARY
