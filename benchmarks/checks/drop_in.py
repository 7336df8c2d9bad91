"""least_squares beside scipy's: seconds a call in one run, same form of jac.

python -m benchmarks.checks.drop_in
"""

import timeit

import numpy as np
import scipy.optimize

import plsolve

METHODS = {
    "plsolve": plsolve.least_squares,
    "trf": scipy.optimize.least_squares,
    "dogbox": lambda *a: scipy.optimize.least_squares(*a, method="dogbox"),
    "lm": lambda *a: scipy.optimize.least_squares(*a, method="lm"),
}


def decay(n):
    """A decay with three parameters, F and jac, and a start."""
    x = np.linspace(0, 4, n)
    y = 2.5 * np.exp(-1.3 * x) + 0.5 + 0.05 * np.random.default_rng(0).standard_normal(n)

    def jac(p):
        e = np.exp(-p[1] * x)
        return np.column_stack([e, -p[0] * x * e, np.ones_like(x)])

    return lambda p: p[0] * np.exp(-p[1] * x) + p[2] - y, jac, np.ones(3)


def peak(n):
    """A decay with a peak, six parameters."""
    x = np.linspace(0, 4, n)

    def model(p):
        return p[0] * np.exp(-p[1] * x) + p[2] * np.exp(-(((x - p[3]) / p[4]) ** 2)) + p[5]

    def jac(p):
        e, u = np.exp(-p[1] * x), (x - p[3]) / p[4]
        g = np.exp(-u * u)
        return np.column_stack(
            [e, -p[0] * x * e, g, 2 * p[2] * g * u / p[4], 2 * p[2] * g * u * u / p[4], np.ones_like(x)]
        )

    y = model([2.5, 1.3, 1.5, 2.0, 0.5, 0.3]) + 0.05 * np.random.default_rng(0).standard_normal(n)
    return lambda p: model(p) - y, jac, np.array([2.0, 1.0, 1.0, 2.2, 0.7, 0.0])


def wide(n, m):
    """More unknowns than equations."""
    A = np.random.default_rng(0).standard_normal((n, m)) / np.sqrt(m)

    def jac(w):
        return (2 - np.tanh(A @ w) ** 2)[:, None] * A

    return lambda w: np.tanh(A @ w) + A @ w - 0.3, jac, np.zeros(m)


def main():
    cases = {"n=50, m=3": decay(50), "n=1000, m=6": peak(1000), "n=20, m=200": wide(20, 200)}
    for name, (F, jac, start) in cases.items():
        for form in (jac, "2-point"):
            print(f"\n{name}, jac {'given' if callable(form) else form}")
            for method, solve in METHODS.items():
                if method == "lm" and start.size > F(start).size:
                    continue
                res = solve(F, start, form)
                seconds = min(timeit.repeat(lambda s=solve, F=F, w=start, f=form: s(F, w, f), number=3, repeat=7)) / 3
                print(f"  {method:8s} {1e6 * seconds:8.0f} us  nfev {res.nfev:3d}  cost {res.cost:.9g}")


if __name__ == "__main__":
    main()
