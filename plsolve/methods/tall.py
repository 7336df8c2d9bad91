"""Gauss-Newton for as many or more equations than unknowns (n >= m), with the curvature of the residual.

Where a residual r stays, the Hessian of the loss is J^T J + Sum_i r_i D^2 F_i, and Gauss-Newton, which leaves the
second part out, is slow or fails. A matrix S learns that part from the secants (J+ - J)^T r+ = S s (Dennis, Gay,
Welsch, ACM TOMS 7, 1981: NL2SOL); of the two models, with S and without, the one goes on that foretold the last loss
better.

The step q = p / scale is the least of the model in a ball ||q|| <= radius, found from the eigenvalues of the m x m
Hessian, or from the singular values of J where S is not in use; from triangular factors where the ball does not matter.
While the linear model promises to take most of r away, the step along the *ray* to gn = -J^+ r comes first, as long
as the natural curvature lets it reach a tenth of gn (`gauss_newton` explains both): it follows narrow curved valleys
that a ball cannot. A step that fell short of its promise is tried once more with its second-order part sent back
through J^+ (Transtrum, Sethna, arXiv 1201.5885).
Unknowns that meet a bound are held there and the rest solved again. Every accepted step reduces the loss.
"""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from plsolve.linalg import HUGE, Array, Mask, diagonal_range, norm, trcon, trtrs
from plsolve.methods.ending import FLAT, at_rounding_level, bend, verdict
from plsolve.problem import Problem
from plsolve.stopping import RUNNING, Status
from plsolve.tangent import Tangent

UNKNOWNS = 256  # at most: the eigenvalues of an m x m matrix are wanted in every step
ENTRIES = 1 << 16  # of a sparse or operator J at most: it is handled as a dense one
ENOUGH = 1e-4  # gain of a step that is accepted
SHORT = 0.25  # gain below which the radius shrinks
GOOD = 0.75  # gain above which it grows, twofold
EXACT = 0.9  # gain above which it grows by GROWTH
GROWTH = 2.5
SWITCH = 1.5  # a model must have been this much nearer to the truth to replace the other
STAYS = 0.5  # of ||r|| left in the linear model: the ray is not worth a try
RAY = 0.1  # of gn at least: how far the ray must reach
WIDER = 2.0  # growth of the reach by a step that was not along the ray
FAR = 0.5  # of the step that its correction may be long
HOPE = 0.5  # gain that the correction must promise
NOISY = 1e-6  # of ||r||^2: a step that takes less away asks for better differences
LAST = 1e-9  # of an unknown: a shorter last step is not taken
RANK = 1e-15  # of the largest singular value: smaller ones are zero
REGULAR = 1e-11  # reciprocal condition number beyond which R need not be taken apart
SOUND = 1e-2  # least by largest pivot beyond which a Cholesky factor is good enough
NONE, NOWHERE = np.empty(0, np.bool_), np.empty(0)


class Memory(NamedTuple):
    """What has been learnt about the curvature of the residual, and what the last step has still to teach."""

    S: Array  # (m, m)
    curved: bool  # S is in use
    s: Array  # (m,) the last step; empty: nothing to learn
    g: Array  # J^T r before it
    h: Array  # J^T r+ with J before it


class State(NamedTuple):
    """Where the run stands."""

    w: Array
    r: Array
    status: int
    nit: int
    step: float  # length of the last step
    checked: bool  # r belongs to w
    radius: float  # before the first step: a multiple of ||w0 / scale||
    reach: float  # length along gn at which the second-order part would be as large as the step
    precise: bool  # jac is given, or its differences are to be central
    full: bool  # the last step was the least of the model, no radius in the way
    memory: Memory
    beta: float  # Lipschitz constant of J, 0: not given
    pl: float  # 1/2 ||g||^2 / L at the point before; negative: not known
    bend: float  # the largest 2||r+ - r - J p||/||p||^2 of a step that exceeds beta


