"""``python -m plsolve.experiments NAME --quick|--full`` compares the papers' claims with measurements."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from plsolve.experiments import almost, batches, du, interpolation, last_layer, wide

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from plsolve.experiments.report import Report

EXPERIMENTS: dict[str, Callable[[bool], Report]] = {
    "wide": wide.run,
    "du": du.run,
    "last-layer": last_layer.run,
    "almost": almost.run,
    "sgd": batches.run,
    "interpolation": interpolation.run,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiments named on the command line."""
    about = "\n".join(f"  {name:14} {run.__doc__}" for name, run in EXPERIMENTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m plsolve.experiments",
        description="Run the papers' experiments, compare claims with measurements, and write NAME.csv and NAME.png.",
        epilog=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", choices=[*EXPERIMENTS, "all"], help="one of those listed below, or all"
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="small problems, which take seconds (default)")
    size.add_argument("--full", action="store_true", help="problems of the paper's size, which take minutes")
    parser.add_argument(
        "--out", type=Path, default=Path(), metavar="DIR", help="directory for the files (default: the current one)"
    )
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in EXPERIMENTS if "all" in options.names else options.names:
        start = time.perf_counter()
        report = EXPERIMENTS[name](options.full)
        report.save(options.out / name)
        print(f"{name}: {report.title}, {time.perf_counter() - start:.1f} s")
        print("\n".join(f"  {line}" for claim in report.claims for line in str(claim).splitlines()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
