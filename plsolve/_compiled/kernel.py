"""Gauss-Newton of small dense systems in plain loops: `plsolve.methods.gauss_newton`, `box` and `watchdog` once more.

What the steps are, and why, is told there; their constants are used here. A system is four arrays: C, whole numbers; X,
numbers; V, whose rows are vectors of n or of m numbers; J (n, m). Their places have the names below. Behind the vectors
of V come L, Q and K (see `algebra`), k = min(n, m) rows each.
"""

from __future__ import annotations

import math

import numpy as np
from numba import carray
from numba.extending import register_jitable

from plsolve._compiled.algebra import (
    adjoint,
    apply,
    backward,
    cholesky,
    combine,
    copy,
    dot,
    forward,
    norm,
    products,
    scaled_dot,
    singular_values,
    sums,
    times,
)
from plsolve._compiled.cache import unit
from plsolve._compiled.functions import OK
from plsolve._compiled.memory import *
from plsolve._compiled.words import RETURNS, call, clock, data, enter, pointer
from plsolve._differences import TINY
from plsolve._geometry import DIFFERENT
from plsolve._linalg import HUGE, UNIT
from plsolve._loop import CHUNK, FAILURE, ROW, TIE
from plsolve._run import SMALL
from plsolve._stopping import FAILED as FAILED_STATUS
from plsolve._stopping import RUNNING, Status
from plsolve.methods import ending, linear_model, watch
from plsolve.methods.tuning import TUNING

FAILED_F, FAILED_JAC, FAILED_DIFFERENCES, LATE, NOT_FINITE = range(1, 6)
MAX_ITER, MAX_TIME, STALLED, STATIONARY = (
    int(status) for status in (Status.MAX_ITER, Status.MAX_TIME, Status.STALLED, Status.STATIONARY)
)
RESIDUAL, EPSILON = int(Status.RESIDUAL), int(Status.EPSILON)
FRESH = -1  # the phase before the first step
for function in (watch.spare, watch.begin, watch.note, watch.recover, watch.after_monotone, watch.after_kicked):
    register_jitable(function)
outwards = unit(linear_model.outwards)

# -- F and jac ---------------------------------------------------------------------------------------------------------


@unit
def seconds(S: int) -> float:
    """The time of time.monotonic."""
    s = state(S)
    returned = clock(S + NOW)
    return 1e-9 * (returned if RETURNS else s.now)


@unit
def evaluated(S: int, function: int, w: int, out: int, what: int) -> bool:
    """F or J at w, of a copy of w; after a failure, which is noted with its place, nothing is called any more."""
    s, V, J = system(S)
    if s.error == 0:
        copy(S, w, GIVEN)
        place = data(V) + 8 * GIVEN * V.shape[1]
        if call(function, place, J.shape[1], s.args, s.rows, s.count, out, J.shape[0]) == OK:
            return True
        fail(S, w, what)
    return False


@unit
def fail(S: int, w: int, what: int) -> None:
    s = state(S)
    if s.error == 0:
        s.error = what
        copy(S, w, W_FAILED)


@unit
def residual(S: int, w: int, r: int) -> float:
    """r = F(w) - y and ||r||, inf where that is no number."""
    s, V, _ = system(S)
    s.nfev += s.error == 0
    if not evaluated(S, s.F, w, data(V) + 8 * r * V.shape[1], FAILED_F):
        return math.inf
    combine(S, 1.0, r, -1.0, Y, r)
    size = norm(S, r)
    if size < s.least:
        s.least = size
        copy(S, w, W_BEST)
        copy(S, r, R_BEST)
    return size if size < math.inf else math.inf


@unit
def linearise(S: int) -> bool:
    """J at w, and the scale that comes from it; whether it is finite."""
    s, V, J = system(S)
    known = not (s.differenced != 0 and s.precise != 0)
    for j in range(J.shape[1]):
        known = known and V[W_J, j] == V[W, j]
    if known:
        return True
    V[W_J, 0] = math.nan
    s.njev += 1
    if s.differenced != 0:
        enter(s.differences, S, 1.0 if s.central != 0 or (s.refined != 0 and s.precise != 0) else 0.0, 0.0)
    else:
        evaluated(S, s.jac, W, data(J), FAILED_JAC)
    for i in range(J.shape[0]):
        for j in range(J.shape[1]):
            if not abs(J[i, j]) < HUGE:
                fail(S, W, NOT_FINITE)
    if s.scaling != 0 and s.error == 0:
        enter(s.rescale, S, 0.0, 0.0)
    if s.error == 0:
        copy(S, W, W_J)
    return s.error == 0


@unit
def rescale(S: int, _x: float, _y: float) -> None:
    """x_scale='jac': see `Problem._update_scale`."""
    s, V, J = system(S)
    least, most, low, high = math.inf, 0.0, math.inf, 0.0
    first = V[LARGEST, 0] == 0.0
    for j in range(J.shape[1]):
        for i in range(J.shape[0]):
            V[Z, i] = J[i, j]
        size = norm(S, Z)
        size = 1.0 if first and size == 0.0 else max(V[LARGEST, j], size)
        V[LARGEST, j] = size
        least, most = min(least, size), max(most, size)
        low, high = min(low, abs(V[W0, j])), max(high, abs(V[W0, j]))
    unasked = s.scaling == 2
    scaled = not unasked or (most > DIFFERENT * least and not (J.shape[0] == J.shape[1] and low > high / DIFFERENT))
    for j in range(J.shape[1]):
        V[SCALE, j] = (least if unasked else 1.0) / V[LARGEST, j] if scaled else 1.0
        V[WEIGHT, j] = 1.0 / (V[SCALE, j] * V[SCALE, j])


