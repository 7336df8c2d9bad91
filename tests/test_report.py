"""`Result.report` and the picture of the uncertainty."""

import pickle

import matplotlib as mpl
import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import aslinearoperator

from plsolve import Status, infer, least_squares, root, solve

mpl.use("agg")
X = np.linspace(0, 4, 40)


def decay(w):
    return w[0] * np.exp(-w[1] * X) + w[2]


DATA = decay([2.5, 1.3, 0.2]) + 0.05 * np.sin(70 * X)


def fit(**given):
    return infer(decay, None, [1.0, 1.0, 0.0], DATA, **({"noise": 0.05, "prior": [2.0, 2.0, 0.01]} | given))


def test_of_a_fit():
    text = fit().report(["height", "rate", "base"])
    u = fit().uncertainty()
    for said in (
        "CONVERGED: Converged: the most probable parameters",
        f"chi-square          {u.chi2:.6g} of 40 data",
        f"rank                {u.rank} of 3 directions",
        "prior +/- 0.01",
        f"+/- {u.std(0)[0]:.3g}",
        "rate, base: +0.",
    ):
        assert said in text, said
    assert "hardly determined" not in text


def test_says_what_the_data_do_not_determine():
    sol = infer(lambda w: [w[0] + 1e-3 * w[1]], None, [0.0, 0.0, 0.0], [1.0], noise=0.1)
    assert "hardly determined by the data: b, c" in sol.report(names=["a", "b", "c"])


def test_of_a_solution_it_needs_the_noise():
    A = np.random.default_rng(0).standard_normal((5, 60))
    sol = solve(lambda w: A @ np.sin(w), lambda w: A * np.cos(w), np.zeros(60), np.ones(5))
    plain = sol.report()
    assert "certificate  A solution of F(w)=y lies within" in plain
    assert "kappa" in plain
    assert "parameters" not in plain
    known = sol.report(noise=0.1)
    assert "and 50 more" in known
    assert "rank                5 of 60" in known


def test_of_least_squares_the_residual_tells_the_noise():
    """The standard deviations of lmfit and of curve_fit."""
    from plsolve import curve_fit

    res = least_squares(lambda w: decay(w) - DATA, [1.0, 1.0, 0.0])
    _, pcov = curve_fit(lambda x, *w: decay(w), X, DATA, [1.0, 1.0, 0.0])
    text = res.report(["a", "b", "c"])
    for value in np.sqrt(np.diag(pcov)):
        assert f"+/- {value:.3g} (" in text
    assert "noise" in text
    assert "certificate" not in text
    redundant = least_squares(lambda w: decay([w[0], w[1], w[2] + w[3]]) - DATA, [1.0, 1.0, 0.0, 0.0])
    assert "hardly determined by the data: w[2], w[3]" in redundant.report()


A = np.random.default_rng(0).standard_normal((20, 60)) / 8


def sinh(w):
    return np.sinh(A @ w)


def cosh(w):
    return np.cosh(A @ w)[:, None] * A


def with_one_row_turned(w):
    J = cosh(w)
    J[3] *= -1.0
    return J


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, aslinearoperator])
@pytest.mark.parametrize("bounds", [None, (-0.3, 0.3)])
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_a_wrong_jacobian_is_told_by_its_equation(form, bounds, size):
    """In any units of F, at the start (which is 0) and at a bound."""
    kept = {"y": np.full(20, size), "bounds": bounds, "max_iter": 3}
    sol = solve(lambda w: size * sinh(w), lambda w: form(size * with_one_row_turned(w)), np.zeros(60), **kept)
    assert not sol.success
    assert "%, most in equation 3 (of 0, 1, ...): it is wrong, or F is noisy or not smooth" in sol.report()
    right = solve(lambda w: size * sinh(w), lambda w: form(size * cosh(w)), np.zeros(60), **kept | {"max_iter": 0})
    assert "jac agrees with differences of F at x" in right.report()


@pytest.mark.parametrize(("jac", "pointed"), [(with_one_row_turned, True), (None, False)])
def test_the_message_of_a_stalled_run_points_to_the_comparison(jac, pointed):
    noise = np.random.default_rng(0)
    size = 1e-4 if jac is None else 0.0
    sol = solve(lambda w: sinh(w) + size * noise.standard_normal(20), jac, np.zeros(60), np.ones(20))
    assert sol.status == Status.STALLED
    assert sol.message.endswith(" `report()` compares `jac` with differences of F.") == pointed


def test_the_jacobian_is_compared_only_where_it_is_the_users_and_the_system_is_not_solved():
    solved, differenced = solve(sinh, cosh, np.zeros(60)), solve(sinh, None, np.zeros(60), np.ones(20), max_iter=0)
    unsolved = solve(sinh, cosh, np.zeros(60), np.ones(20), max_iter=0)
    assert "jacobian " in unsolved.report()
    unpickled = pickle.loads(pickle.dumps(unsolved))
    for sol in (solved, differenced, unpickled):
        assert "jacobian " not in sol.report()


def test_a_flat_or_undefined_function_is_no_wrong_jacobian():
    flat = solve(lambda w: [0.0 * w[0] + 1e3], lambda w: np.zeros((1, 2)), np.ones(2), max_iter=0)
    assert "jac agrees" in flat.report()
    beside = solve(lambda w: np.where(w == 1.0, w, np.nan), lambda w: np.eye(2), np.ones(2), max_iter=0)
    assert "F is not finite close to x" in beside.report()
    noise = np.random.default_rng(0)
    noisy = solve(lambda w: w[:2] + noise.standard_normal(2), lambda w: np.eye(2, 3), np.ones(3), max_iter=0)
    assert "jac differs from differences of F at x by" in noisy.report()


def test_single_precision_is_no_wrong_jacobian():
    sol = solve(lambda w: sinh(w).astype(np.float32), cosh, np.full(60, 0.1), np.ones(20), max_iter=0)
    assert "jac agrees" in sol.report()


def test_huge_residuals_and_messages_of_several_lines():
    huge = solve(lambda w: w + 1e200, lambda w: np.eye(2), np.ones(2), max_iter=0).report()
    assert "  cost        inf" in huge
    stuck = root(lambda w: [w[0] ** 2 + 1, w[1]], [1.0, 1.0], jac=lambda w: [[2 * w[0], 0.0], [0.0, 1.0]]).report()
    assert "not making good progress, as measured by the improvement from the last ten iterations.\n  iter" in stuck


def test_of_root_and_of_pickles():
    assert "equations   2" in root(lambda w: [w[0] - 1, w[1] + w[0] ** 2], [0.0, 0.0]).report()
    sol = fit()
    text = sol.report()
    assert pickle.loads(pickle.dumps(sol)).x.size == 3
    assert "w[2]" in text


@pytest.mark.parametrize("names", [["a"], "abc", ["a", "b", "c", "d"]])
def test_names_are_one_for_each_parameter(names):
    with pytest.raises(ValueError, match="`names` must be 3 names"):
        fit().report(names)


def test_picture():
    ax = fit().plot("uncertainty")
    before, after = (line.get_ydata() for line in ax.lines)
    np.testing.assert_allclose(before, [2.0, 2.0, 0.01])
    assert (after < before).all()
    assert len(ax.figure.axes) == 2
    ax.figure.canvas.draw()
    mine = mpl.figure.Figure().subplots()
    assert fit().uncertainty().plot(mine) is mine
    assert len(mine.figure.axes) == 1
    with pytest.raises(ValueError, match="`noise` must be given"):
        least_squares(lambda w: decay(w) - DATA, [1.0, 1.0, 0.0]).plot("uncertainty")
