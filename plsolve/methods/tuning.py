"""The tuning constants of Gauss-Newton, each with its meaning and its source.

Lengths are in the metric of the step, gn is the Gauss-Newton step -J^+ r, a gain is actual over predicted reduction of
||r||^2. *Usual*: a value of the textbooks (Conn, Gould, Toint, Trust-Region Methods, 2000). *Measured*: chosen by the
counts of Jacobians and calls of F on problems of the kind named there. *Alike*: values in this range did equally well.
Tables are in docs/checks.md. A comment that begins with "of ..." names the quantity that the constant multiplies.
"""

from __future__ import annotations

from typing import NamedTuple


class Tuning(NamedTuple):
    """Read by the interpreted methods and the compiled kernel alike."""

    # -- the first radius
    first_probe: float = 0.5  # of ||gn||: length of the first probe of F along gn; 1 ends farther from w0 (arms)
    shortest_probe: float = 1e-8  # of ||gn||: a shorter probe is lost in the rounding of F
    first_fraction: float = 0.25  # of ||gn||: first radius where gn is not tried whole; measured on arms, networks
    first_size: float = 50.0  # of ||w||: limit of the first radius, unless the natural radius is larger (MINPACK: 100)
    first_size_square: float = 3.0  # the same for n = m, where solutions are points; CUTEst's square systems
    first_visible: float = 5e-7  # n >= m: relative reduction of the loss that the first radius must allow; tiny starts

    # -- trial steps
    sufficient_gain: float = 1e-4  # an accepted step has at least this gain; usual
    poor_gain: float = 0.25  # below, the radius shrinks; usual
    good_gain: float = 0.75  # above, the radius grows; usual
    excellent_gain: float = 0.9  # n >= m: above, it grows by ``excellent_growth``; measured on fits
    excellent_growth: float = 2.5  # n >= m
    overshoot_gain: float = 0.3  # below, a first accepted step is tried once more, shorter; globalisation study
    exact_gain: float = 0.01  # |gain - 1| below which a dogleg in a box has a natural radius, too; measured with bounds
    lengthen_gain: float = 0.9  # a step accepted after a rejected one is tried longer if its gain is above this,
    lengthen_left: float = 0.9  # if more than this share of ||r|| is left, and
    lengthen_ratio: float = 4.0  # if the rejected step was this many times as long; HEART6 and CUTEst's systems
    dogleg_below: float = 0.3  # of ||gn||: a shorter step is a dogleg, a longer one is along gn; measured on far starts
    dogleg_below_own_kernel: float = 0.02  # the same where J^T z costs as much as J with K; measured on a wide network
    dogleg_below_curved: float = 0.1  # the same for n >= m, where the model in the ball is better than a dogleg
    dogleg_steps: int = 5  # conjugate gradients of a dogleg; measured on ill-conditioned systems from far starts
    dogleg_rounding: float = 1e-10  # of its first gradient: a smaller one is rounding error
    stagnation: float = 1e-3  # of ||r||: a dogleg step that reduces it by less makes no progress
    stagnation_steps: int = 7  # this many of these in a row end the run
    inconsistent: float = 0.01  # of ||r||: if gn leaves more, the linear equations contradict; globalisation study
    inconsistent_curved: float = 0.5  # the same for n >= m, where r never vanishes: gn is not tried
    lost_digits: float = 1e-6  # of ||r||: if a solve leaves more, Cholesky of K is too inexact; globalisation study

    # -- chord steps
    chord_steps: int = 10  # good-Broyden updates that are kept; globalisation study
    chord_contraction: float = 0.5  # ratio of the lengths of two chord steps at most; theta of Deuflhard's NLEQ-ERR
    chord_contraction_own_kernel: float = 0.05  # the same where J with K costs less than a chord step
    chord_rows: int = 8  # with fewer equations, J costs no more than the calls of F that chord steps add; measured

    # -- bounds
    box_promise: float = 0.5  # of ||r||^2: a step in the box that predicts more, but leaves much of r, is shortened
    box_share: float = 0.5  # of the distance to the bounds: how far such a step goes; measured on joint limits
    active_set_steps: int = 50  # factorisations for one step at most
    active_set_solved: float = 1e-9  # of ||r||: if less is left, J p = -r
    active_set_rounding: float = 1e-12  # relative growth of the reduction below which it is rounding error
    bound_share: float = 0.5  # n >= m: of the distance to a bound not known to be active; measured on bounded fits
    bound_releases: int = 10  # n >= m: changes of the active set at most
    bound_linear: float = 0.1  # n >= m: of ||J p||: if F deviates less from its linear model, the bound is trusted
    bound_close: float = 1e-8  # n >= m: unknowns nearer to a bound are scaled as if at this distance

    # -- the curvature of the residual (n >= m)
    curved_unknowns: int = 1024  # limit of m: the eigenvalues of such a matrix take a second or two
    curved_entries: int = 1 << 20  # limit of n m for a sparse or operator J, which is converted to a dense one
    curved_switch: float = 1.5  # ratio of the models' prediction errors from which one replaces the other
    natural_growth: float = 2.0  # of the natural radius, after a step that was not along gn
    correction_length: float = 0.5  # of the step: a second-order correction is no longer (Transtrum, Sethna: 3/8)
    correction_gain: float = 0.5  # of the step's predicted reduction, which the correction must promise
    cholesky_condition: float = 1e-4  # reciprocal condition number of J from which Cholesky of J^T J is accurate enough
    regular_condition: float = 1e-11  # reciprocal condition number of J = Q R from which R counts as invertible
    sound_pivots: float = 1e-2  # smallest by largest pivot, from which Cholesky of the Hessian is accurate enough
    difference_noise: float = 1e-6  # of ||r||^2: a step that reduces it by less asks for central differences
    restart_left: float = 0.1  # of ||r(w0)||: a stage that left more is restarted from w0; CUTEst's square systems
    last_step: float = 1e-9  # of each unknown: a shorter last step is not taken

    # -- the watchdog: see `watchdog`; study of far starts and docs/checks.md
    decrease: float = 0.7  # of the mark: ||r|| must fall to this; 0.5 to 0.9 alike
    patience: int = 8  # steps within which it must fall; 7 to 16 alike
    patience_hand_over: int = 2  # the same where another method follows; CUTEst's square systems
    patience_long: int = 15  # the same after a phase that failed, or below `phase_steepness`; 10 to 30 alike
    phase_steepness: float = 1.0  # of `gauss_newton.steepness`: below, a minimum may be near, and kicks cost less
    phase_steps: int = 30  # undamped steps of one phase; 20 to 100 alike
    phase_longest: float = 5.0  # of ||w - w0||: limit of an undamped step; 1 to none alike, 5 ends nearer to w0
    phase_shortest: float = 1e-3  # of ||w - w0||: undamped steps and kicks are not shortened below this
    phase_converged: float = 0.25  # of ||r||: if an undamped step leaves less, Newton converges; 0 to 0.5 alike
    steep: float = 0.3  # `gauss_newton.steepness` below which a point is next to a minimum: far starts, docs/checks.md
    allowance: int = 2  # Jacobians for phases and kicks near a minimum, per monotone step; 3 wastes too many
    allowance_steep: int = 8  # the same where it is steep; 2 loses 18 of 900
    recovery: float = 0.5  # of ||r|| where monotone steps first stagnated: below this they make progress again
    kick_steps: int = 30  # after one kick; 20 to 45 alike
    kick_distance: float = 2.0  # length of a kick, as a multiple of ||w - w0||; measured on arms
    kick_draws: int = 5  # points of which the best is taken: calls of F that save Jacobians; 3 to 8 alike on arms
    kick_return: float = 0.25  # of ||r|| and of its change by the kick: a residual this close has fallen back
    same_point: float = 1e-6  # relative difference of ||r|| that is equality to rounding: the search for others ends
    better_minimum: float = 0.1  # of ||r|| at a minimum: one that is lower by less is in the same valley


TUNING = Tuning()