class Spectrum(NamedTuple):
    """The Hessian V diag(e) V^T in the free unknowns, and b = V^T times half the slope."""

    e: Array
    V: Array
    b: Array


class Model:
    """||r + J p||^2 + p^T S p in q = p / d: J diag(d) = Q R.

    Attributes
    ----------
    d, c : ndarray (m,)
        The scale, and Q^T r.
    R, S : ndarray (m, m)
        Below the diagonal of R anything may stand.
    free : ndarray
        Marks the unknowns that are not held at a bound; empty: all.
    low, high : ndarray
        How far every q may go; empty: without bounds.
    regular : bool
        All unknowns are free, and R can be divided by.
    newton : ndarray (m,)
        Where a regular model without S is least.
    length : float
        Its norm; inf for one that is not regular.
    """

    def __init__(self, d: Array, R: Array, c: Array, S: Array, free: Mask, low: Array, high: Array) -> None:
        self.d, self.R, self.c, self.S = d, R, c, S
        self.free, self.low, self.high = free, low, high
        self.regular = not free.size and trcon(R) > REGULAR
        self.newton, self.length = NOWHERE, math.inf
        if self.regular:
            self.newton = trtrs(R, -c, False)
            self.length = norm(self.newton)

    @cached_property
    def triangle(self) -> Array:
        """R with zeros below the diagonal."""
        return self.R * upper(self.c.size)

    @cached_property
    def bending(self) -> Array:
        """diag(d) S diag(d)."""
        return self.d[:, None] * self.S * self.d

    @cached_property
    def plain(self) -> Spectrum:
        """The spectrum without S."""
        return spectrum(self, False, self.free, np.empty(0))

    @cached_property
    def bent_newton(self) -> tuple[Array, float]:
        """Where the model with S is least, and what it takes away there; empty and inf where that is not so simple."""
        if self.free.size:
            return NOWHERE, math.inf
        R = self.triangle
        slope = R.T.dot(self.c)
        L, q, failed = lapack.dposv(R.T.dot(R) + self.bending, -slope)
        pivot, largest = diagonal_range(L)
        return (NOWHERE, math.inf) if failed or pivot < SOUND * largest else (q, -float(slope.dot(q)))

    @cached_property
    def bent(self) -> Spectrum:
        """The spectrum with S."""
        return spectrum(self, True, self.free, np.empty(0))

    @property
    def bent_gain(self) -> float:
        """What the model with S takes away at its least; inf where it has none."""
        return self.bent_newton[1] if self.bent_newton[0].size else promise(self.bent)

    def whole(self, curved: bool, radius: float) -> tuple[Array, bool, float]:
        """What `least` returns where there is no box, for the free unknowns."""
        if self.regular and not curved and self.length <= radius:
            return self.newton, True, 0.0
        if curved and self.bent_newton[0].size and norm(self.bent_newton[0]) <= radius:
            return self.bent_newton[0], True, 0.0
        first = self.bent if curved else self.plain
        x, full, t = in_ball(first, radius)
        return first.V.dot(x), full, t


class Trial(NamedTuple):
    """A trial point."""

    w: Array
    r: Array
    q: Array
    size: float  # ||r||
    length: float  # ||q||
    gain: float  # actual over predicted reduction of ||r||^2
    actual: float
    full: bool  # no radius in the way


def init(problem: Problem, beta: float) -> State:
    none = Memory(np.zeros((problem.m, problem.m), order="F"), False, NOWHERE, NOWHERE, NOWHERE)
    w, r, precise = problem.w0, problem.r0, not problem.differenced
    return State(w, r, RUNNING, 0, 0.0, True, 1.0, math.inf, precise, False, none, beta, -1.0, 0.0)


