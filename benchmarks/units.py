"""How trackers say what they count in."""

from collections.abc import Callable
from typing import Any


def counted_in(name: str) -> Callable[[Any], Any]:
    """Mark a tracker with its unit, which asv reads from the attribute."""

    def mark(tracker: Any) -> Any:
        tracker.unit = name
        return tracker

    return mark


def within(seconds: float) -> Callable[[Any], Any]:
    """Mark a setup_cache with its time limit."""

    def mark(setup_cache: Any) -> Any:
        setup_cache.timeout = seconds
        return setup_cache

    return mark
