"""Products of J, of the prior and of the map of `workers` that go wrong: refused by name, or passed on as they are."""

import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator

from plsolve import Status, infer, least_squares, solve, tangent_kernel

A = np.random.default_rng(0).standard_normal((4, 9)) / 3
TALL = np.random.default_rng(1).standard_normal((9, 4)) / 3
EVERY = ("matvec", "rmatvec", "gram")


class Faulty(LinearOperator):
    """J, one product of which goes wrong at one call."""

    def __init__(self, J, name="", at=0, change=None, calls=None):
        self.J, self.name, self.at, self.change = J, name, at, change
        self.calls = [0] if calls is None else calls
        super().__init__(float, J.shape)

    def changed(self, name, value):
        self.calls[0] += name == self.name
        if name == self.name and self.calls[0] == self.at:
            return self.change(value)
        return value

    def _matvec(self, v):
        return self.changed("matvec", self.J @ v.ravel())

    def _rmatvec(self, z):
        return self.changed("rmatvec", self.J.T @ z.ravel())


class FaultyGram(Faulty):
    def gram(self):
        return self.changed("gram", self.J @ self.J.T)


def solved(M, name, at, change, method="gauss-newton", kind=FaultyGram, **options):
    """A run with an operator whose products go wrong; returns the result and how often that product was called."""
    calls = [0]

    def F(w):
        z = M @ w
        return z + 0.7 * np.sin(z)

    def jac(w):
        return kind((1 + 0.7 * np.cos(M @ w))[:, None] * M, name, at, change, calls)

    y = F(np.full(M.shape[1], 0.8))
    sol = solve(F, jac, np.zeros(M.shape[1]), y, method=method, options=options, max_iter=20, rng=0)
    return sol, calls[0]


def fails(error):
    def change(value):
        raise error

    return change


METHODS = [("gauss-newton", {}), ("gauss-newton", {"linear_solver": "cg"}), ("gd", {}), ("sgd", {"batch_size": 2})]


