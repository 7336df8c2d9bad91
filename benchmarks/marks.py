"""Tables that programs write into pages: what stands between `<!-- report: NAME -->` and `<!-- /report -->`."""

import re
from pathlib import Path

MARKED = re.compile(r"(<!-- report: ([\w -]+) -->\n).*?(<!-- /report -->)", flags=re.DOTALL)


def names(page: str) -> list[str]:
    """Of all reports that a page has a place for, in their order."""
    return [match[2] for match in MARKED.finditer(page)]


def replaced(page: str, name: str, text: str) -> str:
    """The page with this text as the report of this name, for which it must have exactly one place."""
    if names(page).count(name) != 1:
        raise ValueError(f"The page must have one place for the report {name!r}; it has places for {names(page)}.")

    def report(match: re.Match[str]) -> str:
        return f"{match[1]}{text.strip()}\n{match[3]}" if match[2] == name else match[0]

    return MARKED.sub(report, page)


def write(path: Path, name: str, text: str) -> None:
    """Write the report of this name into the page at this path."""
    path.write_text(replaced(path.read_text(encoding="utf-8"), name, text), encoding="utf-8")
