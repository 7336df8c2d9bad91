"""Families of systems with starts far from a solution, m >= n, and of systems without one.

A maker gives (F, jac, w0, y) for a seed; all random numbers come from np.random.default_rng(seed), in the order that
they are drawn in. N is a standard normal number, U a uniform one, ws the solution that makes y.
"""

from functools import partial

import numpy as np

from benchmarks.far_systems import (
    chemistry,
    cubic,
    deep,
    distance,
    expsum,
    factors,
    net,
    pendulum,
    phase,
    planar,
    power,
    quad,
    rational,
    sine,
    truss,
)

FAMILIES = {
    "sine 1x2 c8": partial(sine, n=1, m=2, c=8),
    "sine 3x6 c8": partial(sine, n=3, m=6, c=8),
    "sine 10x10 c2": partial(sine, n=10, m=10, c=2),
    "sine 10x11 c3": partial(sine, n=10, m=11, c=3),
    "sine 10x15 c3": partial(sine, n=10, m=15, c=3),
    "sine 10x20 c3": partial(sine, n=10, m=20, c=3),
    "sine 10x20 c8": partial(sine, n=10, m=20, c=8),
    "sine 10x40 c8": partial(sine, n=10, m=40, c=8),
    "sine 10x100 c20": partial(sine, n=10, m=100, c=20),
    "sine 30x45 c3": partial(sine, n=30, m=45, c=3),
    "sine 30x60 c5": partial(sine, n=30, m=60, c=5),
    "sine 30x120 c5": partial(sine, n=30, m=120, c=5),
    "sine 60x120 c5": partial(sine, n=60, m=120, c=5),
    "sine 100x400 c5": partial(sine, n=100, m=400, c=5),
    "quad 10x10": partial(quad, n=10, m=10),
    "quad 10x11": partial(quad, n=10, m=11),
    "quad 10x15": partial(quad, n=10, m=15),
    "quad 10x20 s3": partial(quad, n=10, m=20, s=3.0),
    "quad 30x33": partial(quad, n=30, m=33),
    "quad 30x45": partial(quad, n=30, m=45),
    "cubic 10x11": partial(cubic, n=10, m=11),
    "cubic 10x20": partial(cubic, n=10, m=20),
    "cubic 40x60": partial(cubic, n=40, m=60),
    "cubic 40x160": partial(cubic, n=40, m=160),
    "planar 4": partial(planar, k=4, pose=False),
    "planar 8 pose": partial(planar, k=8, pose=True),
    "planar 3 pose": partial(planar, k=3, pose=True),
    "net 30x36": partial(net, n=30, d=5, h=5),
    "net 30x36 teacher": partial(net, n=30, d=5, h=5, teacher=True),
    "net 30x57": partial(net, n=30, d=5, h=8),
    "net 30x120": partial(net, n=30, d=5, h=17),
    "net 20x21 d2": partial(net, n=20, d=2, h=5),
    "net 40x81 d2": partial(net, n=40, d=2, h=20),
    "net 100x121": partial(net, n=100, d=8, h=12),
    "deep 60x137": partial(deep, n=60, d=4, h=9),
    "expsum 6x8": partial(expsum, n=6, K=4),
    "expsum 6x12": partial(expsum, n=6, K=6),
    "rational 8x10": partial(rational, n=8, p=5, q=4),
    "rational 8x16": partial(rational, n=8, p=9, q=6),
    "chem 12 of 12": partial(chemistry, species=12, balances=6, reactions=6),
    "chem 12 of 18": partial(chemistry, species=18, balances=6, reactions=6),
    "chem 30 of 40": partial(chemistry, species=40, balances=20, reactions=10),
    "power 10 of 10": partial(power, N=10, share=0.9),
    "power 15 of 20": partial(power, N=10, share=0.5),
    "power 45 of 60": partial(power, N=30, share=0.5),
    "dist 24 of 30": partial(distance, K=10, d=3, E=24),
    "dist 15 of 30": partial(distance, K=10, d=3, E=15),
    "dist plane 16 of 20": partial(distance, K=10, d=2, E=16, root=True),
    "dist 50 of 90": partial(distance, K=30, d=3, E=50),
    "UV 40 of 48": partial(factors, p=8, k=3, n=40),
    "UV 30 of 48": partial(factors, p=8, k=3, n=30),
    "CP3 30 of 45": partial(factors, p=5, k=3, n=30, order=3),
    "CP3 40 of 45": partial(factors, p=5, k=3, n=40, order=3),
    "truss 9 of 24": partial(truss, a=3, n=9),
    "truss 18 of 24": partial(truss, a=3, n=18),
    "truss 40 of 60": partial(truss, a=5, n=40),
    "pendulum 2 of 12": partial(pendulum, steps=12, double=False),
    "pendulum 4 of 16": partial(pendulum, steps=16, double=True),
    "phase 20x22": partial(phase, n=20, m=22),
    "phase 20x40": partial(phase, n=20, m=40),
}


def further(seed, make, factor):
    """The same from factor w0 (w0 = 0: factor N)."""
    F, J, w0, y = make(seed)
    return F, J, factor * (w0 if w0.any() else np.random.default_rng(seed + 1000).standard_normal(w0.size)), y


