"""Families of systems with starts far from a solution, m >= n, and of systems without one.

A maker gives (F, jac, w0, y) for a seed; all random numbers come from np.random.default_rng(seed), in the order that
they are drawn in. N is a standard normal number, U a uniform one, ws the solution that makes y.
"""

from functools import partial

import numpy as np


def sine(seed, n, m, c):
    """A w + 2 C sin(B w); A, B/c ~ N/sqrt(m), C ~ N/sqrt(n); w0, ws ~ 3 N."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m)) / np.sqrt(m)
    B = rng.standard_normal((n, m)) / np.sqrt(m) * c
    C = rng.standard_normal((n, n)) / np.sqrt(n)
    ws = rng.standard_normal(m) * 3

    def F(w):
        return A @ w + C @ np.sin(B @ w) * 2

    def J(w):
        return A + 2 * C @ (np.cos(B @ w)[:, None] * B)

    return F, J, rng.standard_normal(m) * 3, F(ws)


def quad(seed, n, m, s=1.0):
    """b_i.w + w H_i w / 2, b ~ N/sqrt(m), H_i = (G + G^T)/sqrt(2 m), w0, ws ~ s N."""
    rng = np.random.default_rng(seed)
    b = rng.standard_normal((n, m)) / np.sqrt(m)
    H = rng.standard_normal((n, m, m))
    H = (H + H.transpose(0, 2, 1)) / np.sqrt(2 * m)

    def F(w):
        return (b + 0.5 * (H @ w)) @ w

    def J(w):
        return b + H @ w

    ws = s * rng.standard_normal(m)
    return F, J, s * rng.standard_normal(m), F(ws)


def cubic(seed, n, m):
    """(B w)(C w)(D w) + A w entrywise; all ~ N/sqrt(m); w0, ws ~ 2 N."""
    rng = np.random.default_rng(seed)
    A, B, C, D = rng.standard_normal((4, n, m)) / np.sqrt(m)

    def F(w):
        return (B @ w) * (C @ w) * (D @ w) + A @ w

    def J(w):
        b, c, d = B @ w, C @ w, D @ w
        return (c * d)[:, None] * B + (b * d)[:, None] * C + (b * c)[:, None] * D + A

    ws = 2 * rng.standard_normal(m)
    return F, J, 2 * rng.standard_normal(m), F(ws)


def planar(seed, k, pose):
    """Tip (and pose: heading) of a planar arm of k links of length 1/k; target and start from U(-pi, pi)^k."""
    rng = np.random.default_rng(seed)

    def F(q):
        t = np.cumsum(q)
        f = [np.cos(t).sum() / k, np.sin(t).sum() / k]
        return np.array([*f, t[-1] / k] if pose else f)

    def J(q):
        t = np.cumsum(q)
        rows = [-np.cumsum(np.sin(t)[::-1])[::-1] / k, np.cumsum(np.cos(t)[::-1])[::-1] / k]
        return np.array([*rows, np.full(k, 1 / k)] if pose else rows)

    ws = rng.uniform(-np.pi, np.pi, k)
    return F, J, rng.uniform(-np.pi, np.pi, k), F(ws)


def net(seed, n, d, h, teacher=False):
    """tanh(X W^T + b).a + e on n points in R^d, X ~ N; start W ~ N/sqrt(d), b = 0, a ~ N/sqrt(h) (m = h(d+2)+1);
    labels N (teacher: of a network of the same size with 3 N weights)."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    k = h * d

    def F(w):
        return np.tanh(X @ w[:k].reshape(h, d).T + w[k : k + h]) @ w[k + h : k + 2 * h] + w[-1]

    def J(w):
        Z = np.tanh(X @ w[:k].reshape(h, d).T + w[k : k + h])
        D = (1 - Z * Z) * w[k + h : k + 2 * h]
        return np.concatenate([(D[:, :, None] * X[:, None, :]).reshape(n, k), D, Z, np.ones((n, 1))], 1)

    def start(f):
        return (
            np.concatenate(
                [rng.standard_normal(k) / np.sqrt(d), np.zeros(h), rng.standard_normal(h) / np.sqrt(h), [0.0]]
            )
            * f
        )

    if teacher:
        ws = start(1.0)
        ws[:k] *= 3
        ws[k : k + h] = rng.standard_normal(h)
        y = F(ws)
    else:
        y = rng.standard_normal(n)
    return F, J, start(1.0), y


