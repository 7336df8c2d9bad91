"""What F and jac return is used as it was then, though they fill the same arrays with every call."""

import weakref

import numpy as np
import pytest
import scipy.sparse as sps

from plsolve import certify, least_squares, root, solve, tangent_kernel

METHODS = [
    ("gauss-newton", {}),
    ("gauss-newton", {"nearest": True}),
    ("gd", {}),
    ("gd", {"momentum": "heavy-ball"}),
    ("gd", {"step_size": "cauchy"}),
    ("sgd", {}),
    ("sgd", {"step_size": "kaczmarz"}),
]
SHAPES = [(2, 4), (3, 3), (4, 12), (6, 3)]


class Sinh:
    """sinh(A w); ``same``: in arrays that every call of F or jac fills anew, whatever w was."""

    def __init__(self, shape, seed, same, kind=np.asarray):
        rng = np.random.default_rng(seed)
        self.A, self.same, self.kind = rng.standard_normal(shape), same, kind
        self.y = np.sinh(self.A @ (0.7 * rng.standard_normal(shape[1])))
        self.f, self.J = np.empty(shape[0]), np.empty(shape)
        self.sparse = sps.csr_array(self.A)

    def filled(self, w):
        z = np.clip(self.A @ w, -300.0, 300.0)
        if not self.same:
            return np.sinh(z), self.kind(np.cosh(z)[:, None] * self.A)
        self.f[...], self.J[...] = np.sinh(z), np.cosh(z)[:, None] * self.A
        if self.kind is np.asarray:
            return self.f, self.J
        self.sparse.data[...] = self.J.ravel()
        return self.f, self.sparse

    def F(self, w):
        return self.filled(w)[0]

    def jac(self, w):
        return self.filled(w)[1]


def outcome(sol):
    return sol.status, sol.nit, sol.nfev, sol.njev, sol.message, sol.x.tobytes(), sol.fun.tobytes()


@pytest.mark.filterwarnings("ignore:`beta` = 20 is contradicted:RuntimeWarning")  # sinh has none
@pytest.mark.parametrize("kind", [np.asarray, sps.csr_array])
@pytest.mark.parametrize("pair", [True, False], ids=["jac=True", "jac"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_a_run_is_the_same(method, options, shape, pair, kind):
    for seed in range(2):
        ends = []
        for same in (False, True):
            p = Sinh(shape, seed, same, kind)
            functions = (p.filled, True) if pair else (p.F, p.jac)
            settings = {"method": method, "options": options, "max_iter": 60, "rng": 0, "compiled": False}
            sol = solve(*functions, np.zeros(shape[1]), p.y, beta=20.0, **settings)
            p.filled(np.ones(shape[1]))  # the next user of the arrays
            jac = sol.jac if kind is np.asarray else sol.jac.toarray()
            p.filled(np.ones(shape[1]))
            ends.append((*outcome(sol), str(sol.certificate), jac.tobytes(), sol.kernel.eigenvalues.tobytes()))
        assert ends[0] == ends[1]


@pytest.mark.parametrize("pair", [True, False], ids=["jac=True", "jac"])
def test_a_callback_that_calls_them_changes_nothing(pair):
    ends = []
    for meddling in (False, True):
        p = Sinh((3, 5), 1, True)
        functions = (p.filled, True) if pair else (p.F, p.jac)

        def callback(w, p=p, meddling=meddling):
            if meddling:
                p.filled(w + 1.0)

        ends.append(outcome(solve(*functions, np.zeros(5), p.y, callback=callback)))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mode", ["jac", "2-point", "3-point", "workers"])
def test_least_squares(mode, shape):
    ends = []
    for same in (False, True):
        p = Sinh(shape, 2, same)
        settings = {"jac": p.jac if mode == "jac" else "3-point" if mode == "workers" else mode}
        if mode == "workers":
            settings["workers"] = lambda f, points: [f(w) for w in points]
        sol = least_squares(p.F, np.full(shape[1], 0.3), **settings)
        ends.append((sol.x.tobytes(), sol.cost, sol.nfev, sol.jac.tobytes()))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("method", ["hybr", "lm", "gauss-newton"])
def test_root(method):
    ends = []
    for same in (False, True):
        p = Sinh((3, 3), 3, same)
        sol = root(p.filled, np.full(3, 0.5), jac=True, method=method)
        ends.append((sol.success, sol.x.tobytes(), sol.nfev))
    assert ends[0] == ends[1]


def test_certify_and_the_kernel():
    ends = []
    for same in (False, True):
        p = Sinh((2, 4), 4, same)
        kernel = tangent_kernel(p.jac, np.zeros(4))
        p.filled(np.ones(4))
        ends.append((str(certify(p.filled, True, np.full(4, 0.01), np.zeros(2), beta=30.0)), kernel.mu))
    assert ends[0] == ends[1]


@pytest.mark.parametrize("view", [lambda J: J, lambda J: J.T.copy().T, lambda J: J.ravel().reshape(J.shape)])
@pytest.mark.parametrize("pair", [True, False], ids=["jac=True", "jac"])
def test_an_array_that_nobody_else_holds_is_not_copied(pair, view):
    """J may be what memory has room for once."""
    made = []
    p = Sinh((3, 5), 5, False)

    def jac(w):
        J = view(p.jac(w))
        made.append(weakref.ref(J))
        return J

    functions = (lambda w: (p.F(w), jac(w)), True) if pair else (p.F, jac)
    sol = solve(*functions, np.zeros(5), p.y)
    assert sol.success
    assert any(J() is sol.jac for J in made)


def test_a_jacobian_that_somebody_holds_is_not_handed_out():
    A = np.random.default_rng(6).standard_normal((2, 4))
    for J in (A, A[:, ::-1], A.T.copy().T, np.broadcast_to(A, A.shape)):
        sol = solve(lambda w, J=J: J @ w, lambda w, J=J: J, np.zeros(4), np.ones(2))
        assert sol.success
        assert not np.shares_memory(sol.jac, J)
