"""What the watchdog decides, on numbers alone: the same functions run interpreted and in compiled code.

They change a `Watch`, or what has its fields: in compiled code that is the record of a system.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plsolve._stopping import RUNNING, Status
from plsolve.methods.tuning import TUNING

# Where monotone steps lead nowhere: phases of undamped steps, then kicks; kicks alone; an end, since another method
# follows; no more than an end where no step reduces the loss.
PHASES, KICKS, HAND_OVER, ALONE = range(4)
MONOTONE, UNDAMPED, KICKED = range(3)
STALLED, STATIONARY = int(Status.STALLED), int(Status.STATIONARY)

# After a kick: the best point, from which monotone steps go on; not yet; back to the best point from before, or from
# one that is a little better.
ARRIVED, UNDER_WAY, FELL_BACK, FELL_LOWER = range(4)


@dataclass(slots=True)
class Watch:
    """How the residual falls, and what is to be done where it does not."""

    plan: int  # PHASES, KICKS, HAND_OVER or ALONE
    root: bool  # a stationary point is no answer
    mark: float  # ||r|| where it had last fallen far enough
    own: int  # monotone steps before they led nowhere
    level: float  # ||r|| where monotone steps first led nowhere; 0: they lead on
    phase: int = MONOTONE
    left: int = 0  # steps of the phase
    slow: int = 0  # steps since the mark
    failed: bool = False  # the last phase of undamped steps did not make ||r|| fall so far
    allowance: int = TUNING.allowance_steep  # Jacobians that each monotone step allows to phases and kicks
    kicks: int = 0  # made so far
    force: float = 1.0  # of the next kick, as a multiple of the way from w0
    way: float = 0.0  # that the last kick has led


def spare(k: Any, nit: int) -> int:
    """Jacobians that phases and kicks may still cost; a kick costs one even if no step follows."""
    return (1 + k.allowance) * k.own - nit - k.kicks  # type: ignore[no-any-return]


def begin(k: Any, phase: int, left: int, size: float) -> None:
    """A phase begins, where ||r|| is size."""
    k.phase, k.left, k.mark, k.slow = phase, left, size, 0


def note(k: Any, size: float) -> None:
    """One more step has led to a residual of this size."""
    k.slow += 1
    if size <= TUNING.decrease * k.mark:
        k.mark, k.slow, k.failed = size, 0, False


def recover(k: Any, size: float) -> None:
    """Monotone steps are on the way again where the residual is well below where they led nowhere."""
    if size <= TUNING.recovery * k.level:
        k.level = 0.0


def after_monotone(k: Any, status: int, size: float, steep: float, nit: int) -> tuple[int, int]:
    """The status after a monotone step, and which phase is to begin, or MONOTONE."""
    note(k, size)
    recover(k, size)
    allowance = TUNING.allowance_steep if steep > TUNING.steep else TUNING.allowance
    k.allowance = min(allowance, k.allowance) if k.level > 0.0 else allowance  # a minimum remains one
    k.own += k.level == 0.0
    left = spare(k, nit)
    patience = TUNING.patience_after_phase if k.failed else TUNING.patience
    patience = TUNING.patience_hand_over if k.plan == HAND_OVER else patience
    crawls = status == RUNNING and k.plan != ALONE and k.slow >= patience
    if status == RUNNING and (left <= 0 or (crawls and k.plan != PHASES)):
        status, crawls = STALLED, False
    if status == STALLED:
        k.level = max(k.level, size)
    if k.plan == HAND_OVER or k.plan == ALONE or left <= 0:  # a tuple is slow to compile
        return status, MONOTONE
    if status == STALLED or (status == STATIONARY and k.root):
        return status, KICKED
    return status, UNDAMPED if crawls and steep > TUNING.phase_steepness else MONOTONE


def after_kicked(k: Any, status: int, size: float, nit: int, least: float, ended: int, back: float) -> int:
    """What a step on the way from a kick has led to.

    least, ended: ||r|| of the best point, and the status with which monotone steps ended there; back: the way there.
    """
    same = abs(size - least) <= TUNING.same_point * least
    near = same or (size < TUNING.kick_return_size * least and back < TUNING.kick_return * k.way)
    minimum = k.allowance <= TUNING.allowance
    enough = (1.0 - TUNING.better_minimum if ended == STALLED and minimum else 1.0) * least
    if status > 0 or (status == RUNNING and size < enough and not near):
        recover(k, size)
        k.force = 1.0
        return ARRIVED
    note(k, size)
    k.left -= 1
    if status == RUNNING and k.slow < TUNING.patience and min(k.left, spare(k, nit)) > 0 and not near:
        return UNDER_WAY
    alike = near or abs(size - least) <= TUNING.same_minimum * least
    if same or (alike and (status == STATIONARY or (minimum and k.force == TUNING.kick_largest))):
        k.allowance = 0  # all would fall back
    k.force = min(2.0 * k.force, TUNING.kick_largest) if alike else 1.0
    return FELL_LOWER if size < least and not same else FELL_BACK