def expsum(seed, n, K):
    """sum_j a_j exp(-b_j t_i), t = n points in [0, 3]; m = 2 K; a ~ N, b ~ U(0, 3) for both w0 and ws."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 3, n)

    def draw():
        return np.concatenate([rng.standard_normal(K), rng.uniform(0, 3, K)])

    def F(w):
        return np.exp(-np.outer(t, w[K:])) @ w[:K]

    def J(w):
        E = np.exp(-np.outer(t, w[K:]))
        return np.concatenate([E, -t[:, None] * E * w[:K]], 1)

    ws, w0 = draw(), draw()
    return F, J, w0, F(ws)


def rational(seed, n, p, q):
    """P(t)/Q(t), deg P = p, Q = 1 + q terms, t in [-1, 1]; m = p + 1 + q; all ~ N."""
    rng = np.random.default_rng(seed)
    t = np.linspace(-1, 1, n)
    V, W = np.vander(t, p + 1, True), np.vander(t, q + 1, True)[:, 1:]

    def F(w):
        return (V @ w[: p + 1]) / (1 + W @ w[p + 1 :])

    def J(w):
        Q = 1 + W @ w[p + 1 :]
        f = (V @ w[: p + 1]) / Q
        return np.concatenate([V / Q[:, None], -W * (f / Q)[:, None]], 1)

    ws, w0 = rng.standard_normal(p + 1 + q), rng.standard_normal(p + 1 + q)
    ws[p + 1 :] *= 0.3
    return F, J, w0, F(ws)


def chemistry(seed, species, balances, reactions):
    """Species x = exp(w): balances S x = b (S sparse 0..3), reactions R w = log k; n = balances + reactions <= m.
    ws ~ 2 N, w0 = 0."""
    rng = np.random.default_rng(seed)
    S = rng.integers(0, 4, (balances, species)) * (rng.random((balances, species)) < 0.5).astype(float)
    S[:, :balances] += np.eye(balances)
    R = np.zeros((reactions, species))
    for i in range(reactions):
        j = rng.choice(species, 4, replace=False)
        R[i, j] = [1, 1, -1, -2]

    def F(w):
        return np.concatenate([S @ np.exp(w), R @ w])

    def J(w):
        return np.concatenate([S * np.exp(w), R])

    ws = 2 * rng.standard_normal(species)
    return F, J, np.zeros(species), F(ws)


def power(seed, N, share):
    """Power flow: P_i, Q_i = sum_j v_i v_j (G cos + B sin, G sin - B cos)(th_i - th_j) on a random graph of N buses,
    all P and the first share of the Q; unknown v, th of all (m = 2 N); ws: v ~ 1 + 0.1 N, th ~ 0.5 N; w0: th ~ 2 N."""
    rng = np.random.default_rng(seed)
    M = np.triu(rng.random((N, N)) < 3.0 / N, 1) | np.eye(N, k=1, dtype=bool)
    g, b = rng.uniform(0.2, 1, (N, N)) * M, -rng.uniform(1, 5, (N, N)) * M
    g, b = g + g.T, b + b.T
    G, B = np.diag(g.sum(1)) - g, np.diag(b.sum(1) + 0.1) - b
    rows = np.concatenate([np.arange(N), N + np.arange(int(share * N))])

    def parts(w):
        v, th = w[:N], w[N:]
        d = th[:, None] - th
        a, c = G * np.cos(d) + B * np.sin(d), G * np.sin(d) - B * np.cos(d)
        return v, a, c

    def F(w):
        v, a, c = parts(w)
        return np.concatenate([v * (a @ v), v * (c @ v)])[rows]

    def J(w):
        v, a, c = parts(w)
        vv = np.outer(v, v)
        # d/dth_i of a_ij is -c_ij, of c_ij is a_ij
        Pth, Qth = vv * -c, vv * a
        Jth = np.concatenate([np.diag(Pth.sum(1)) - Pth, np.diag(Qth.sum(1)) - Qth])
        Jv = np.concatenate([v[:, None] * a + np.diag(a @ v), v[:, None] * c + np.diag(c @ v)])
        return np.concatenate([Jv, Jth], 1)[rows]

    ws = np.concatenate([1 + 0.1 * rng.standard_normal(N), 0.5 * rng.standard_normal(N)])
    w0 = np.concatenate([np.ones(N), 2 * rng.standard_normal(N)])
    return F, J, w0, F(ws)


def distance(seed, K, d, E, root=False):
    """E (squared, or root: plain) distances among K points of R^d; m = K d; w0, ws ~ N."""
    rng = np.random.default_rng(seed)
    i, j = np.triu_indices(K, 1)
    e = rng.permutation(i.size)[:E]
    i, j = i[e], j[e]
    ar = np.arange(E)

    def F(w):
        X = w.reshape(K, d)
        s = ((X[i] - X[j]) ** 2).sum(1)
        return np.sqrt(s) if root else s

    def J(w):
        X = w.reshape(K, d)
        D = 2 * (X[i] - X[j])
        if root:
            D /= 2 * np.sqrt((D * D / 4).sum(1))[:, None]
        out = np.zeros((E, K, d))
        out[ar, i] += D
        out[ar, j] -= D
        return out.reshape(E, K * d)

    ws = rng.standard_normal(K * d)
    return F, J, rng.standard_normal(K * d), F(ws)


def factors(seed, p, k, n, order=2):
    """n entries of a p^order tensor of rank k (order 2: U V^T); m = order p k; ws ~ N, w0 ~ N."""
    rng = np.random.default_rng(seed)
    e = rng.permutation(p**order)[:n]
    idx = np.array(np.unravel_index(e, (p,) * order))
    ar = np.arange(n)

    def F(w):
        U = w.reshape(order, p, k)
        return np.prod([U[o][idx[o]] for o in range(order)], 0).sum(1)

    def J(w):
        U = w.reshape(order, p, k)
        rows = [U[o][idx[o]] for o in range(order)]
        out = np.zeros((n, order, p, k))
        for o in range(order):
            out[ar, o, idx[o]] = np.prod([rows[x] for x in range(order) if x != o], 0)
        return out.reshape(n, -1)

    ws, w0 = rng.standard_normal((2, order * p * k))
    return F, J, w0, F(ws)


def truss(seed, a, n):
    """Cable net on an a x a grid of free nodes inside a fixed rim, force densities exp(w) of the edges: n coordinates
    (of 3 a^2) prescribed; ws ~ 1 N, w0 ~ 1 N; loads down."""
    rng = np.random.default_rng(seed)
    A = a + 2
    num = -np.ones((A, A), int)
    num[1:-1, 1:-1] = np.arange(a * a).reshape(a, a)
    rim = [(x, y) for x in range(A) for y in range(A) if num[x, y] < 0]
    for k, (x, y) in enumerate(rim):
        num[x, y] = a * a + k
    edges = [
        (num[x, y], num[x + dx, y + dy])
        for x in range(A)
        for y in range(A)
        for dx, dy in ((1, 0), (0, 1))
        if x + dx < A and y + dy < A and min(num[x, y], num[x + dx, y + dy]) < a * a
    ]
    m, nn = len(edges), a * a + len(rim)
    C = np.zeros((m, nn))
    for k, (i, j) in enumerate(edges):
        C[k, i], C[k, j] = 1, -1
    Cf, Cr = C[:, : a * a], C[:, a * a :]
    Xr = np.array([(x, y, 0.3 * rng.standard_normal()) for x, y in rim], float)
    load = np.zeros((a * a, 3))
    load[:, 2] = -0.3
    pick = rng.permutation(3 * a * a)[:n]

    def state(w):
        q = np.exp(w)
        K = Cf.T @ (q[:, None] * Cf)
        X = np.linalg.solve(K, load - Cf.T @ (q[:, None] * (Cr @ Xr)))
        return q, K, X

    def F(w):
        with np.errstate(all="ignore"):
            try:
                return state(w)[2].ravel()[pick]
            except np.linalg.LinAlgError:
                return np.full(n, np.nan)

    def J(w):
        q, K, X = state(w)
        U = Cf @ X + Cr @ Xr  # edge vectors (m, 3)
        S = -np.linalg.solve(K, Cf.T * q)  # dX/dw_e = S[:, e] U[e]
        return np.einsum("ie,ec->ice", S, U).reshape(-1, m)[pick]

    ws = rng.standard_normal(m)
    return F, J, rng.standard_normal(m), F(ws)


def pendulum(seed, steps, double):
    """End state (angle, speed) of a (double) pendulum driven by torques of 0.15 s each, drawn at random; w0 = 0."""
    rng = np.random.default_rng(seed)
    h, sub = 0.05, 3
    d = 2 if double else 1

    def acc(x, v, u):
        if not double:
            return -np.sin(x) - 0.1 * v + u
        a = x[0] - x[1]
        s, c = np.sin(a), np.cos(a)
        M = np.array([[2.0, c], [c, 1.0]])
        f = np.array([-s * v[1] ** 2 - 2 * np.sin(x[0]), s * v[0] ** 2 - np.sin(x[1])]) - 0.1 * v
        return np.linalg.solve(M, f + np.array([u[0], 0.0]))

    def F(w):
        x, v = np.zeros(d), np.zeros(d)
        with np.errstate(all="ignore"):
            for k in range(steps):
                for _ in range(sub):
                    v = v + h * acc(x, v, w[k : k + 1])
                    x = x + h * v
        return np.concatenate([x, v])

    def J(w):
        n = 2 * d
        out = np.empty((n, steps))
        for k in range(steps):
            e = np.zeros(steps)
            e[k] = 1e-6 * max(1.0, abs(w[k]))
            out[:, k] = (F(w + e) - F(w - e)) / (2 * e[k])
        return out

    y = np.concatenate([rng.uniform(-np.pi, np.pi, d), rng.standard_normal(d)])
    return F, J, np.zeros(steps), y


def deep(seed, n, d, h):
    """Three-layer tanh network, standard init, labels N: m = h d + h + h^2 + h + h + 1."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d))
    k1, k2 = h * d, h * h

    def parts(w):
        W1, b1 = w[:k1].reshape(h, d), w[k1 : k1 + h]
        W2, b2 = w[k1 + h : k1 + h + k2].reshape(h, h), w[k1 + h + k2 : k1 + 2 * h + k2]
        a = w[k1 + 2 * h + k2 : -1]
        Z1 = np.tanh(X @ W1.T + b1)
        Z2 = np.tanh(Z1 @ W2.T + b2)
        return W2, a, Z1, Z2

    def F(w):
        _, a, _, Z2 = parts(w)
        return Z2 @ a + w[-1]

    def J(w):
        W2, a, Z1, Z2 = parts(w)
        D2 = (1 - Z2 * Z2) * a
        D1 = (1 - Z1 * Z1) * (D2 @ W2)
        return np.concatenate(
            [
                (D1[:, :, None] * X[:, None]).reshape(n, -1),
                D1,
                (D2[:, :, None] * Z1[:, None]).reshape(n, -1),
                D2,
                Z2,
                np.ones((n, 1)),
            ],
            1,
        )

    w0 = np.concatenate(
        [
            rng.standard_normal(k1) / np.sqrt(d),
            np.zeros(h),
            rng.standard_normal(k2) / np.sqrt(h),
            np.zeros(h),
            rng.standard_normal(h) / np.sqrt(h),
            [0.0],
        ]
    )
    return F, J, w0, rng.standard_normal(n)


def phase(seed, n, m):
    """(a_i.w)^2, a ~ N/sqrt(m), w0, ws ~ N."""
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, m)) / np.sqrt(m)

    def F(w):
        return (A @ w) ** 2

    def J(w):
        return 2 * (A @ w)[:, None] * A

    ws, w0 = rng.standard_normal((2, m))
    return F, J, w0, F(ws)


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
