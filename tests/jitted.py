"""Systems as numba functions, for the tests of compiled code."""

import numpy as np
from numba import njit


@njit
def hand(w):
    t = np.cumsum(w)
    return np.array([np.cos(t).sum() - 2, np.sin(t).sum() - 3])


@njit
def hand_jac(w):
    t = np.cumsum(w)
    J = np.zeros((2, w.size))
    for j in range(w.size):
        J[0, j] = -np.sin(t[j:]).sum()
        J[1, j] = np.cos(t[j:]).sum()
    return J


@njit
def valley(w):
    return np.array([10 * (w[1] - w[0] ** 2), 1 - w[0]])


@njit
def valley_jac(w):
    return np.array([[-20 * w[0], 10.0], [-1.0, 0.0]])
