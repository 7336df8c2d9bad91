"""Monotone steps: `methods.gauss_newton` once more."""

from __future__ import annotations

import math

from plsolve._compiled.algebra import apply, combine, copy, dot, norm, scaled_dot
from plsolve._compiled.cache import unit
from plsolve._compiled.ends import at_rounding_level, end, step_beta
from plsolve._compiled.evaluation import linearise, residual
from plsolve._compiled.memory import *
from plsolve._compiled.model import (
    arrive,
    coordinates,
    distance,
    from_coordinates,
    gradient,
    long,
    metric_gradient,
    move,
    newton,
    reduction,
)
from plsolve._compiled.words import enter
from plsolve._linalg import HUGE
from plsolve._stopping import Status
from plsolve.methods import ending, linear_model
from plsolve.methods.tuning import TUNING

RESIDUAL = int(Status.RESIDUAL)

outwards = unit(linear_model.outwards)


@unit
def inside(S: int, length: float) -> bool:
    """Whether a step of this length is a dogleg."""
    s = state(S)
    return s.inconsistent != 0 or length < TUNING.dogleg_below * s.length


@unit
def natural_radius(S: int, new: int, t: float, Jp: int, length: float) -> float:
    """The natural radius from c = J^+ (new - r - t Jp) after a step of this length; A = c in coordinates."""
    combine(S, 1.0, new, -1.0, R, Z)
    combine(S, 1.0, Z, -t, Jp, Z)
    coordinates(S, Z, A)
    return length * length / (2.0 * max(norm(S, A), 1e-300))


@unit
def first_radius(S: int) -> float:
    """||gn|| if that is within its natural radius, else the length of a cautious step."""
    s, _, J = system(S)
    size = long(S, W)
    size = (TUNING.first_size if J.shape[0] < J.shape[1] else TUNING.first_size_square) * (size if size > 0.0 else 1.0)
    share = min(TUNING.first_probe, max(size / max(s.length, 1e-300), TUNING.shortest_probe))
    move(S, W, share, GN, TRIAL)
    natural = 0.0
    if residual(S, TRIAL, TRIAL_R) < HUGE:
        natural = natural_radius(S, TRIAL_R, share, JGN, share * s.length)
    return s.length if natural >= s.length else min(TUNING.first_fraction * s.length, max(size, natural))


@unit
def path(S: int, radius: float) -> float:
    """The step P and J P: gn if shorter than the radius, gn scaled to it, or the dogleg; returns its length."""
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
    """P of length radius: some conjugate-gradient steps on the model, then a straight line towards gn.

    In the first part P = D^2 J^T v and ||P||^2 = v . J P, with v in B; of the directions, J P is in JS and v in C.
    """
    s = state(S)
    for x in (B, JP, C, JS):
        combine(S, 0.0, R, 0.0, R, x)
    last, first = 1.0, 0.0
    for _ in range(TUNING.dogleg_steps):
        combine(S, -1.0, R, -1.0, JP, Z)
        size = metric_gradient(S, Z, G)
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
            metric_gradient(S, B, P)
            return
    metric_gradient(S, B, P)
    pp, pg = scaled_dot(S, P, P), scaled_dot(S, P, GN)
    u = outwards(s.length * s.length - 2.0 * pg + pp, pg - pp, radius * radius - pp)
    combine(S, 1.0 - u, P, u, GN, P)
    combine(S, 1.0 - u, JP, u, JGN, JP)


@unit
def within_bounds(S: int, share: float, radius: float) -> None:
    """P clipped to the box, gn scaled to the radius, or a projected-gradient step: `linear_model.within_bounds`."""
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
    t = radius / max(metric_gradient(S, R, G), 1e-300)
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
    """||r(w + P)|| of a trial, with GAIN, NATURAL, and the SHARE of P where the loss is least."""
    s, V, J = system(S)
    move(S, W, 1.0, P, TRIAL + slot)
    size = residual(S, TRIAL + slot, TRIAL_R + slot)
    s.gain, s.natural, s.share = -math.inf, 0.0, 0.0
    if not size < HUGE:
        return size
    fell = 0.0
    for i in range(J.shape[0]):
        fell += (V[R, i] - V[TRIAL_R + slot, i]) * (V[R, i] + V[TRIAL_R + slot, i])
    gain, least = fell / predicted, math.inf
    if gain < TUNING.overshoot_gain or s.inconsistent != 0:
        slope = dot(S, R, JP)
        curve = fell + 2.0 * slope
        least = slope / curve if curve < 0.0 else math.inf
    natural = natural_radius(S, TRIAL_R + slot, 1.0, JP, length)
    if inside(S, length) and not (s.boxed != 0 and abs(gain - 1.0) < TUNING.exact_gain):
        natural, least = length * min(least, 1.0), math.inf
    s.gain, s.natural, s.share = gain, natural, least
    return size