def step(problem: Problem, s: State) -> State:
    T = problem.linearise(s.w, s.r, s.precise)
    g, size = T.adjoint(s.r), norm(s.r)
    S = learnt(s.memory, g) if s.memory.s.size else s.memory.S
    model = modelled(problem, T, s, S, g)
    if flat(problem, s, model, g, size * size):
        return ending(problem, s, T, model, True)
    best, radius, reach, curved = search(problem, s, T, model, size)
    if not best.gain > ENOUGH:
        return ending(problem, s, T, model, False)
    w, r, p = best.w, best.r, best.w - s.w
    status = RUNNING
    fast = not 0.01 * size < best.size < 0.9 * size  # the end, one way or the other: worth a look
    if best.full and fast and at_rounding_level(problem, w, r, T):
        status = int(Status.RESIDUAL)
    precise = s.precise or best.actual < NOISY * size * size
    memory = Memory(S, curved, p, g, T.adjoint(r))
    pl, most = (norm(g) / size) ** 2, max(s.bend, bend(problem, T, s.w, s.r, p, r, s.beta)) if s.beta else 0.0
    full, nit = best.full, s.nit + 1
    return State(w, r, status, nit, best.length, True, radius, reach, precise, full, memory, s.beta, pl, most)


# -- the models -------------------------------------------------------------------------------------------------------


def learnt(memory: Memory, g: Array) -> Array:
    """S, with what the last step told: (J+ - J)^T r+ = S s. NL2SOL's sizing and update."""
    S, s = memory.S, memory.s
    y, part = g - memory.g, g - memory.h
    ys = float(y.dot(s))
    if not ys > 1e-8 * norm(y) * norm(s):
        return S
    Ss = S.dot(s)
    sSs, known = float(s.dot(Ss)), abs(float(s.dot(part)))
    size = min(1.0, known / abs(sSs)) if sSs != 0.0 else 1.0
    v, u = part - size * Ss, y / ys
    half = (v - (0.5 * float(v.dot(s))) * u)[:, None] * u
    learnt: Array = size * S + (half + half.T)
    return learnt


def modelled(problem: Problem, T: Tangent, s: State, S: Array, g: Array) -> Model:
    J = T.toarray()
    n, m = J.shape
    A = np.empty((n, m + 1), order="F")
    A[:, :m] = J
    A[:, m] = s.r
    A = lapack.dgeqrf(A, overwrite_a=1)[0]
    d = T.scale if T.scale.size else np.ones(m)
    R, c = A[:m, :m].copy("F"), A[:m, m]
    R *= d  # only now that it is m x m
    if not problem.bounded:
        return Model(d, R, c, S, NONE, NOWHERE, NOWHERE)
    low, high = (problem.lower - s.w) / d, (problem.upper - s.w) / d
    held = ((low >= 0.0) & (g >= 0.0)) | ((high <= 0.0) & (g <= 0.0))
    return Model(d, R, c, S, ~held if held.any() else NONE, low, high)


@cache
def upper(m: int) -> Array:
    """Ones on and above the diagonal."""
    return np.asfortranarray(np.triu(np.ones((m, m))))


def spectrum(model: Model, curved: bool, free: Mask, q: Array) -> Spectrum:
    """Of the free unknowns, where the others stand at q (empty: at zero)."""
    R, c = model.triangle, model.c
    if q.size:
        c = c + R[:, ~free].dot(q[~free])
    if free.size:
        R = R[:, free]
    if R.shape[1] == 0:
        return Spectrum(np.empty(0), np.empty((0, 0)), np.empty(0))
    if not curved:
        U, s, Vt, _ = lapack.dgesdd(R, full_matrices=0)
        b = s * c.dot(U)
        if s[-1] <= RANK * s[0]:
            b[s <= RANK * s[0]] = 0.0
        return Spectrum(s * s, Vt.T, b)
    slope, S = R.T.dot(c), model.bending
    if q.size:
        slope = slope + S[np.ix_(free, ~free)].dot(q[~free])
    if free.size:
        S = S[np.ix_(free, free)]
    e, V, _ = lapack.dsyevd(R.T.dot(R) + S)
    return Spectrum(e, V, slope.dot(V))


