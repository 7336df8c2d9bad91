"""The watchdog's decisions: functions of plain numbers, which run both interpreted and in compiled code.

They change a `Watch` or, in compiled code, the record of a system, which has the same fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from plsolve._stopping import RUNNING, Status
from plsolve.methods.tuning import TUNING

# What follows when monotone steps stagnate: phases of undamped steps, then kicks; kicks only; the end of the run, since
# another method follows; nothing, the run ends where no step reduces the loss.
PHASES, KICKS, HAND_OVER, ALONE = range(4)
MONOTONE, UNDAMPED, KICKED = range(3)
STALLED, STATIONARY = int(Status.STALLED), int(Status.STATIONARY)

# After a step that follows a kick: it has reached a new best point; it goes on; it returns to the best point from
# before; it returns from one that is slightly better.
ARRIVED, UNDER_WAY, FELL_BACK, FELL_LOWER = range(4)


@dataclass(slots=True)
class Watch:
    """The progress of ||r||, and what is allowed where it stagnates."""

    plan: int  # PHASES, KICKS, HAND_OVER or ALONE
    root: bool  # a stationary point is no answer
    mark: float  # the last ||r|| that had fallen far enough
    own: int  # monotone steps before they stagnated
    level: float  # ||r|| where monotone steps first stagnated; 0: they have not
    phase: int = MONOTONE
    left: int = 0  # steps of the phase
    slow: int = 0  # steps since the mark
    failed: bool = False  # the last phase of undamped steps did not reduce ||r|| enough
    allowance: int = TUNING.allowance_steep  # Jacobians that each monotone step allows to phases and kicks
    kicks: int = 0  # made so far
    near: float = 0.0  # distance to the residual of the best point below which the last kick has fallen back


def spare(k: Any, nit: int) -> int:
    """Jacobians that phases and kicks may still cost; a kick costs one even if no step follows."""
    return (1 + k.allowance) * k.own - nit - k.kicks  # type: ignore[no-any-return]


def begin(k: Any, phase: int, left: int, size: float) -> None:
    """A phase of at most ``left`` steps begins at ||r|| = size."""
    k.phase, k.left, k.mark, k.slow = phase, left, size, 0


def note(k: Any, size: float) -> None:
    """One more step has led to a residual of this size."""
    k.slow += 1
    if size <= TUNING.decrease * k.mark:
        k.mark, k.slow, k.failed = size, 0, False


def recover(k: Any, size: float) -> None:
    """Forget the stagnation once the residual is well below the level where monotone steps stagnated."""
    if size <= TUNING.recovery * k.level:
        k.level = 0.0


def after_monotone(k: Any, status: int, size: float, steep: float, nit: int) -> tuple[int, int]:
    """The status after a monotone step, and which phase is to begin, or MONOTONE."""
    note(k, size)
    recover(k, size)
    allowance = TUNING.allowance_steep if steep > TUNING.steep else TUNING.allowance
    k.allowance = min(allowance, k.allowance) if k.level > 0.0 else allowance  # near a minimum it does not grow again
    k.own += k.level == 0.0
    left = spare(k, nit)
    hopeful = steep > TUNING.phase_steepness and not k.failed
    patience = TUNING.patience if hopeful else TUNING.patience_long
    patience = TUNING.patience_hand_over if k.plan == HAND_OVER else patience
    stagnates = status == RUNNING and k.plan != ALONE and k.slow >= patience
    if status == RUNNING and (left <= 0 or (stagnates and k.plan != PHASES)):
        status, stagnates = STALLED, False
    if status == STALLED:
        k.level = max(k.level, size)
    if k.plan == HAND_OVER or k.plan == ALONE or left <= 0:  # a tuple is slow to compile
        return status, MONOTONE
    if status == STALLED or (status == STATIONARY and k.root):
        return status, KICKED
    return status, UNDAMPED if stagnates and steep > TUNING.steep else MONOTONE


def after_kicked(k: Any, status: int, size: float, nit: int, least: float, ended: int, apart: float) -> int:
    """The outcome of a step that follows a kick.

    least, ended: ||r|| at the best point, and the status with which monotone steps ended there; apart: ||r - r_best||.
    """
    same = abs(size - least) <= TUNING.same_point * least
    falls_back = same or apart < k.near
    minimum = k.allowance <= TUNING.allowance
    enough = (1.0 - TUNING.better_minimum if ended == STALLED and minimum else 1.0) * least
    if status > 0 or (status == RUNNING and size < enough and not falls_back):
        recover(k, size)
        return ARRIVED
    note(k, size)
    k.left -= 1
    if status == RUNNING and k.slow < TUNING.patience and min(k.left, spare(k, nit)) > 0 and not falls_back:
        return UNDER_WAY
    if same or (falls_back and status == STATIONARY):
        k.allowance = 0  # other kicks would fall back, too
    return FELL_LOWER if size < least and not same else FELL_BACK
