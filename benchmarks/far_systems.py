"""Systems with starts far from any solution, m >= n.

A maker gives (F, jac, w0, y) for a seed; all random numbers come from np.random.default_rng(seed), in the order that
they are drawn in. N is a standard normal number, U a uniform one, ws the solution that makes y.
"""

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