def foretold(model: Model, q: Array) -> float:
    """||r||^2 - ||r + J p||^2."""
    Rq = blas.dtrmv(model.R, q)
    return -(2.0 * float(model.c.dot(Rq)) + float(Rq.dot(Rq)))


def promised(model: Model, q: Array, curved: bool) -> float:
    """What the model takes away from ||r||^2."""
    return foretold(model, q) - (float(q.dot(model.bending.dot(q))) if curved else 0.0)


def sent_back(model: Model, T: Tangent, x: Array, t: float) -> Array:
    """(A^T A + t)^+ A^T x, A = J diag(d): for t = 0 the pseudo-inverse of A."""
    a = model.d * T.adjoint(x)
    if model.regular and t == 0.0:
        return trtrs(model.R, trtrs(model.R, a, True), False)
    free, (e, V, _) = model.free, model.plain
    shifted = e + t
    z = (a[free] if free.size else a).dot(V)
    z = np.where(shifted > RANK * RANK * e.max(), z, 0.0) / np.where(shifted > 0.0, shifted, 1.0)
    if not free.size:
        return V.dot(z)  # type: ignore[no-any-return]
    a = np.zeros(free.size)
    a[free] = V.dot(z)
    return a


# -- the step ---------------------------------------------------------------------------------------------------------


def in_ball(model: Spectrum, radius: float) -> tuple[Array, bool, float]:
    """x with (e + t) x = -b, ||x|| <= radius, t >= 0 and e + t >= 0; True where t = 0; and t."""
    e, b = model.e, model.b
    size = norm(b) if b.size else 0.0
    if size == 0.0:
        return np.zeros(b.size), True, 0.0
    low, top = sorted((float(e[0]), float(e[-1])))  # e ascends or descends
    if low > 1e-14 * top or ((e > 0.0) | (b == 0.0)).all():
        x = b / (e if low > 0.0 else np.where(e > 0.0, e, 1.0))
        if norm(x) <= radius:
            return -x, True, 0.0
    top = max(abs(top), abs(low))
    if radius == math.inf:
        radius = size / max(top, 1e-300)
    least_t = max(0.0, -low) + 1e-12 * top
    t = max(size / radius - top, least_t)
    for _ in range(20):
        shifted = e + t
        x = b / shifted
        length = norm(x)
        if abs(length - radius) <= 0.1 * radius:
            break
        t = max(t + (length / radius - 1.0) * length * length / float(x.dot(x / shifted)), least_t)
    return x * -min(1.0, radius / norm(x)), False, t


def least(model: Model, curved: bool, radius: float) -> tuple[Array, bool, float]:
    """The least of the model in the ball and the box; True where the ball did not matter; and the damping t."""
    q, full, t = model.whole(curved, radius)
    if not model.low.size:
        return q, full, t
    free = model.free if model.free.size else np.ones(model.d.size, np.bool_)
    q, q[free] = np.zeros(model.d.size), q
    cut = (q < model.low) | (q > model.high)
    if not cut.any():
        return q, full, t
    while cut.any():
        q, free = np.minimum(np.maximum(q, model.low), model.high), free & ~cut
        if not free.any():
            break
        again = spectrum(model, curved, free, q)
        q[free] = again.V.dot(in_ball(again, radius)[0])
        cut = (q < model.low) | (q > model.high)
    p = downhill(model, curved, radius)
    return (q if promised(model, q, curved) > 0.5 * promised(model, p, curved) else p), False, t