@unit
def search(S: int, radius: float) -> float:
    """||r|| of the best of a few trials, with its length REACHED, GAIN (0: none), NATURAL, radius ENOUGH, slot BEST."""
    s = state(S)
    size, length, gain, natural, reached = s.size, 0.0, 0.0, 0.0, radius
    best, shortest, rejected, shortened = -1, 0.0, 0.0, False
    while s.error == 0:
        step = path(S, radius)
        predicted = reduction(S, JP)
        if not (step > shortest and predicted > 0.0):
            break
        slot = 1 if best == 0 else 0
        new = attempt(S, slot, step, predicted)
        if s.gain < TUNING.overshoot_gain and s.natural > step:  # second-order correction
            far, least, g = s.natural, s.share, s.gain
            from_coordinates(S, A, E)
            combine(S, 1.0, P, -1.0, E, P)
            other = 1 if best == 2 else 2
            better = attempt(S, other, step, predicted)
            if better < new:
                slot, new = other, better
            else:
                s.natural, s.share, s.gain = far, least, g
        if gain > 0.0 and not new < size:
            break
        if gain > 0.0 or s.gain > TUNING.sufficient_gain:
            best, size, length, gain, natural, reached = slot, new, step, s.gain, s.natural, radius
        if gain <= 0.0:
            scale = long(S, W)
            shortest, rejected = 1e-16 * (scale if scale > 0.0 else s.length), step
            radius = min(max(s.natural, 0.1 * step), 0.5 * step)
            continue
        first = rejected == 0.0 and step < s.length
        shorter = inside(S, rejected) and TUNING.lengthen_ratio * step < rejected
        if size <= s.target or s.inconsistent != 0:
            break
        if first and s.natural >= 4.0 * step and s.gain > 0.5:  # much too short
            radius = min(s.natural, 10.0 * step)
        elif shorter and s.gain > TUNING.lengthen_gain and new > TUNING.lengthen_left * s.size:
            radius = math.sqrt(step * rejected)  # cut too far
        elif not shortened and s.gain < TUNING.overshoot_gain and s.share < 0.8:
            radius, shortened = step * min(max(s.share, 0.1), 0.7), True
        else:
            break
    s.best, s.reached, s.gain, s.natural, s.enough = best, length, gain, natural, reached
    return size


@unit
def step(S: int) -> None:
    """A monotone step: `gauss_newton.step`."""
    s, _, J = system(S)
    if not linearise(S):
        return
    newton(S)
    r2 = s.size * s.size
    sound = s.predicted > ending.FLAT * r2
    if not sound or s.stagnant == TUNING.stagnation_steps:
        end(S, not sound and math.isfinite(s.predicted))
        return
    first = s.radius <= 0.0
    radius = first_radius(S) if first else s.radius
    far = s.boxed != 0 and s.inconsistent != 0 and s.predicted > TUNING.box_promise * r2
    if far and (not first or radius < s.length):
        whole = s.length
        enter(s.cut, S, TUNING.box_share, 0.0)
        radius *= s.length / whole if first else 1.0
    size = search(S, radius)
    length, gain, natural, reached = s.reached, s.gain, s.natural, s.enough
    if s.error != 0:
        return
    if gain <= 0.0:
        end(S, False)
        return
    w, r, other, full = TRIAL + s.best, TRIAL_R + s.best, 1 if s.best == 0 else 0, length >= s.length
    straight = full and s.inconsistent == 0 and s.boxed == 0
    if straight and 0.23 * s.size < size < 0.27 * s.size and 1.9 * length < natural < 2.1 * length:  # a double root
        move(S, W, 2.0, GN, TRIAL + other)
        new = residual(S, TRIAL + other, TRIAL_R + other)
        if new < size:
            size, length, w, r, other = new, 2.0 * length, TRIAL + other, TRIAL_R + other, s.best
    if not inside(S, length):
        radius = max(min(natural, 10.0 * length), length)
    elif gain > TUNING.good_gain and reached >= radius:
        radius = max(reached, 2.0 * length)
    else:
        radius = 0.5 * length if gain < TUNING.poor_gain else reached
    slow = s.inconsistent == 0 and inside(S, length) and size > (1.0 - TUNING.stagnation) * s.size
    s.stagnant = s.stagnant + 1 if slow else 0
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
    if s.predicted < 0.1 * r2:
        s.precise = 1
    arrive(S, w, r, size)
    s.nit += 1
    if tired and at_rounding_level(S):
        s.status = RESIDUAL


@unit
def chords(S: int, w: int, r: int, other: int, size: float, share: float) -> float:
    """Further steps from w with J^+ corrected by good-Broyden updates, while they contract: `gauss_newton.chords`."""
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
        from_coordinates(S, CHORD + made, P)
        combine(S, 1.0, w, 1.0, P, E)
        move(S, w, 1.0, P, TRIAL + other)
        combine(S, 1.0, E, -1.0, TRIAL + other, E)
        if norm(S, E) > 0.0:  # outside the box
            break
        new = residual(S, TRIAL + other, TRIAL_R + other)
        if not new < 0.9 * size:
            break
        copy(S, TRIAL + other, w)
        copy(S, TRIAL_R + other, r)
        size, s.radius = new, max(s.radius, 2.0 * math.sqrt(square))
    return size
