"""Systems from tanh networks: data fitting and collocation."""

import numpy as np
import numpy.typing as npt

from plsolve.testing._arguments import as_data, check_positive, check_seed, check_sizes
from plsolve.testing._classics import TANH_CURVATURE
from plsolve.testing._system import Matrix, System, Vector


def two_layer_tanh(X: Matrix, y: Vector, width: int, seed: int = 0, scale: float = 1.0) -> System:
    """Fit y_i = a.tanh(W^T x_i + b) / sqrt(width) + c in all parameters; X is (n, d), m = width (d + 2) + 1.

    w = (W (d, width) by rows, b, a, c). W starts normal with standard deviation scale / sqrt(d), b with scale,
    a with 1, c = 0. J is filled in place: no temporary of size n m. F and jac take ``rows``.

    Parameters
    ----------
    X : ndarray (n, d)
        Inputs.
    y : ndarray (n,)
        Values to be fitted.
    width : int
        Hidden units.
    seed : int
        Of all random numbers.
    scale : float
        Size of the first layer: the steeper its units, the better K is conditioned.

    Returns
    -------
    System
        With what is known about it.
    """
    X, y = as_data(X, y)
    check_sizes(width=width)
    check_positive(scale=scale)
    check_seed(seed)
    d = X.shape[1]
    m = width * (d + 2) + 1
    rng = np.random.default_rng(seed)
    root = np.sqrt(width)

    def hidden(w: Vector, X: Matrix) -> Matrix:
        T: Matrix = X @ w[: d * width].reshape(d, width)
        T += w[d * width : (d + 1) * width]
        np.tanh(T, out=T)
        return T

    def F(w: Vector, rows: npt.NDArray[np.int64] | None = None) -> Vector:
        T = hidden(w, X if rows is None else X[rows])
        f: Vector = T @ w[-1 - width : -1] / root + w[-1]
        return f

    def jac(w: Vector, rows: npt.NDArray[np.int64] | None = None) -> Matrix:
        inputs = X if rows is None else X[rows]
        T = hidden(w, inputs)
        J = np.empty((len(inputs), m))
        S = J[:, d * width : (d + 1) * width]  # df/db = (1 - T^2) a / sqrt(width)
        np.multiply(T, T, out=S)
        np.subtract(1.0, S, out=S)
        S *= w[-1 - width : -1] / root
        np.multiply(S[:, None, :], inputs[:, :, None], out=J[:, : d * width].reshape(-1, d, width))
        np.divide(T, root, out=J[:, -1 - width : -1])
        J[:, -1] = 1.0
        return J

    w0 = rng.standard_normal(m)
    w0[: d * width] *= scale / np.sqrt(d)
    w0[d * width : (d + 1) * width] *= scale
    w0[-1] = 0.0
    return System(name="two_layer_tanh", F=F, jac=jac, w0=w0, y=np.asarray(y, float))


def first_layer_tanh(X: Matrix, y: Vector, width: int, seed: int = 0) -> System:
    """Fit y_i = a.tanh(W^T x_i) / sqrt(width) in W alone, a = +-1 fixed; X is (n, d), m = width d, W standard normal.

    For all w: L_F = ||X||_2 (attained at W = 0), beta = max|tanh''| max_i ||x_i|| ||X||_2 / sqrt(width) (theory 8),
    beta_i = max|tanh''| ||x_i||^2 / sqrt(width).

    Parameters
    ----------
    X : ndarray (n, d)
        Inputs.
    y : ndarray (n,)
        Values to be fitted.
    width : int
        Hidden units.
    seed : int
        Of all random numbers.

    Returns
    -------
    System
        With what is known about it.
    """
    X, y = as_data(X, y)
    check_sizes(width=width)
    check_seed(seed)
    n, d = X.shape
    m = width * d
    rng = np.random.default_rng(seed)
    a = rng.choice([-1.0, 1.0], width) / np.sqrt(width)

    def F(w: Vector) -> Vector:
        f: Vector = np.tanh(X @ w.reshape(d, width)) @ a
        return f

    def jac(w: Vector) -> Matrix:
        S = np.tanh(X @ w.reshape(d, width))
        S = (1.0 - S * S) * a
        J = np.empty((n, m))
        np.multiply(S[:, None, :], X[:, :, None], out=J.reshape(n, d, width))
        return J

    norms, norm = np.linalg.norm(X, axis=1), float(np.linalg.norm(X, 2))
    return System(
        name="first_layer_tanh",
        F=F,
        jac=jac,
        w0=rng.standard_normal(m),
        y=np.asarray(y, float),
        lipschitz=norm,
        beta=float(TANH_CURVATURE * norms.max() * norm / np.sqrt(width)),
        beta_rows=TANH_CURVATURE * norms**2 / np.sqrt(width),
    )