def downhill(model: Model, curved: bool, radius: float) -> Array:
    """A step down the projected gradient that keeps a share of what its slope promises."""
    R = model.triangle
    g = R.T.dot(model.c)
    if model.free.size:
        g[~model.free] = 0.0
    size, bend = norm(g), norm(R.dot(g))
    t = min(radius / max(size, 1e-300), 10.0 * (size / bend) ** 2 if bend > 0.0 else 1.0)
    q: Array = g
    for _ in range(60):
        q = np.minimum(np.maximum(-t * g, model.low), model.high)
        if promised(model, q, curved) >= -0.2 * float(g.dot(q)):
            break
        t *= 0.3
    return q


def search(problem: Problem, s: State, T: Tangent, model: Model, size: float) -> tuple[Trial, float, float, bool]:
    """The first step that reduces the loss enough, the radius and the reach after it, and the model to go on with."""
    length = norm(s.w / model.d)
    radius = s.radius if s.nit > 0 else s.radius * length or math.inf
    reach, curved = s.reach if s.nit > 0 else radius, s.memory.curved
    best = Trial(s.w, s.r, NOWHERE, size, 0.0, 0.0, 0.0, False)
    gn, _, _ = least(model, False, math.inf)
    N, most = norm(gn), foretold(model, gn)
    stays = size * size - most > (STAYS * size) ** 2
    while not problem.spent:
        ray = not stays and reach > RAY * N
        if ray:
            q, full, t = (gn, True, 0.0) if reach >= N else ((reach / N) * gn, False, 0.0)
        else:
            q, full, t = least(model, curved, radius)
        p = model.d * q
        plain, P = (most, N) if q is gn else (foretold(model, q), norm(q))
        bent = plain - float(p.dot(model.S.dot(p)))
        predicted = bent if curved and not ray else plain
        if not (1e-16 * length < P and predicted > 0.0):
            break
        new = attempt(problem, s, model, q, P, predicted, full)
        if not new.size < HUGE:
            radius, reach = min(radius, 0.25 * P), 0.25 * P if ray else reach
            continue
        curved = nearer(curved, new.actual, plain, bent)
        natural = reach if stays else natural_length(model, T, p, new.r - s.r, P)
        if ray and not new.gain > ENOUGH:
            reach = P * min(max(natural / P, 0.1), 0.5)
            radius = min(radius, reach)
            continue
        if not ray and new.gain < GOOD and not problem.spent:
            new = corrected(problem, s, T, model, new, t, predicted)
        reach = max(min(natural, 10.0 * P if ray else WIDER * reach), P)
        radius = next_radius(new, predicted, radius)
        if new.gain > ENOUGH:
            return doubled(problem, s, model, new, size, natural, predicted), radius, reach, curved
    return best, radius, reach, curved


def natural_length(model: Model, T: Tangent, p: Array, change: Array, length: float) -> float:
    """How long a step along p would be whose second-order part were as long: change is that of r over p."""
    back = norm(sent_back(model, T, change - T.apply(p), 0.0))
    return length * length / max(2.0 * back, 1e-300)


def attempt(problem: Problem, s: State, model: Model, q: Array, length: float, predicted: float, full: bool) -> Trial:
    w = problem.move(s.w, model.d * q)
    r = problem.residual(w)
    size = norm(r)
    if not size < HUGE:
        return Trial(w, r, q, size, length, -math.inf, -math.inf, full)
    actual = float((s.r - r).dot(s.r + r))
    return Trial(w, r, q, size, length, actual / predicted, actual, full)


def nearer(curved: bool, actual: float, plain: float, bent: float) -> bool:
    """Whether the model with S is the better one, by what either had foretold."""
    if abs(actual - plain) * SWITCH < abs(actual - bent):
        return False
    return curved or abs(actual - bent) * SWITCH < abs(actual - plain)