@unit
def differences(S: int, precise: float, _: float) -> None:
    """J at w: `plsolve._differences.jacobian` where F is finite on both sides."""
    s, V, J = system(S)
    central = precise > 0.0
    eps = s.precision
    relative = eps ** (1 / 3) if central else eps ** (1 / 2)
    for j in range(J.shape[1]):
        size = abs(V[W, j])
        below, above = V[W, j] - V[LOWER, j], V[UPPER, j] - V[W, j]
        h, large, turn = relative * (size if size > TINY else 1.0), relative * max(1.0, size), 0
        while turn < 3 and max(below, above) > 0.0:
            side = 1.0 if h <= above or above >= below else -1.0
            room = above if side > 0.0 else below
            both = central and h <= min(above, below)
            a = probe(S, j, side * min(h, room if both or not central else 0.5 * room), A)
            b = probe(S, j, -a if both else 2.0 * a, B) if central else a
            seen, sound, alone = False, True, not central or a == b or b == 0.0
            for i in range(J.shape[0]):
                seen = seen or not abs(V[A, i]) <= 1e-3 * relative * (abs(V[R, i]) + abs(V[Y, i]))
                t = V[A, i] / a if alone else (V[A, i] / a - V[B, i] / b * (a / b)) / (1.0 - a / b)
                sound = sound and abs(t) < math.inf
                J[i, j] = t
            turn += 1
            if s.error != 0:
                return
            if not sound and min(above, below) > 0.0 and turn < 2:
                above, below, h = (0.0, below, h) if side > 0.0 else (above, 0.0, h)
            elif not seen and large > h:
                h = large
            else:
                break
        if max(below, above) <= 0.0 and turn == 0:
            for i in range(J.shape[0]):
                J[i, j] = 0.0


@unit
def probe(S: int, j: int, h: float, f: int) -> float:
    """f = F(w + h e_j) - F(w), in the box, and the step that was really made."""
    s, V, _ = system(S)
    if s.deadline < math.inf and seconds(S) >= s.deadline:
        fail(S, W, LATE)
    copy(S, W, E)
    V[E, j] = min(max(V[W, j] + h, V[LOWER, j]), V[UPPER, j])
    s.nfev_jac += s.error == 0
    evaluated(S, s.F, E, data(V) + 8 * f * V.shape[1], FAILED_DIFFERENCES)
    combine(S, 1.0, f, -1.0, Y, f)
    combine(S, 1.0, f, -1.0, R, f)
    return V[E, j] - V[W, j]


# -- the linear model --------------------------------------------------------------------------------------------------


@unit
def factor(S: int, by_singular_values: bool) -> None:
    """The pseudo-inverse of J on the unknowns that are free: by the kernel while that has digits."""
    s, V, J = system(S)
    n, m = J.shape
    free, k = 0, min(n, m)
    for j in range(m):
        free += V[D, j] > 0.0
    s.cholesky = 0
    if not by_singular_values and (n <= free or n > m):
        digits = cholesky(S, D, ROWS_OF_V, ROWS_OF_V + k)
        s.cholesky = digits > (8 * n * UNIT if n <= m else TUNING.cholesky_condition * TUNING.cholesky_condition)
    if s.cholesky == 0:
        singular_values(S, D, ROWS_OF_V, ROWS_OF_V + k)


@unit
def coordinates(S: int, x: int, u: int) -> None:
    """J^+ x in coordinates u, of which the inner product is that of the metric of the step."""
    s, _, J = system(S)
    k = min(J.shape)
    if s.cholesky == 0:
        products(S, ROWS_OF_V + k, k, x, u)
    elif J.shape[0] <= J.shape[1]:
        forward(S, ROWS_OF_V, k, x, u)
    else:
        products(S, ROWS_OF_V + k, k, x, T)
        forward(S, ROWS_OF_V, k, T, T)
        backward(S, ROWS_OF_V, k, T, u)


@unit
def lift(S: int, u: int, p: int) -> None:
    """p = J^+ x from its coordinates u."""
    s, _, J = system(S)
    k = min(J.shape)
    if s.cholesky == 0:
        sums(S, ROWS_OF_V, k, u, p)
    elif J.shape[0] <= J.shape[1]:
        backward(S, ROWS_OF_V, k, u, T)
        adjoint(S, T, p)
        times(S, p, D, p)
    else:
        copy(S, u, p)
    times(S, p, D, p)


@unit
def raised(S: int, x: int, p: int) -> float:
    """p = D^2 J^T x, of the unknowns that are free at w; its length."""
    adjoint(S, x, p)
    times(S, p, FREE, p)
    length = norm(S, p)
    times(S, p, FREE, p)
    return length


@unit
def long(S: int, p: int) -> float:
    """||p / scale||."""
    _, V, _ = system(S)
    square = scaled_dot(S, p, p)
    if 1e-280 < square < 1e280:
        return math.sqrt(square)
    for j in range(V.shape[1]):
        V[T, j] = V[p, j] / V[SCALE, j]
    return norm(S, T)


@unit
def distance(S: int, v: int, w: int) -> float:
    combine(S, 1.0, v, -1.0, w, E)
    return long(S, E)