def collocation(n: int = 796, width: int = 2000, seed: int = 0, scale: float | None = None) -> System:
    """Collocate u'' = u^3 + g on [0, 1], boundary values given, by a tanh network u at n equidistant points.

    u(x) = a.tanh(v x + b) / sqrt(width) + c, m = 3 width + 1, w = (v, b, a, c). g and the boundary values (the first
    and the last equation) belong to u = sin(3 pi x) + x. The other rows are divided by (3 pi)^2. v starts normal with
    standard deviation ``scale``, b such that the kinks v x + b = 0 are uniform on [0, 1], a standard normal. With the
    default scale n / 7, kappa(J(w0)) is 1e6 to 1e9, rising with n; smaller scales are worse: n / 10 gives 1e13.

    Parameters
    ----------
    n : int
        Points, the first and the last one for the boundary values.
    width : int
        Hidden units.
    seed : int
        Of all random numbers.
    scale : float, optional
        Standard deviation of v, n / 7 by default.

    Returns
    -------
    System
        With what is known about it.
    """
    check_sizes(2, n=n)
    check_sizes(width=width)
    check_positive(scale=1.0 if scale is None else scale)
    check_seed(seed)
    m = 3 * width + 1
    rng = np.random.default_rng(seed)
    x = np.linspace(0.0, 1.0, n)[:, None]
    omega, root = 3.0 * np.pi, np.sqrt(width)
    inner = np.ones((n, 1))
    inner[[0, -1]] = 0.0

    def network(w: Vector) -> tuple[Matrix, Vector, Vector, Matrix, Matrix]:
        v, b, a = w[:-1].reshape(3, width)
        T = np.tanh(x * v + b)
        u = T @ a[:, None] / root + w[-1]
        return v, a, T, 1.0 - T * T, u

    def F(w: Vector) -> Vector:
        v, a, T, D, u = network(w)
        curvature = (T * D) @ (-2.0 * a * v * v)[:, None] / root
        return np.where(inner > 0.0, (curvature - u**3) / omega**2, u)[:, 0]

    def jac(w: Vector) -> Matrix:
        v, a, T, D, u = network(w)
        p = inner / (omega**2 * root)  # weight of u'' in the row, q that of u
        q = np.where(inner > 0.0, -3.0 * u * u / omega**2, 1.0) / root
        D2 = -2.0 * T * D
        D3 = D * (6.0 * T * T - 2.0)
        J = np.empty((n, m))
        blocks = J[:, :-1].reshape(n, 3, width)
        np.multiply(a, p * (v * v * D3) + q * D, out=blocks[:, 1])
        np.multiply(x, blocks[:, 1], out=blocks[:, 0])
        blocks[:, 0] += p * (2.0 * a * v * D2)
        np.add(p * (v * v * D2), q * T, out=blocks[:, 2])
        J[:, -1:] = root * q
        return J

    u = np.sin(omega * x) + x
    y = np.where(inner > 0.0, -np.sin(omega * x) - u**3 / omega**2, u)[:, 0]
    v = (n / 7.0 if scale is None else scale) * rng.standard_normal(width)
    w0 = np.concatenate([v, -v * rng.uniform(0.0, 1.0, width), rng.standard_normal(width), [0.0]])
    return System(name="collocation", F=F, jac=jac, w0=w0, y=y)