def corrected(problem: Problem, s: State, T: Tangent, model: Model, new: Trial, t: float, predicted: float) -> Trial:
    """The trial, or the better one with its second-order part sent back, where that promises something."""
    a = -sent_back(model, T, new.r - s.r - T.apply(model.d * new.q), t)
    if norm(a) > FAR * new.length:
        return new
    left = norm(new.r + T.apply(model.d * a))
    if not float(s.r.dot(s.r)) - left * left > max(HOPE, 2.0 * new.gain) * predicted:
        return new
    q = new.q + a
    if model.low.size:
        q = np.minimum(np.maximum(q, model.low), model.high)
    again = attempt(problem, s, model, q, new.length, predicted, False)
    return again if again.gain > new.gain else new


def next_radius(new: Trial, predicted: float, radius: float) -> float:
    if new.gain > GOOD:
        return max(radius, (GROWTH if new.gain > EXACT else 2.0) * new.length)
    if new.gain >= SHORT:
        return radius
    least = predicted / (2.0 * (predicted - new.actual))  # of the parabola through the losses, as a share of the step
    return new.length * min(max(least, 0.1), 0.5)


def doubled(
    problem: Problem, s: State, model: Model, new: Trial, size: float, natural: float, predicted: float
) -> Trial:
    """Twice the step where the root looks double (see `gauss_newton.doubled`) and the last step was twice as long."""
    quarters = 0.23 * size < new.size < 0.27 * size and 1.9 * new.length < natural < 2.1 * new.length
    if not (new.full and quarters and 1.8 * new.length < s.step < 2.2 * new.length) or problem.spent:
        return new
    twice = attempt(problem, s, model, 2.0 * new.q, 2.0 * new.length, predicted, True)
    return twice if twice.size < new.size else new


# -- the end ----------------------------------------------------------------------------------------------------------


def flat(problem: Problem, s: State, model: Model, g: Array, r2: float) -> bool:
    """Whether the gradient is zero to rounding, or as small as the caller wants it."""
    if problem.flat_gradient > 0.0:
        moved, least = s.w - problem.project(s.w - g) if problem.bounded else g, problem.flat_gradient
        if norm(moved) <= least * math.sqrt(g.size) and float(np.abs(moved).max()) <= least:
            return True
    limit = max(FLAT, problem.flat) * r2
    least_gain = float(model.c.dot(model.c)) if model.regular else promise(model.plain)
    return least_gain <= limit or (s.memory.curved and model.bent_gain <= limit)


def promise(model: Spectrum) -> float:
    """What a model takes away at its least; inf where it has none."""
    e, b = model.e, model.b
    if e.size and not min(e[0], e[-1]) > 0.0:
        e, b = e[b != 0.0], b[b != 0.0]
    if e.size and not min(e[0], e[-1]) > 0.0:
        return math.inf
    return float(b.dot(b / e))


def ending(problem: Problem, s: State, T: Tangent, model: Model, flat: bool) -> State:
    """No step reduces the loss: why, after better differences (if there are any) have been tried."""
    if not s.precise or (problem.spent and not flat):
        none = Memory(s.memory.S, False, NOWHERE, NOWHERE, NOWHERE)
        w, r, radius = s.w, s.r, s.radius
        return State(w, r, RUNNING, s.nit, 0.0, True, radius, s.reach, True, False, none, s.beta, s.pl, s.bend)
    w, r, nit = s.w, s.r, s.nit
    if not flat or at_rounding_level(problem, w, r, T):
        status = verdict(problem, w, r, T)
    else:
        status = int(Status.STATIONARY)
        q, full, _ = least(model, s.memory.curved, math.inf)
        wt = problem.move(w, model.d * q)  # too short to be judged by the loss, it mends the last digits of w
        if full and not problem.spent and (np.abs(wt - w) > LAST * np.abs(w)).any():
            rt = problem.residual(wt)
            if norm(rt) <= norm(r):
                w, r, nit = wt, rt, nit + 1
    length, old = T.norm(w - s.w), s.memory
    return State(w, r, status, nit, length, True, s.radius, s.reach, s.precise, True, old, s.beta, s.pl, s.bend)
