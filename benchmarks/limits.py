"""A number that a benchmark measured, beside the limit that it must keep."""

from typing import NamedTuple


class Check(NamedTuple):
    text: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def passed(self) -> bool:
        return self.value >= self.limit if self.at_least else self.value <= self.limit
