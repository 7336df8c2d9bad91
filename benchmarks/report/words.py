"""Numbers and tables as text."""

import math


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(x: float, digits: int = 2) -> str:
    """With so many digits, but no exponent where the number is of usual size."""
    if not math.isfinite(x):
        return "-"
    if x != 0.0 and not 1e-3 <= abs(x) < 1e6:
        mantissa, power = f"{x:.{digits - 1}e}".split("e")
        return f"{mantissa}e{int(power)}"
    if abs(x) >= 10 ** (digits - 1):
        return f"{round(x, digits - 1 - math.floor(math.log10(abs(x)))):.0f}"
    return f"{x:.{digits}g}"


def power(x: float) -> str:
    """A power of ten, shortly."""
    return f"{x:.0e}".replace("e+0", "e") if x > 1.0 else f"{x:g}"


def count(x: float) -> str:
    """All digits of a whole number, in groups."""
    return "-" if not math.isfinite(x) else f"{x:,.0f}".replace(",", " ")


def percent(x: float) -> str:
    return f"{100 * x:.3g} %"


def time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds / 1e-9)} ns"


def memory(size: float) -> str:
    return "-" if not math.isfinite(size) else f"{number(size / 2**20)} MiB"