@unit
def newton(S: int) -> None:
    """gn = -J^+ r with J gn, its length and what it promises; in a box the step of bounded least squares."""
    s, V, J = system(S)
    s.boxed = 0
    copy(S, SCALE, D)
    if s.bounded != 0:
        adjoint(S, R, G)
        room(S, 1.0)
        for j in range(J.shape[1]):
            if (V[LOW, j] >= 0.0 and V[G, j] >= 0.0) or (V[HIGH, j] <= 0.0 and V[G, j] <= 0.0):
                V[D, j] = 0.0
    factor(S, s.orthogonal)
    left = refine(S)
    if s.cholesky != 0 and J.shape[0] <= J.shape[1] and not left <= TUNING.lost_digits * s.size:
        factor(S, 1)
        refine(S)
    measure(S)
    copy(S, D, FREE)
    s.reflected = s.cholesky == 0
    if s.bounded != 0:
        copy(S, GN, PLAIN)
        enter(s.cut, S, 1.0, 0.0)


@unit
def refine(S: int) -> float:
    """gn, its coordinates U and REST = r + J gn, with iterative refinement while that halves ||REST||."""
    s, _, J = system(S)
    copy(S, R, REST)
    combine(S, 0.0, R, 0.0, R, U)
    last = math.inf
    for _ in range(4):
        coordinates(S, REST, A)
        combine(S, 1.0, U, -1.0, A, U)
        lift(S, U, GN)
        apply(S, GN, REST)
        combine(S, 1.0, REST, 1.0, R, REST)
        left = norm(S, REST)
        if not left <= 0.5 * last or J.shape[0] > J.shape[1] or not left > 1e-11 * s.size:
            break
        last = left
    return left


@unit
def measure(S: int) -> None:
    """The length of gn, what it promises, and whether r stays, from gn and REST = r + J gn."""
    s = state(S)
    combine(S, 1.0, REST, -1.0, R, JGN)
    s.length = long(S, GN)
    s.potential = reduction(S, JGN)
    s.stays = norm(S, REST) > TUNING.inconsistent * s.size


@unit
def reduction(S: int, Jp: int) -> float:
    """||r||^2 - ||r + J p||^2."""
    return -(2.0 * dot(S, R, Jp) + dot(S, Jp, Jp))


@unit
def room(S: int, share: float) -> None:
    combine(S, share, LOWER, -share, W, LOW)
    combine(S, share, UPPER, -share, W, HIGH)


@unit
def cut(S: int, share: float, _: float) -> None:
    """gn within so much of the box: `box.boxed`, from the plain gn."""
    s, V, J = system(S)
    room(S, share)
    copy(S, PLAIN, GOAL)
    copy(S, FREE, D)
    most, turns, out = 0.0, 0, False
    for j in range(J.shape[1]):
        out = out or V[D, j] == 0.0 or not V[LOW, j] <= V[GOAL, j] <= V[HIGH, j]
    if not (out and math.isfinite(s.potential)):
        return
    combine(S, 0.0, PLAIN, 0.0, PLAIN, GN)
    copy(S, R, REST)
    while turns < TUNING.active_set_steps:
        turns += 1
        got, better = ahead(S), False
        if got > most * (1.0 + TUNING.active_set_rounding):
            most, better = got, True
            copy(S, E, GN)
            combine(S, 1.0, R, 1.0, JP, REST)
            if norm(S, REST) <= TUNING.active_set_solved * s.size:
                break
            adjoint(S, REST, G)
        for turn in range(2):  # those that the gradient presses against bounds; else those that just met one
            changed, some = False, False
            for j in range(J.shape[1]):
                p, goal, low, high = V[GN, j], V[GOAL, j], V[LOW, j], V[HIGH, j]
                if turn == 0:
                    held = (p <= low and V[G, j] >= 0.0) or (p >= high and V[G, j] <= 0.0)
                else:
                    held = V[D, j] == 0.0 or (p == low and goal < low) or (p == high and goal > high)
                V[NOW, j] = 0.0 if held else V[SCALE, j]
                changed, some = changed or V[NOW, j] != V[D, j], some or not held
            if changed and (turn == 1 or better):
                break
        if not (changed and some):
            break
        copy(S, NOW, D)
        factor(S, s.reflected)
        for j in range(J.shape[1]):
            V[E, j] = V[GN, j] if V[D, j] == 0.0 else 0.0
        apply(S, E, Z)
        combine(S, 1.0, Z, 1.0, R, Z)
        coordinates(S, Z, A)
        lift(S, A, GOAL)
        combine(S, 1.0, E, -1.0, GOAL, GOAL)
    combine(S, 1.0, GN, -1.0, PLAIN, E)
    s.boxed = norm(S, E) > 0.0
    measure(S)


@unit
def ahead(S: int) -> float:
    """E becomes the better of GOAL cut to the box and the first bound on the way there, JP J times it; its gain."""
    _, V, J = system(S)
    t = 1.0
    for j in range(J.shape[1]):
        V[E, j] = min(max(V[GOAL, j], V[LOW, j]), V[HIGH, j])
        V[T, j] = (V[E, j] - V[GN, j]) / (V[GOAL, j] - V[GN, j]) if V[E, j] != V[GOAL, j] else math.inf
        t = min(t, V[T, j])
    apply(S, E, JP)
    got = reduction(S, JP)
    for j in range(J.shape[1]):
        on = min(max(V[GN, j] + t * (V[GOAL, j] - V[GN, j]), V[LOW, j]), V[HIGH, j])
        V[T, j] = V[E, j] if V[T, j] <= t else on
    apply(S, T, Z)
    if t < 1.0 and reduction(S, Z) > got:
        got = reduction(S, Z)
        copy(S, T, E)
        copy(S, Z, JP)
    for j in range(J.shape[1], V.shape[1]):
        V[T, j] = 0.0
    return got


# -- the step ----------------------------------------------------------------------------------------------------------