@pytest.mark.parametrize("M", [A, TALL], ids=["n < m", "n > m"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize(
    "error", [NotImplementedError("lost"), ValueError("lost"), TypeError("lost"), KeyError("lost")]
)
def test_exceptions_of_products_pass(M, name, method, options, error):
    _, calls = solved(M, name, 0, None, method, **options)
    for at in sorted({1, 2, calls // 2, calls} & set(range(1, calls + 1))):
        error.__dict__.pop("best", None)
        with pytest.raises(type(error)) as failure:
            solved(M, name, at, fails(error), method, **options)
        assert failure.value is error
        assert error.best.shape == (M.shape[1],)


@pytest.mark.parametrize("M", [A, TALL], ids=["n < m", "n > m"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(complex),
        lambda x: np.full(x.shape, None),
        lambda x: np.concatenate([x, x]),
        lambda x: x.astype("datetime64[s]"),
    ],
    ids=["complex", "None", "twice as long", "dates"],
)
def test_products_of_another_type_or_shape_are_refused_by_name(M, name, method, options, change):
    _, calls = solved(M, name, 0, None, method, **options)
    for at in sorted({1, 2, calls // 2, calls} & set(range(1, calls + 1))):
        with pytest.raises((TypeError, ValueError), match=r"\bjac\b"):
            solved(M, name, at, change, method, **options)


@pytest.mark.parametrize("M", [A, TALL, TALL[:, :1]], ids=["n < m", "n > m", "m = 1"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.filterwarnings("ignore")
def test_products_that_are_not_finite_end_no_run_with_an_exception(M, name, value, method, options):
    """Nor do they keep one from ending: with -inf in J^T r the step is infinite."""
    _, calls = solved(M, name, 0, None, method, **options)
    for at in range(1, calls + 1, 1 + calls // 12):
        sol, _ = solved(M, name, at, lambda x: np.full_like(x, value), method, **options)
        assert not sol.success or np.linalg.norm(sol.fun) <= 1e-8


@pytest.mark.parametrize("M", [A, TALL], ids=["n < m", "n > m"])
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_products_may_fill_the_same_array_again(M, method, options):
    class Reused(Faulty):
        buffers = {}  # noqa: RUF012

        def changed(self, name, value):
            buffer = self.buffers.setdefault((name, value.shape), np.empty_like(value))
            buffer[...] = value
            return buffer

    (sol, _), (other, _) = (solved(M, "", 0, None, method, kind, **options) for kind in (Reused, Faulty))
    assert sol.x.tobytes() == other.x.tobytes()
    assert sol.kernel.eigenvalues.tobytes() == other.kernel.eigenvalues.tobytes()
    assert sol.certificate == other.certificate


@pytest.mark.parametrize("K", [np.eye(3), np.eye(4) * 1j, "abc", None])
def test_a_kernel_of_another_shape_or_type_is_refused(K):
    with pytest.raises((TypeError, ValueError), match=r"`jac(: gram`|`: gram)"):
        _ = tangent_kernel(lambda w: FaultyGram(A, "gram", 1, lambda _: K), np.zeros(9)).matrix


def test_a_kernel_of_another_shape_is_refused_by_the_certificate():
    def jac(w):
        return FaultyGram(A, "gram", 1, lambda K: K[:2])

    sol = solve(lambda w: A @ w, jac, np.zeros(9), np.ones(4), method="gd", max_iter=2)
    with pytest.raises(ValueError, match="`jac`: gram"):
        _ = sol.certificate


# -- infer ------------------------------------------------------------------------------------------------------------


def fitted(prior, linear_solver="auto", bounds=None, change=None, at=0, name="matvec", y=None, max_iter=None):
    calls = [0]
    y = A @ np.ones(9) + 0.7 if y is None else y
    return infer(
        lambda w: A @ w + 0.3 * np.sin(A @ w),
        lambda w: Faulty((1 + 0.3 * np.cos(A @ w))[:, None] * A, name, at, change, calls),
        np.full(9, 0.3),
        y,
        noise=0.1,
        prior=prior,
        linear_solver=linear_solver,
        bounds=bounds,
        max_iter=max_iter,
    )


SOLVERS = ["auto", "cholesky", "qr", "cg"]
C = np.eye(9) + 0.3


@pytest.mark.parametrize("linear_solver", SOLVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["matvec", "rmatvec"])
def test_products_that_are_not_finite_leave_a_fit_at_its_best_point(name, value, linear_solver):
    whole, first = fitted(C, linear_solver), fitted(C, linear_solver, max_iter=0)
    assert whole.status == Status.CONVERGED
    for at in (1, 2, 3, 5, 9, 14, 25, 40):
        sol = fitted(C, linear_solver, name=name, change=lambda x: np.full_like(x, value), at=at)
        assert sol.cost <= first.cost
        assert not sol.success or abs(sol.cost - whole.cost) <= 1e-2 * whole.cost


@pytest.mark.parametrize("linear_solver", SOLVERS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bounds", [None, (0.2, 0.5), (np.full(9, 0.3), np.full(9, 9.0))])
def test_a_prior_that_is_not_finite_ends_a_fit_or_is_refused_by_name(value, linear_solver, bounds):
    whole = fitted(C, linear_solver, bounds)
    for at in (1, 2, 3, 5, 9, 14, 25, 40):
        try:
            sol = fitted(Faulty(C, "matvec", at, lambda x: np.full_like(x, value)), linear_solver, bounds)
        except ValueError as error:
            assert "prior" in str(error)  # noqa: PT017
            assert error.best.shape == (9,)  # noqa: PT017
        else:
            assert not sol.success or abs(sol.cost - whole.cost) <= 1e-2 * whole.cost


@pytest.mark.parametrize("error", [RuntimeError("lost"), NotImplementedError("lost"), KeyboardInterrupt()])
@pytest.mark.parametrize("linear_solver", SOLVERS)
def test_exceptions_of_the_prior_pass(error, linear_solver):
    for at in (1, 2, 3, 8):
        error.__dict__.pop("best", None)
        with pytest.raises(type(error)) as failure:
            fitted(Faulty(C, "matvec", at, fails(error)), linear_solver)
        assert failure.value is error
        assert error.best.shape == (9,)


@pytest.mark.parametrize("change", [lambda x: x[:3], lambda x: x * 1j, lambda x: np.full(x.shape, None)])
def test_products_of_the_prior_are_refused_by_name(change):
    for at in (1, 2, 3, 8):
        with pytest.raises((TypeError, ValueError), match=r"\bprior\b"):
            fitted(Faulty(C, "matvec", at, change))


@pytest.mark.parametrize("size", [1e155, 1e200, 1e300])
@pytest.mark.parametrize("linear_solver", SOLVERS)
def test_a_fit_out_of_range_is_not_converged(size, linear_solver):
    sol = fitted(1.0, linear_solver, y=np.full(4, size))
    assert sol.status == Status.STALLED
    assert "rescale F" in sol.message
    np.testing.assert_array_equal(sol.x, np.full(9, 0.3))


@pytest.mark.parametrize("prior", [1.0, C, Faulty(C)], ids=["number", "covariance", "operator"])
@pytest.mark.parametrize("linear_solver", SOLVERS)
def test_a_fit_that_starts_in_a_corner(prior, linear_solver):
    """No unknown may move, or none is held: neither ends with an exception."""
    w0 = np.full(9, 0.3)
    slope = np.sign(A.T @ (A @ w0 + 0.3 * np.sin(A @ w0) - A @ np.ones(9) - 0.7))
    for width in (0.0, 1e-300, 1e-12, 1e-3):
        lower, upper = np.where(slope > 0, w0, w0 - 1), np.where(slope > 0, w0 + 1, w0)
        for bounds in ((lower, upper), (w0 - width, w0 + width), (lower - width, upper)):
            sol = fitted(prior, linear_solver, bounds)
            assert ((bounds[0] <= sol.x) & (sol.x <= bounds[1])).all()
            assert sol.status in (Status.CONVERGED, Status.STALLED)


@pytest.mark.parametrize("noise", [1e-3, 0.1, 1.0])
@pytest.mark.parametrize("jacobian", [None, "exact"])
@pytest.mark.parametrize("seed", range(6))
def test_an_exception_in_a_fit_carries_the_most_probable_point_so_far(seed, jacobian, noise):
    """Also of trials that were followed by others."""
    rng = np.random.default_rng(seed)
    B, y, w0 = rng.standard_normal((6, 3)), 3 * rng.standard_normal(6), rng.standard_normal(3)

    def jac(w):
        return (1 + 1.2 * np.cos(B @ w))[:, None] * B

    def phi(w, f):
        return np.sum(((f - y) / noise) ** 2) + np.sum((w - w0) ** 2)

    for at in range(2, 12):
        points = []

        def F(w, at=at, points=points):
            if len(points) + 1 == at:
                raise KeyboardInterrupt
            z = B @ w
            points.append((w.copy(), z + 1.2 * np.sin(z)))
            return points[-1][1].copy()

        try:
            infer(F, jac if jacobian else None, w0, y, noise=noise)
        except KeyboardInterrupt as error:
            least = min(phi(*point) for point in points) if jacobian else phi(*points[0])
            own = [phi(w, f) for w, f in points if np.array_equal(w, error.best)]
            assert min(own) <= least * (1 + 1e-9)


# -- the map of `workers` ---------------------------------------------------------------------------------------------


def residual(x):
    return np.array([10 * (x[1] - x[0] ** 2), 1 - x[0]])


BROKEN_MAPS = {
    "too few": lambda f, points: list(map(f, points))[:-1],
    "too many": lambda f, points: [*map(f, points), np.zeros(2)],
    "none": lambda f, points: [],
    "no list": lambda f, points: None,
    "a number": lambda f, points: 3.0,
}


@pytest.mark.parametrize("structure", [None, np.ones((2, 2))])
@pytest.mark.parametrize("jac", ["2-point", "3-point"])
@pytest.mark.parametrize("mapped", BROKEN_MAPS.values(), ids=BROKEN_MAPS)
def test_maps_that_do_not_return_one_value_for_each_point(mapped, jac, structure):
    with pytest.raises((TypeError, ValueError), match="`workers` must return one value for each"):
        least_squares(residual, [-1.0, 2.0], jac, workers=mapped, jac_sparsity=structure)


@pytest.mark.parametrize("structure", [None, np.ones((2, 2))])
@pytest.mark.parametrize("jac", ["2-point", "3-point"])
@pytest.mark.parametrize("workers", [None, 1, map])
def test_a_function_that_writes_into_its_argument_may_be_mapped(workers, jac, structure):
    def writes(x):
        f = residual(x)
        x[:] = np.nan
        return f

    one, other = (
        least_squares(f, [-1.0, 2.0], jac, workers=workers, jac_sparsity=structure) for f in (residual, writes)
    )
    assert one.x.tobytes() == other.x.tobytes()
    assert (one.nfev, one.nfev_jac) == (other.nfev, other.nfev_jac)


@pytest.mark.parametrize("structure", [None, np.ones((2, 2))])
@pytest.mark.parametrize("workers", [None, 1])
@pytest.mark.parametrize("at", [2, 3, 7, 12])
def test_a_function_that_raises_stop_iteration_does_not_look_like_the_end_of_a_map(at, workers, structure):
    calls, error = [], StopIteration("lost")

    def f(x):
        calls.append(x)
        if len(calls) == at:
            raise error
        return residual(x)

    with pytest.raises(StopIteration) as failure:
        least_squares(f, [-1.0, 2.0], workers=workers, jac_sparsity=structure)
    assert failure.value is error


@pytest.mark.parametrize("kind", ["heavy-ball", "nesterov", "chebyshev"])
@pytest.mark.parametrize("value", [1e100, -1e100, 1e200, 1e300, -1e300])
@pytest.mark.parametrize("name", ["matvec", "rmatvec", "gram"])
def test_products_that_do_not_belong_together_meet_momentum(name, value, kind):
    """The spectrum of such a kernel may be negative: it is a status or a refusal by name."""
    for M in (A, TALL, TALL[:1, :1]):
        for at in (1, 2, 5, 20):
            try:
                sol, _ = solved(M, name, at, lambda x: np.full_like(x, value), "gd", momentum=kind)
            except ValueError as error:
                assert "jac" in str(error)  # noqa: PT017
            else:
                assert not sol.success or np.linalg.norm(sol.fun) <= 1e-8 or "rounding level" in sol.message


@pytest.mark.parametrize("loss", ["huber", "cauchy", "soft_l1"])
@pytest.mark.parametrize("change", [lambda x: np.concatenate([x, x]), lambda x: x * 1j])
def test_products_of_a_robust_fit_are_refused_by_name(loss, change):
    calls = [0]

    def fit(at):
        calls[0] = 0
        return least_squares(
            lambda w: A @ w - 1.0, np.zeros(9), lambda w: Faulty(A, "rmatvec", at, change, calls), loss=loss
        )

    fit(0)
    for at in range(2, calls[0] + 1):
        with pytest.raises((TypeError, ValueError), match=r"\bjac\b"):
            fit(at)
