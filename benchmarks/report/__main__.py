"""The tables and pictures of docs/benchmarks.md from the newest results of asv: no number in them is typed by hand.

    asv run -E existing --set-commit-hash HEAD && python -m benchmarks.report [--results .asv/results]

Rewrites what stands between `<!-- report: NAME -->` and `<!-- /report -->` in docs/benchmarks.md, and the pictures in
benchmarks/figures.
"""

import argparse
import sys
from pathlib import Path

from benchmarks import marks
from benchmarks.report.pictures import PICTURES
from benchmarks.report.results import Newest
from benchmarks.report.tables import REGIONS

ROOT = Path(__file__).parents[2]
PAGE, FIGURES = ROOT / "docs" / "benchmarks.md", ROOT / "benchmarks" / "figures"


def rewritten(page: str, new: Newest) -> str:
    """The page with every region replaced."""
    found = marks.names(page)
    if unknown := set(found) - REGIONS.keys():
        raise SystemExit(f"The page asks for reports that there are not: {', '.join(sorted(unknown))}")
    if missing := REGIONS.keys() - set(found):
        raise SystemExit(f"The page has no place for: {', '.join(sorted(missing))}")
    for name, text in REGIONS.items():
        page = marks.replaced(page, name, text(new))
    return page


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=ROOT / ".asv" / "results", help="asv's results_dir")
    new = Newest(parser.parse_args().results)
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    text = rewritten(PAGE.read_text(encoding="utf-8"), new)
    FIGURES.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        draw(new, plt).savefig(FIGURES / f"{name}.png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} and {len(PICTURES)} pictures: {new.machine()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