@unit
def move(S: int, w: int, t: float, p: int, z: int) -> None:
    """z = w + t p in the box, exactly on a bound where p was made to lead there."""
    s, V, _ = system(S)
    combine(S, 1.0, w, t, p, z)
    if s.bounded != 0:
        for j in range(V.shape[1]):
            low, high, step = V[LOWER, j], V[UPPER, j], t * V[p, j]
            inside = min(max(V[z, j], low), high)
            V[z, j] = low if step == low - V[w, j] else high if step == high - V[w, j] else inside


@unit
def inside(S: int, length: float) -> bool:
    """Whether a step so long does not lead along gn."""
    s = state(S)
    return s.stays != 0 or length < TUNING.dogleg_below * s.length


@unit
def natural(S: int, new: int, t: float, Jp: int, length: float) -> float:
    """How long a step is allowed by J^+ (new - r - t Jp), A in coordinates, where it was so long."""
    combine(S, 1.0, new, -1.0, R, Z)
    combine(S, 1.0, Z, -t, Jp, Z)
    coordinates(S, Z, A)
    return length * length / (2.0 * max(norm(S, A), 1e-300))


@unit
def first_radius(S: int) -> float:
    """All of gn where that is within its natural radius, else the length of a cautious step."""
    s, _, J = system(S)
    size = long(S, W)
    size = (TUNING.first_size if J.shape[0] < J.shape[1] else TUNING.first_size_square) * (size if size > 0.0 else 1.0)
    share = min(TUNING.first_probe, max(size / max(s.length, 1e-300), TUNING.shortest_probe))
    move(S, W, share, GN, TRIAL)
    reach = 0.0
    if residual(S, TRIAL, TRIAL_R) < HUGE:
        reach = natural(S, TRIAL_R, share, JGN, share * s.length)
    return s.length if reach >= s.length else min(TUNING.first_fraction * s.length, max(size, reach))


@unit
def path(S: int, radius: float) -> float:
    """The step P and J P: gn if that is shorter than the radius, gn cut, or the dogleg; its length."""
    s = state(S)
    t = 1.0 if s.length <= radius else radius / s.length
    combine(S, t, GN, 0.0, GN, P)
    combine(S, t, JGN, 0.0, JGN, JP)
    length = t * s.length
    if t < 1.0 and inside(S, radius):
        dogleg(S, radius)
        length = radius
        if s.bounded != 0:
            enter(s.within_bounds, S, t, radius)
            length = long(S, P)
    return length


@unit
def dogleg(S: int, radius: float) -> None:
    """P of length radius: along a few conjugate gradients to the least loss in the model, then to gn.

    On the first part P = D^2 J^T v, ||P||^2 = v . J P, v in B; directions J P in JS, v in C.
    """
    s = state(S)
    for x in (B, JP, C, JS):
        combine(S, 0.0, R, 0.0, R, x)
    last, first = 1.0, 0.0
    for _ in range(TUNING.dogleg_steps):
        combine(S, -1.0, R, -1.0, JP, Z)
        size = raised(S, Z, G)
        apply(S, G, A)
        first = max(first, size)
        if not size > TUNING.dogleg_rounding * first:
            break
        combine(S, size / last, JS, 1.0 / size, A, JS)
        combine(S, size / last, C, 1.0 / size, Z, C)
        t, last = size / max(dot(S, JS, JS), 1e-300), size
        pp, pe, ee = dot(S, B, JP), dot(S, B, JS), dot(S, C, JS)
        done = pp + t * (2.0 * pe + t * ee) >= radius * radius
        t = outwards(ee, pe, radius * radius - pp) if done else t
        combine(S, 1.0, B, t, C, B)
        combine(S, 1.0, JP, t, JS, JP)
        if done:
            raised(S, B, P)
            return
    raised(S, B, P)
    pp, pg = scaled_dot(S, P, P), scaled_dot(S, P, GN)
    u = outwards(s.length * s.length - 2.0 * pg + pp, pg - pp, radius * radius - pp)
    combine(S, 1.0 - u, P, u, GN, P)
    combine(S, 1.0 - u, JP, u, JGN, JP)


@unit
def within_bounds(S: int, share: float, radius: float) -> None:
    """P cut to the box, gn cut to the radius, or a step down the projected gradient: `gauss_newton.within_bounds`."""
    _, V, J = system(S)
    combine(S, 1.0, W, 1.0, P, T)
    move(S, W, 1.0, P, E)
    out = False
    for j in range(J.shape[1]):
        out = out or V[E, j] != V[T, j]
    if not out:
        return
    combine(S, 1.0, E, -1.0, W, P)
    apply(S, P, JP)
    combine(S, share, JGN, 0.0, JGN, Z)
    best, along = reduction(S, JP), reduction(S, Z)
    if along > best:
        best = along
        copy(S, Z, JP)
        combine(S, share, GN, 0.0, GN, P)
    t = radius / max(raised(S, R, G), 1e-300)
    for _ in range(30):
        move(S, W, -t, G, E)
        combine(S, 1.0, E, -1.0, W, E)
        apply(S, E, Z)
        enough = reduction(S, Z)
        if enough >= -0.2 * dot(S, R, Z):
            if enough > 2.0 * best:
                copy(S, E, P)
                copy(S, Z, JP)
            return
        t *= 0.3