FURTHER = {
    f"{k} x{f:g}": partial(further, make=FAMILIES[k], factor=f)
    for k, f in (
        ("cubic 10x20", 5),
        ("cubic 40x60", 5),
        ("quad 10x15", 10),
        ("planar 8 pose", 10),
        ("net 30x57", 5),
        ("net 30x120", 5),
        ("net 30x57", 20),
        ("net 40x81 d2", 3),
        ("deep 60x137", 3),
        ("net 100x121", 3),
        ("expsum 6x12", 3),
        ("rational 8x16", 5),
        ("chem 12 of 18", 3),
        ("chem 30 of 40", 3),
        ("power 45 of 60", 2),
        ("dist 15 of 30", 10),
        ("dist 50 of 90", 10),
        ("UV 30 of 48", 5),
        ("CP3 30 of 45", 3),
        ("truss 18 of 24", 3),
        ("truss 40 of 60", 3),
        ("pendulum 2 of 12", 5),
        ("phase 20x22", 10),
        ("sine 10x20 c3", 3),
        ("sine 30x120 c5", 3),
    )
}


# -- families without a solution ---------------------------------------------------------------------------------------


def circle(seed, m):
    """w.w + 1 = 0."""
    rng = np.random.default_rng(seed)
    return (lambda w: np.array([w @ w + 1])), (lambda w: 2 * w[None]), rng.standard_normal(m) * 3, np.zeros(1)


def tanh2(seed, n, m):
    """tanh(A w) = 0.3, but 2 for the last equation."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m)) / np.sqrt(m)
    y = np.full(n, 0.3)
    y[-1] = 2
    return (lambda w: np.tanh(A @ w)), (lambda w: (1 - np.tanh(A @ w) ** 2)[:, None] * A), rng.standard_normal(m), y


def squares(seed, n, m):
    """|A_i w|^2 + 1 = 0 for half of the equations, a sine equation for the others."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, 3, m)) / np.sqrt(m)
    B = rng.standard_normal((n, m)) / np.sqrt(m)
    half = np.arange(n) < n // 2

    def F(w):
        v = A @ w
        return np.where(half, (v * v).sum(1) + 1, B @ w + np.sin(3 * B @ w))

    def J(w):
        v = A @ w
        return np.where(half[:, None], 2 * np.einsum("ik,ikm->im", v, A), B * (1 + 3 * np.cos(3 * B @ w))[:, None])

    y = np.where(half, 0.0, rng.standard_normal(n))
    return F, J, rng.standard_normal(m), y


def noquad(seed, n, m):
    """w H_i w / 2 with indefinite random H_i, but sum_i c_i H_i = I (c ~ N) and c.y = -1: no real solution."""
    rng = np.random.default_rng(seed)
    H = rng.standard_normal((n, m, m))
    H = (H + H.transpose(0, 2, 1)) / np.sqrt(2 * m)
    c = rng.standard_normal(n)
    H += c[:, None, None] / (c @ c) * (np.eye(m) - np.einsum("i,ijk->jk", c, H))
    y = rng.standard_normal(n)
    y -= c * (c @ y + 1) / (c @ c)
    return (lambda w: 0.5 * (H @ w) @ w), (lambda w: H @ w), rng.standard_normal(m) * 2, y


def expneg(seed, n, m):
    """exp(A w) = -1 for the last, 1 for the others."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m)) / np.sqrt(m) * 2
    y = np.ones(n)
    y[-1] = -1
    return (lambda w: np.exp(A @ w)), (lambda w: np.exp(A @ w)[:, None] * A), rng.standard_normal(m), y


def repeated(seed, n, m, c=3):
    """The sine family with its last equation twice, targets 1 apart."""
    F, J, w0, y = sine(seed, n - 1, m, c)
    twice = np.append(np.arange(n - 1), n - 2)
    y = y[twice]
    y[-1] += 1
    return (lambda w: F(w)[twice]), (lambda w: J(w)[twice]), w0, y


def conflict(seed, n, d, h):
    """The network family with two equal inputs that have different labels."""
    F, J, w0, y = net(seed, n - 1, d, h)
    twice = np.append(np.arange(n - 1), n - 2)
    y = y[twice]
    y[-1] += 1
    return (lambda w: F(w)[twice]), (lambda w: J(w)[twice]), w0, y


def sineout(seed, n, m, c):
    """sin(B w) = 1.5 for the last equation, ~U(-1, 1) for the others."""
    rng = np.random.default_rng(seed)
    B = c * rng.standard_normal((n, m)) / np.sqrt(m)
    y = rng.uniform(-1, 1, n)
    y[-1] = 1.5
    return (lambda w: np.sin(B @ w)), (lambda w: np.cos(B @ w)[:, None] * B), rng.standard_normal(m), y


def reach(seed, k):
    """A planar arm whose target lies out of reach."""
    F, J, w0, y = planar(seed, k, False)
    return F, J, w0, 1.5 * y / np.linalg.norm(y)


NONE = {
    "circle 1": partial(circle, m=1),
    "circle 5": partial(circle, m=5),
    "tanh2 5x10": partial(tanh2, n=5, m=10),
    "tanh2 20x30": partial(tanh2, n=20, m=30),
    "squares 6x12": partial(squares, n=6, m=12),
    "noquad 8x16": partial(noquad, n=8, m=16),
    "noquad 20x30": partial(noquad, n=20, m=30),
    "expneg 5x10": partial(expneg, n=5, m=10),
    "repeated 8x16": partial(repeated, n=8, m=16),
    "repeated 20x60": partial(repeated, n=20, m=60),
    "conflict 20x50": partial(conflict, n=20, d=3, h=10),
    "sineout 5x15": partial(sineout, n=5, m=15, c=5),
    "reach 6": partial(reach, k=6),
}
