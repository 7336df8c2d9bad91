"""F and J of a system at its points, J by differences where there is no jac, and the scale that comes from J."""

from __future__ import annotations

import math

from plsolve._compiled.algebra import combine, copy, norm
from plsolve._compiled.cache import unit
from plsolve._compiled.functions import OK
from plsolve._compiled.memory import *
from plsolve._compiled.words import RETURNS, call, clock, data, enter
from plsolve._differences import TINY
from plsolve._geometry import DIFFERENT
from plsolve._linalg import HUGE

FAILED_F, FAILED_JAC, FAILED_DIFFERENCES, LATE, NOT_FINITE = range(1, 6)


@unit
def seconds(S: int) -> float:
    """The time of time.monotonic."""
    s = state(S)
    returned = clock(S + CLOCK)
    return 1e-9 * (returned if RETURNS else s.now)


@unit
def evaluated(S: int, function: int, w: int, out: int, what: int) -> bool:
    """Evaluate F or J at a copy of w; after a failure, which is recorded, no function is called any more."""
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
    """r = F(w) - y; returns ||r||, inf if that is not a number."""
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
    """J at w, and the scale from its columns; returns whether J is finite."""
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
    """f = F(w + h e_j) - F(w), in the box, and the step as rounded."""
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