@unit
def attempt(S: int, slot: int, length: float, predicted: float) -> float:
    """||r(w + P)|| of a trial, with GAIN, REACH, and the SHARE of P where the loss is least."""
    s, V, J = system(S)
    move(S, W, 1.0, P, TRIAL + slot)
    size = residual(S, TRIAL + slot, TRIAL_R + slot)
    s.gain, s.reach, s.share = -math.inf, 0.0, 0.0
    if not size < HUGE:
        return size
    fell = 0.0
    for i in range(J.shape[0]):
        fell += (V[R, i] - V[TRIAL_R + slot, i]) * (V[R, i] + V[TRIAL_R + slot, i])
    gain, least = fell / predicted, math.inf
    if gain < TUNING.overshoot_gain or s.stays != 0:
        slope = dot(S, R, JP)
        curve = fell + 2.0 * slope
        least = slope / curve if curve < 0.0 else math.inf
    reach = natural(S, TRIAL_R + slot, 1.0, JP, length)
    if inside(S, length) and not (s.boxed != 0 and abs(gain - 1.0) < TUNING.exact_gain):
        reach, least = length * min(least, 1.0), math.inf
    s.gain, s.reach, s.share = gain, reach, least
    return size


@unit
def search(S: int, radius: float) -> float:
    """||r|| of the best of a few trials, with its length REACHED, GAIN (0: none), REACH, radius ENOUGH, slot BEST."""
    s = state(S)
    size, length, gain, reach, reached = s.size, 0.0, 0.0, 0.0, radius
    best, shortest, rejected, shortened = -1, 0.0, 0.0, False
    while s.error == 0:
        step = path(S, radius)
        predicted = reduction(S, JP)
        if not (step > shortest and predicted > 0.0):
            break
        slot = 1 if best == 0 else 0
        new = attempt(S, slot, step, predicted)
        if s.gain < TUNING.overshoot_gain and s.reach > step:  # the second-order part sent back through J^+
            far, least, g = s.reach, s.share, s.gain
            lift(S, A, E)
            combine(S, 1.0, P, -1.0, E, P)
            other = 1 if best == 2 else 2
            better = attempt(S, other, step, predicted)
            if better < new:
                slot, new = other, better
            else:
                s.reach, s.share, s.gain = far, least, g
        if gain > 0.0 and not new < size:
            break
        if gain > 0.0 or s.gain > TUNING.sufficient_gain:
            best, size, length, gain, reach, reached = slot, new, step, s.gain, s.reach, radius
        if gain <= 0.0:
            scale = long(S, W)
            shortest, rejected = 1e-16 * (scale if scale > 0.0 else s.length), step
            radius = min(max(s.reach, 0.1 * step), 0.5 * step)
            continue
        first = rejected == 0.0 and step < s.length
        shorter = inside(S, rejected) and TUNING.lengthen_ratio * step < rejected
        if size <= s.target or s.stays != 0:
            break
        if first and s.reach >= 4.0 * step and s.gain > 0.5:  # much too short
            radius = min(s.reach, 10.0 * step)
        elif shorter and s.gain > TUNING.lengthen_gain and new > TUNING.lengthen_left * s.size:
            radius = math.sqrt(step * rejected)  # cut too far
        elif not shortened and s.gain < TUNING.overshoot_gain and s.share < 0.8:
            radius, shortened = step * min(max(s.share, 0.1), 0.7), True
        else:
            break
    s.best, s.reached, s.gain, s.reach, s.enough = best, length, gain, reach, reached
    return size


@unit
def step(S: int) -> None:
    """A monotone step: `gauss_newton.step`."""
    s, _, J = system(S)
    if not linearise(S):
        return
    newton(S)
    r2 = s.size * s.size
    sound = s.potential > ending.FLAT * r2
    if not sound or s.crawl == TUNING.stagnation_steps:
        end(S, not sound and math.isfinite(s.potential))
        return
    first = s.radius <= 0.0
    radius = first_radius(S) if first else s.radius
    far = s.boxed != 0 and s.stays != 0 and s.potential > TUNING.box_promise * r2
    if far and (not first or radius < s.length):
        whole = s.length
        enter(s.cut, S, TUNING.box_share, 0.0)
        radius *= s.length / whole if first else 1.0
    size = search(S, radius)
    length, gain, reach, reached = s.reached, s.gain, s.reach, s.enough
    if s.error != 0:
        return
    if gain <= 0.0:
        end(S, False)
        return
    w, r, other, full = TRIAL + s.best, TRIAL_R + s.best, 1 if s.best == 0 else 0, length >= s.length
    straight = full and s.stays == 0 and s.boxed == 0
    if straight and 0.23 * s.size < size < 0.27 * s.size and 1.9 * length < reach < 2.1 * length:  # a double root
        move(S, W, 2.0, GN, TRIAL + other)
        new = residual(S, TRIAL + other, TRIAL_R + other)
        if new < size:
            size, length, w, r, other = new, 2.0 * length, TRIAL + other, TRIAL_R + other, s.best
    if not inside(S, length):
        radius = max(min(reach, 10.0 * length), length)
    elif gain > TUNING.good_gain and reached >= radius:
        radius = max(reached, 2.0 * length)
    else:
        radius = 0.5 * length if gain < TUNING.poor_gain else reached
    slow = s.stays == 0 and inside(S, length) and size > (1.0 - TUNING.stagnation) * s.size
    s.crawl = s.crawl + 1 if slow else 0
    gradient(S)
    tired = full and size > 0.9 * s.size
    if straight and (J.shape[0] >= TUNING.chord_rows or s.differenced != 0):
        s.radius = radius
        size = chords(S, w, r, other, size, length / s.length)
        radius = s.radius
    s.step, s.radius = distance(S, w, W), radius
    if s.beta > 0.0:
        combine(S, 1.0, w, -1.0, W, P)
        step_beta(S, r)
    s.orthogonal |= s.reflected
    if s.potential < 0.1 * r2:
        s.precise = 1
    arrive(S, w, r, size)
    s.nit += 1
    if tired and at_rounding_level(S):
        s.status = RESIDUAL


