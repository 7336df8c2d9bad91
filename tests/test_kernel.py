"""The tangent kernel and its spectrum."""

import pickle

import numpy as np
import problems
import pytest
from scipy.sparse.linalg import LinearOperator

from plsolve import TangentKernel, tangent_kernel, testing

SHAPES = [(1, 1), (3, 7), (5, 5), (7, 3)]


@pytest.mark.parametrize(("n", "m"), SHAPES)
@pytest.mark.parametrize("form", sorted(problems.FORMS))
def test_spectrum_and_matrix(n, m, form):
    J = problems.matrix(n, m)
    k = tangent_kernel(lambda w: problems.FORMS[form](J), np.zeros(m))
    assert isinstance(k, TangentKernel)
    np.testing.assert_allclose(k.matrix, J @ J.T, atol=1e-14)
    s = np.linalg.svd(J, compute_uv=False)[::-1] ** 2
    np.testing.assert_allclose(k.eigenvalues, s, rtol=1e-10)
    assert k.lipschitz == pytest.approx(np.sqrt(s[-1]))
    assert k.mu == (pytest.approx(s[0]) if n <= m else 0.0)
    assert k.kappa == (pytest.approx(s[-1] / s[0]) if n <= m else np.inf)
    assert repr(k).startswith(f"TangentKernel(n={n}, m={m}, ")
    twin = pickle.loads(pickle.dumps(k)) if "operator" not in form else k
    np.testing.assert_array_equal(twin.eigenvalues, k.eigenvalues)
    np.testing.assert_allclose(twin.matrix, k.matrix)


def test_small_eigenvalues_keep_their_digits():
    p = testing.smooth_kernel(20, 60, kappa_jac=1e9)
    k = tangent_kernel(p.jac, p.w0)
    assert k.kappa == pytest.approx(np.linalg.cond(p.jac(p.w0)) ** 2, rel=1e-3)


def test_args_and_errors():
    k = tangent_kernel(lambda w, a: a * np.eye(2), [0.0, 0.0], args=(3.0,))
    assert k.mu == pytest.approx(9.0)
    with pytest.raises(TypeError, match="jac"):
        tangent_kernel("2-point", [0.0])
    with pytest.raises(ValueError, match="jac"):
        tangent_kernel(lambda w: np.eye(3), [0.0, 0.0])
    with pytest.raises(ValueError, match=r"\bw\b"):
        tangent_kernel(lambda w: np.eye(1), [np.nan])


def test_lanczos_where_there_are_very_many_equations():
    n = 5000
    d = np.sqrt(np.linspace(1.0, 4.0, n))
    jac = LinearOperator((n, n), matvec=lambda v: d * v, rmatvec=lambda v: d * v, dtype=float)
    k = tangent_kernel(lambda w: jac, np.zeros(n))
    assert not k.exact
    assert k.lipschitz == pytest.approx(2.0, rel=1e-3)
    assert k.kappa == pytest.approx(4.0, rel=1e-2)
    assert k.kappa <= 4.0 * (1 + 1e-9)  # from inside
