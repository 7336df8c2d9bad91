"""Robot arms, compiled: a planar one, and arms in space by the parameters of their links."""

from typing import NamedTuple

import numpy as np
from numba import njit


@njit
def planar(w):
    t = np.cumsum(w)
    return np.array([np.cos(t).sum() - 2, np.sin(t).sum() - 3])


@njit
def planar_jac(w):
    J = np.empty((2, w.size))
    t, a, b = np.cumsum(w), 0.0, 0.0
    for i in range(w.size - 1, -1, -1):
        a -= np.sin(t[i])
        b += np.cos(t[i])
        J[0, i], J[1, i] = a, b
    return J


class Arm(NamedTuple):
    """Links by their modified Denavit-Hartenberg parameters a, alpha, d, the flange in metres, limits of the joints."""

    a: np.ndarray
    alpha: np.ndarray
    d: np.ndarray
    flange: float
    lower: np.ndarray
    upper: np.ndarray


PANDA = Arm(  # Franka Emika
    np.array([0.0, 0.0, 0.0, 0.0825, -0.0825, 0.0, 0.088]),
    np.array([0, -1, 1, 1, -1, 1, 1]) * np.pi / 2,
    np.array([0.333, 0.0, 0.316, 0.0, 0.384, 0.0, 0.0]),
    0.107,
    np.array([-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973]),
    np.array([2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]),
)
READY = np.array([0, -1, 0, -3, 0, 2, 1]) * np.pi / 4  # the pose that it is usually started from


@njit
def turn(hand, goal):
    """The rotation vector of R_hand R_goal^T: by the unit quaternion, which is exact at all angles up to pi."""
    E = np.zeros((3, 3))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                E[i, j] += hand[3 + 3 * i + k] * goal[3 + 3 * j + k]
    i = 0 if E[0, 0] >= E[1, 1] else 1
    i = i if E[i, i] >= E[2, 2] else 2
    j, k = (i + 1) % 3, (i + 2) % 3
    trace = E[0, 0] + E[1, 1] + E[2, 2]
    v = np.empty(3)
    if trace >= E[i, i]:
        w = 0.5 * np.sqrt(1.0 + trace)
        v[0], v[1], v[2] = (E[2, 1] - E[1, 2]) / (4 * w), (E[0, 2] - E[2, 0]) / (4 * w), (E[1, 0] - E[0, 1]) / (4 * w)
    else:
        v[i] = 0.5 * np.sqrt(1.0 + E[i, i] - E[j, j] - E[k, k])
        v[j], v[k] = (E[i, j] + E[j, i]) / (4 * v[i]), (E[i, k] + E[k, i]) / (4 * v[i])
        w = (E[k, j] - E[j, k]) / (4 * v[i])
    size = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
    if size == 0.0:
        return v
    return (2.0 * np.arctan2(size, abs(w)) / size * (1.0 if w >= 0.0 else -1.0)) * v


def kinematics(arm):
    """frames(q), pose(q, goal) and pose_jac(q, goal) of an arm."""
    count, a, d, flange = arm.a.size, arm.a, arm.d, arm.flange
    cos_alpha, sin_alpha = np.cos(arm.alpha), np.sin(arm.alpha)

    @njit
    def frames(q):
        """The joints' axes z_i and origins o_i (n, 6), and the hand's pose: position, rows of its rotation (12,)."""
        joints, hand = np.empty((count, 6)), np.zeros(12)
        hand[3] = hand[7] = hand[11] = 1.0
        for i in range(count):
            c, s, ca, sa = np.cos(q[i]), np.sin(q[i]), cos_alpha[i], sin_alpha[i]
            for k in range(3):
                x, y, z = hand[3 + 3 * k], hand[4 + 3 * k], hand[5 + 3 * k]
                side, axis = ca * y + sa * z, ca * z - sa * y
                hand[k] += a[i] * x + d[i] * axis
                hand[3 + 3 * k], hand[4 + 3 * k], hand[5 + 3 * k] = c * x + s * side, c * side - s * x, axis
                joints[i, k], joints[i, 3 + k] = axis, hand[k]
        for k in range(3):
            hand[k] += flange * hand[5 + 3 * k]
        return joints, hand

    @njit
    def pose(q, goal):
        """Position error, and orientation error as a rotation vector."""
        _, hand = frames(q)
        out, v = np.empty(6), turn(hand, goal)
        for k in range(3):
            out[k], out[3 + k] = hand[k] - goal[k], v[k]
        return out

    @njit
    def pose_jac(q, goal):
        """Its derivative: joint i turns the hand about z_i, and the rotation vector v follows by the inverse of the
        left Jacobian of SO(3), z - v x z / 2 + c v x (v x z)."""
        joints, hand = frames(q)
        v = turn(hand, goal)
        angle = np.sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2])
        c = 1 / 12 + angle * angle / 720
        if angle > 1e-2:
            c = 1.0 / (angle * angle) - 0.5 / (angle * np.tan(0.5 * angle))
        J = np.empty((6, count))
        for i in range(count):
            z0, z1, z2 = joints[i, 0], joints[i, 1], joints[i, 2]
            d0, d1, d2 = hand[0] - joints[i, 3], hand[1] - joints[i, 4], hand[2] - joints[i, 5]
            J[0, i], J[1, i], J[2, i] = z1 * d2 - z2 * d1, z2 * d0 - z0 * d2, z0 * d1 - z1 * d0
            x, y, e = v[1] * z2 - v[2] * z1, v[2] * z0 - v[0] * z2, v[0] * z1 - v[1] * z0
            J[3, i] = z0 - 0.5 * x + c * (v[1] * e - v[2] * y)
            J[4, i] = z1 - 0.5 * y + c * (v[2] * x - v[0] * e)
            J[5, i] = z2 - 0.5 * e + c * (v[0] * y - v[1] * x)
        return J

    return frames, pose, pose_jac


frames, pose, pose_jac = kinematics(PANDA)


def reachable(k, seed, arm=PANDA, frames=frames):
    """The poses of the hand for k random settings of the joints within their limits."""
    settings = np.random.default_rng(seed).uniform(arm.lower, arm.upper, (k, arm.a.size))
    return np.array([frames(q)[1] for q in settings])