@unit
def gradient(S: int) -> None:
    """The PL ratio of w, and `gauss_newton.steepness`."""
    s = state(S)
    adjoint(S, R, G)
    slope = norm(S, G) / s.size
    times(S, G, FREE, G)
    s.pl = slope * slope
    s.steep = (norm(S, G) / s.size) * (max(long(S, W), distance(S, W, W0)) / s.size)


@unit
def arrive(S: int, w: int, r: int, size: float) -> None:
    s = state(S)
    copy(S, w, W)
    copy(S, r, R)
    s.size = size


@unit
def chords(S: int, w: int, r: int, other: int, size: float, share: float) -> float:
    """Steps on from w with J^+ corrected by good-Broyden updates, while they shrink: `gauss_newton.chords`."""
    s = state(S)
    made = 0
    combine(S, share, U, 0.0, U, CHORD)
    square = dot(S, CHORD, CHORD)
    while size > s.target and square > 0.0 and made < TUNING.chord_steps:
        coordinates(S, r, A)
        for c in range(CHORD, CHORD + made):
            combine(S, 1.0, A, dot(S, c, A) / dot(S, c, c), c + 1, A)
        zz, bent = dot(S, A, A), 1.0 + dot(S, CHORD + made, A) / square
        contracts = zz < TUNING.chord_contraction * TUNING.chord_contraction * square
        if not (contracts and bent >= 0.1 and zz <= 4.0 * bent * bent * square):
            break
        made, square = made + 1, zz / (bent * bent)
        combine(S, -1.0 / bent, A, 0.0, A, CHORD + made)
        lift(S, CHORD + made, P)
        combine(S, 1.0, w, 1.0, P, E)
        move(S, w, 1.0, P, TRIAL + other)
        combine(S, 1.0, E, -1.0, TRIAL + other, E)
        if norm(S, E) > 0.0:  # out of the box
            break
        new = residual(S, TRIAL + other, TRIAL_R + other)
        if not new < 0.9 * size:
            break
        copy(S, TRIAL + other, w)
        copy(S, TRIAL_R + other, r)
        size, s.radius = new, max(s.radius, 2.0 * math.sqrt(square))
    return size


# -- the end -----------------------------------------------------------------------------------------------------------


@unit
def end(S: int, flat: bool) -> None:
    """No step reduces the loss: why, after better differences (if there are any) have been tried."""
    s = state(S)
    gradient(S)
    s.step, s.pl = 0.0, -1.0
    if s.differenced != 0 and s.precise == 0:
        s.precise, s.radius, s.crawl = 1, 0.0, 0
        return
    s.status = STALLED
    if at_rounding_level(S):
        s.status = RESIDUAL
    elif flat or stationary(S):
        s.status = STATIONARY
    if flat and s.status != RESIDUAL:
        move(S, W, 1.0, GN, TRIAL)
        new = residual(S, TRIAL, TRIAL_R)
        if new <= s.size:
            s.step = s.length
            arrive(S, TRIAL, TRIAL_R, new)
            s.nit += 1


@unit
def terms(S: int, p: int) -> float:
    """|| |J| |p| ||: how large the terms are that cancel in F."""
    _, V, J = system(S)
    for i in range(J.shape[0]):
        t = 0.0
        for j in range(J.shape[1]):
            t += abs(J[i, j] * V[p, j])
        V[Z, i] = t
    return norm(S, Z)


@unit
def rounding_level(S: int) -> float:
    """The size of ||r|| that rounding in F alone can make."""
    s = state(S)
    combine(S, 1.0, R, 1.0, Y, A)
    return 2.0 * s.precision * (norm(S, A) + s.size_y + terms(S, W))


@unit
def at_rounding_level(S: int) -> bool:
    """Whether rounding in F alone can make r; F is asked once whether J is as large as it says."""
    s, V, J = system(S)
    if not s.size <= rounding_level(S) < math.inf:
        return False
    for j in range(J.shape[1]):
        V[G, j] = max(ending.PROBE, math.sqrt(s.precision)) * V[W, j] * (-1.0 if j % 2 == 0 else 1.0)
    move(S, W, 1.0, G, E)
    combine(S, 1.0, E, -1.0, W, G)
    apply(S, G, A)
    told = norm(S, A)
    if told == 0.0:
        return True
    residual(S, E, A)
    combine(S, 1.0, A, -1.0, R, A)
    return norm(S, A) >= 0.1 * told


@unit
def stationary(S: int) -> bool:
    """Whether the gradient is zero to rounding: see `ending.verdict`."""
    s, V, J = system(S)
    adjoint(S, R, G)
    combine(S, 1.0, W, -1.0, W0, E)
    size, r2 = norm(S, W), s.size * s.size
    if s.bounded != 0:
        size = max(size, norm(S, E))
        for j in range(J.shape[1]):
            low, high = V[W, j] <= V[LOWER, j], V[W, j] >= V[UPPER, j]
            V[G, j] = 0.0 if (low and V[G, j] >= 0.0) or (high and V[G, j] <= 0.0) else V[G, j]
    slope = norm(S, G)
    if slope == 0.0 or 0.0 < slope * size <= ending.INSENSITIVE * r2:
        return True
    copy(S, SCALE, FREE)
    copy(S, R, Z)
    top = 0.0
    for _ in range(15):
        combine(S, 1.0 / max(norm(S, Z), 1e-300), Z, 0.0, Z, Z)
        raised(S, Z, P)
        apply(S, P, Z)
        last, top = top, norm(S, Z)
        if top <= 1.1 * last:
            break
    times(S, G, SCALE, P)
    times(S, P, SCALE, P)
    move(S, W, -1.0 / max(top, 1e-300), P, E)
    combine(S, 1.0, W, -1.0, E, E)
    return top > 0.0 and dot(S, G, E) <= 100.0 * ending.FLAT * r2


