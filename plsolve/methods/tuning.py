"""The tuning constants of Gauss-Newton, each with what it is and where it comes from.

Lengths are in the metric of the step, gn is the Gauss-Newton step -J^+ r, a gain is actual over predicted reduction of
||r||^2. *Usual*: a value of the textbooks (Conn, Gould, Toint, Trust-Region Methods, 2000). *Measured*: chosen by the
counts of Jacobians and calls of F on problems of the kind that is named. Tables are in docs/checks.md.
"""

from __future__ import annotations

from typing import NamedTuple


class Tuning(NamedTuple):
    """Read by the interpreted methods and the compiled kernel alike."""

    # -- the first radius
    first_probe: float = 0.5  # of ||gn||: where F is first asked how far gn leads; 1 moves farther from w0 (arms)
    shortest_probe: float = 1e-8  # of ||gn||: rounding in F hides a shorter one
    first_fraction: float = 0.25  # of ||gn||, where not all of gn is tried; measured on arms and small networks
    first_size: float = 50.0  # of ||w||: a first radius is no longer, unless the natural radius is (MINPACK has 100)
    first_size_square: float = 3.0  # the same for n = m, where solutions are points; CUTEst's square systems
    first_visible: float = 5e-7  # n >= m: the loss can fall by so much within a first radius; tiny starts

    # -- trial steps
    sufficient_gain: float = 1e-4  # of an accepted step; usual
    poor_gain: float = 0.25  # below, the radius shrinks; usual
    good_gain: float = 0.75  # above, the radius grows; usual
    excellent_gain: float = 0.9  # n >= m: above, it grows by ``excellent_growth``; measured on fits
    excellent_growth: float = 2.5  # n >= m
    overshoot_gain: float = 0.3  # below, a first accepted step is tried once more, shorter; globalisation study
    exact_gain: float = 0.01  # gain - 1 of a dogleg step that tells how long the next one may be; measured with bounds
    lengthen_gain: float = 0.9  # of an accepted step after a rejected one: a longer one between the two is tried, where
    lengthen_left: float = 0.9  # of ||r|| is left at least, and
    lengthen_ratio: float = 4.0  # the rejected step was so many times as long; measured on HEART6 and CUTEst's systems
    dogleg_below: float = 0.3  # of ||gn||: a shorter step is a dogleg, a longer one is gn cut; measured on far starts
    dogleg_below_own_kernel: float = 0.02  # the same where J^T z costs as much as J with K; measured on a wide network
    dogleg_below_curved: float = 0.1  # the same for n >= m, where the model in the ball is better than a dogleg
    dogleg_steps: int = 5  # conjugate gradients of a dogleg; measured on ill-conditioned systems from far starts
    dogleg_rounding: float = 1e-10  # of its first gradient: a smaller one is rounding error
    stagnation: float = 1e-3  # of ||r||: what a dogleg step takes away at least, or it leads nowhere
    stagnation_steps: int = 7  # so many of these in a row end the run
    inconsistent: float = 0.01  # of ||r|| left by gn in the linear model: the equations contradict; globalisation study
    inconsistent_curved: float = 0.5  # the same for n >= m, where some of r always stays: gn is not worth a try
    lost_digits: float = 1e-6  # of ||r|| left by a solve with K: its Cholesky factor is no good; globalisation study

    # -- chord steps
    chord_steps: int = 10  # good-Broyden updates that are kept; globalisation study
    chord_contraction: float = 0.5  # of a chord step's length the next one has at most; theta of Deuflhard's NLEQ-ERR
    chord_contraction_own_kernel: float = 0.05  # the same where J with K costs less than a chord step
    chord_rows: int = 8  # equations, below which J costs no more than the calls of F that chord steps add; measured

    # -- bounds
    box_promise: float = 0.5  # of ||r||^2, promised by a step that bounds keep from solving: it is not gone whole
    box_share: float = 0.5  # of the way to bounds that it goes instead; measured on joint limits
    active_set_steps: int = 50  # factorisations for one step at most
    active_set_solved: float = 1e-9  # of ||r|| left: J p = -r
    active_set_rounding: float = 1e-12  # relative growth of the reduction that is no rounding error
    bound_share: float = 0.5  # n >= m: of the way to a bound that is not known to be active; measured on bounded fits
    bound_releases: int = 10  # n >= m: how often it is asked which bounds hold, at most
    bound_linear: float = 0.1  # n >= m: of ||J p||, how far F may be off for the bound on the way to be the right one
    bound_close: float = 1e-8  # n >= m: what is nearer to a bound moves as freely as that

    # -- the curvature of the residual (n >= m)
    curved_unknowns: int = 1024  # at most: the eigenvalues of an m x m matrix take a second or two there
    curved_entries: int = 1 << 20  # of a sparse or operator J at most: it is handled as a dense one
    curved_switch: float = 1.5  # one model must have been so much nearer to F than the other to replace it
    natural_growth: float = 2.0  # of the natural radius, by a step that was not along gn
    correction_length: float = 0.5  # of the step: a second-order correction is no longer (Transtrum, Sethna: 3/8)
    correction_gain: float = 0.5  # of the step's predicted reduction, which the correction must promise
    cholesky_condition: float = 1e-4  # reciprocal condition number of J for which Cholesky of J^T J will do
    regular_condition: float = 1e-11  # the same beyond which R of J = Q R can be divided by
    sound_pivots: float = 1e-2  # least by largest pivot beyond which a Cholesky factor of the Hessian is good enough
    difference_noise: float = 1e-6  # of ||r||^2: a step that takes less away asks for central differences
    restart_left: float = 0.1  # of ||r(w0)||: another method that left more has led astray; CUTEst's square systems
    last_step: float = 1e-9  # of each unknown: a shorter last step is not taken

    # -- the watchdog: see `watchdog`; study of far starts and docs/checks.md
    decrease: float = 0.7  # of the mark: what ||r|| must fall to; 0.5 to 0.9 alike
    patience: int = 8  # steps within which it must; 7 to 16 alike
    patience_hand_over: int = 2  # the same where another method follows; CUTEst's square systems
    patience_after_phase: int = 15  # the same after a phase that failed; 10 to 30 alike
    phase_steepness: float = 0.1  # `gauss_newton.steepness` from which a phase is worth a try; 0.1 to 0.5 alike
    phase_steps: int = 30  # undamped steps of one phase; 20 to 100 alike
    phase_longest: float = 5.0  # of the way from w0: no undamped step is longer; 1 to none alike, 5 stays nearer
    phase_shortest: float = 1e-3  # of the way: an undamped step, or a kick, that must be cut shorter is none
    phase_converged: float = 0.25  # of ||r|| left by an undamped step: Newton's method has caught on; 0 to 0.5 alike
    steep: float = 0.3  # `gauss_newton.steepness` below which a point is next to a minimum: far starts, docs/checks.md
    allowance: int = 2  # Jacobians that a monotone step allows to phases and kicks there; 3 costs too much in vain
    allowance_steep: int = 8  # the same where it is steep; 2 loses 18 of 900
    recovery: float = 0.5  # of ||r|| where monotone steps first led nowhere: below, they are on the way again
    kick_steps: int = 30  # after one kick; 20 to 45 alike
    kick_largest: float = 4.0  # kick, as a multiple of the way from w0
    kick_return: float = 0.5  # of the way of a kick: what comes so near to its beginning, and to
    kick_return_size: float = 2.0  # times its ||r||, falls back
    same_minimum: float = 0.02  # of ||r||: a kick that ends so near fell back to the same minimum
    same_point: float = 1e-6  # of ||r||: so near it is the same one to rounding, and no other is looked for
    better_minimum: float = 0.1  # of the ||r|| of a minimum: what gains less is in the same valley


TUNING = Tuning()