@unit
def step_beta(S: int, r: int) -> None:
    """2 ||r(w + p) - r - J p|| / ||p||^2, less rounding, where that exceeds beta, of a step P."""
    s = state(S)
    apply(S, P, Z)
    combine(S, 1.0, r, -1.0, Z, Z)
    combine(S, 1.0, Z, -1.0, R, Z)
    rest, length = norm(S, Z), norm(S, P)
    if 2.0 * rest > s.beta * length * length:
        s.beta_seen = max(s.beta_seen, 2.0 * max(rest - 4.0 * rounding_level(S), 0.0) / (length * length))


# -- the watchdog ------------------------------------------------------------------------------------------------------


@unit
def watched(S: int) -> None:
    """`watchdog.step`."""
    s = state(S)
    phase = s.phase
    if phase == watch.UNDAMPED:
        undamped(S)
    else:
        step(S)
        if s.error == 0:
            if phase == watch.KICKED:
                kicked(S)
            else:
                guarded(S)
    if s.error == NOT_FINITE and phase != watch.MONOTONE:
        s.error = 0
        back(S)
        monotone(S, 1)


@unit
def monotone(S: int, failed: int) -> None:
    """Monotone steps from here."""
    s = state(S)
    watch.begin(s, watch.MONOTONE, 0, s.size)
    s.failed = failed


@unit
def resumed(S: int, failed: int) -> None:
    """After a phase: on from the best point by monotone steps, or where they have ended by a kick."""
    s = state(S)
    back(S)
    monotone(S, failed)
    if s.status != RUNNING and watch.spare(s, s.nit) > 0:
        kick(S)


@unit
def keep(S: int) -> None:
    s = state(S)
    copy(S, W, W_KEPT)
    copy(S, R, R_KEPT)
    s.kept_size, s.kept_radius, s.kept_status, s.kept_crawl = s.size, s.radius, s.status, s.crawl
    s.kept_orthogonal, s.kept_precise = s.orthogonal, s.precise


@unit
def back(S: int) -> None:
    s = state(S)
    arrive(S, W_KEPT, R_KEPT, s.kept_size)
    s.radius, s.status, s.crawl, s.pl = s.kept_radius, s.kept_status, s.kept_crawl, -1.0
    s.orthogonal, s.precise = s.kept_orthogonal, s.kept_precise


@unit
def guarded(S: int) -> None:
    """After a monotone step: `watchdog.watched`."""
    s = state(S)
    s.status, phase = watch.after_monotone(s, s.status, s.size, s.steep, s.nit)
    if phase != watch.MONOTONE:
        keep(S)
    if phase == watch.KICKED:
        kick(S)
    elif phase == watch.UNDAMPED:
        watch.begin(s, watch.UNDAMPED, TUNING.phase_steps, s.size)


@unit
def undamped(S: int) -> None:
    """A full step, halved while ||r|| would be above its value at w0; after the last one back to the best point."""
    s = state(S)
    if not linearise(S):
        return
    newton(S)
    way, length, size = distance(S, W_KEPT, W0), s.length, math.inf
    if not math.isfinite(length):
        fail(S, W, NOT_FINITE)
        return
    way = way if way > 0.0 else length
    t = min(1.0, TUNING.phase_longest * way / max(length, 1e-300))
    while True:
        move(S, W, t, GN, TRIAL)
        size = residual(S, TRIAL, TRIAL_R)
        if s.error != 0:
            return
        if size <= s.top or not t * length > TUNING.phase_shortest * way:
            break
        t *= 0.5
    lands = size < s.kept_size and t == 1.0 and size <= TUNING.phase_converged * s.size
    arrive(S, TRIAL, TRIAL_R, size)
    s.left, s.nit, s.crawl, s.step, s.radius, s.pl = s.left - 1, s.nit + 1, 0, t * length, length, -1.0
    if size < s.kept_size:
        keep(S)
    if lands or s.stays != 0 or not size <= s.top or min(s.left, watch.spare(s, s.nit)) <= 0:
        resumed(S, s.kept_size > TUNING.decrease * s.mark)


@unit
def kick(S: int) -> None:
    """The best of a few points at random around the best one, nearer while ||r|| would be above its value at w0."""
    s, V, J = system(S)
    unit = distance(S, W_KEPT, W0)
    unit = (unit if unit > 0.0 else 1.0) / math.sqrt(J.shape[1])
    t = TUNING.kick_distance
    while t > TUNING.phase_shortest:
        least = math.inf
        for i in range(TUNING.kick_draws):
            for j in range(J.shape[1]):  # `_linalg.scattered`
                x = math.sin(12.9898 * (j + 1.0) + 78.233 * (TUNING.kick_draws * s.kicks + i + 1.0)) * 43758.5453
                V[P, j] = unit * V[SCALE, j] * math.sqrt(12.0) * (x - math.floor(x) - 0.5)
            move(S, W_KEPT, t, P, TRIAL)
            size = residual(S, TRIAL, TRIAL_R)
            if s.error != 0:
                return
            if size < least:
                least = size
                copy(S, TRIAL, TRIAL + 1)
                copy(S, TRIAL_R, TRIAL_R + 1)
        if least <= s.top:
            arrive(S, TRIAL + 1, TRIAL_R + 1, least)
            watch.begin(s, watch.KICKED, TUNING.kick_steps, least)
            s.status = RUNNING
            s.kicks, s.crawl, s.radius, s.step, s.pl = s.kicks + 1, 0, 0.0, 0.0, -1.0
            combine(S, 1.0, R, -1.0, R_KEPT, Z)
            s.near = TUNING.kick_return * min(s.kept_size, norm(S, Z))
            return
        t *= 0.5


@unit
def kicked(S: int) -> None:
    """After a step on the way from a kick: on once it is the best point, back where it leads nowhere."""
    s = state(S)
    combine(S, 1.0, R, -1.0, R_KEPT, Z)
    led = watch.after_kicked(s, s.status, s.size, s.nit, s.kept_size, s.kept_status, norm(S, Z))
    if led == watch.ARRIVED:
        monotone(S, 0)
    if led == watch.FELL_LOWER:
        s.status = s.kept_status
        keep(S)
    if led == watch.FELL_LOWER or led == watch.FELL_BACK:
        resumed(S, 1)


# -- the run -----------------------------------------------------------------------------------------------------------


@unit
def solved(S: int, enough: float) -> bool:
    """Whether r is small enough: `Problem.accepts`."""
    s, V, _ = system(S)
    if s.least <= enough and s.least <= s.sure:
        return True
    if not (s.least <= enough and s.size <= s.least < s.judged):
        return False
    s.judged, least, at_hand = s.least, s.tol * s.size0, V[W_J, 0] == V[W_J, 0]
    combine(S, 1.0, W, -1.0, W0, P)
    if least > max(SMALL, s.tol) * scale_of_terms(S, at_hand):  # J is of the point before
        combine(S, 1.0, W, -1.0, W_J, P)
        if at_hand and not linearise(S):
            return False
        least = s.tol * min(s.size0, scale_of_terms(S, at_hand))
    if s.coarse != 0 and at_hand:
        least = max(least, rounding_level(S))
    s.target = least
    return s.size <= least


@unit
def scale_of_terms(S: int, at_hand: bool) -> float:
    """max(||y||, || |J| |w| || + || |J| |P| ||) with the last J, where it is at hand."""
    s = state(S)
    return max(s.size_y, terms(S, W) + terms(S, P) if at_hand else 0.0)


@unit
def begin(S: int) -> None:
    """Monotone steps from w, where F was evaluated."""
    s = state(S)
    s.status, s.phase, s.slow, s.failed, s.kicks, s.error = RUNNING, watch.MONOTONE, 0, 0, 0, 0
    s.own, s.allowance, s.crawl, s.orthogonal, s.precise = s.nit, TUNING.allowance_steep, 0, 0, 0
    s.mark, s.radius, s.step, s.pl = s.size, 0.0, 0.0, -1.0
    s.level, s.beta_seen, s.least, s.judged = s.size if s.nit > 0 else 0.0, 0.0, s.size, math.inf
    copy(S, W, W_BEST)
    copy(S, R, R_BEST)
    keep(S)


@unit
def advance(S: int, log: int, size: int, enough: float, max_iter: int, until: float) -> int:
    """Steps until the run ends, the log is full, or the clock says until: the status.

    log: the address of so many rows (see `loop.ROW`); 0: nobody looks at the run, nor at the clock.
    """
    s = state(S)
    rows, row = carray(pointer(log), (size, ROW), np.float64), 0
    if s.phase == FRESH:
        begin(S)
    while True:
        s.logged = row
        if solved(S, enough):
            return RUNNING
        if s.status != RUNNING:  # a verdict on w says nothing of a better point
            return s.status if (1.0 - TIE) * s.size <= s.least or s.status == RESIDUAL else STALLED
        if s.nit >= max_iter:
            return MAX_ITER
        if size > 0:
            now = seconds(S)
            if now >= s.deadline:
                return MAX_TIME
            if row == size or now >= until:
                return CHUNK
        nit = s.nit
        watched(S)
        if s.error != 0:
            return FAILURE
        if size > 0 and s.nit > nit:
            rows[row, 0], rows[row, 1], rows[row, 2] = s.nit, 0.5 * s.size * s.size, s.step
            rows[row, 3], rows[row, 4] = s.pl, s.beta_seen
            row += 1


@unit
def whole(S: int, tol: float, eps: float, max_iter: int) -> int:
    """One solve from w for the target y: the status; FAILED where F or jac fail, or are not finite at the start."""
    s, V, J = system(S)
    copy(S, W, W0)
    for i in range(J.shape[0]):
        V[R, i] = math.nan
    s.error, s.nfev, s.njev, s.nfev_jac, s.nit, s.root, V[W_J, 0] = 0, 0, 0, 0, 0, 1, math.nan
    s.plan = watch.PHASES if J.shape[0] <= J.shape[1] else watch.ALONE
    s.size_y, s.least, s.deadline, s.beta = norm(S, Y), math.inf, math.inf, 0.0
    s.size = residual(S, W, R)
    combine(S, 1.0, R, 1.0, Y, A)
    s.top, s.tol, s.size0, s.sure = s.size, tol, max(s.size_y, norm(S, A)), math.sqrt(2.0 * eps)
    s.target, s.sure, enough = tol * s.size0, max(s.sure, tol * s.size_y), max(tol * s.size0, s.sure)
    if s.coarse != 0 and tol > 0.0:
        enough = max(enough, 2.0 * s.precision * s.size0)
    failed, s.phase = s.error, FRESH
    if failed != 0 or not s.size < math.inf:
        copy(S, W, W_BEST)
        copy(S, R, R_BEST)
        return FAILED_STATUS
    status = advance(S, 0, 0, enough, max_iter, math.inf)
    if status == RUNNING:
        return RESIDUAL if s.least <= s.target else EPSILON
    return FAILED_STATUS if status == FAILURE else status
