"""The examples of the gallery run, and what they assert is true. Those that compile run where the site is built."""

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import pytest

mpl.use("Agg")

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("plot_*.py"))
QUICK = [path for path in EXAMPLES if not re.search("import (jax|njit)", path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", QUICK, ids=lambda path: path.stem)
def test_an_example_runs_and_draws(path, monkeypatch):
    from matplotlib import pyplot as plt

    monkeypatch.setattr(plt, "show", lambda: None)  # which warns that there is no screen
    try:
        runpy.run_path(str(path))
        assert plt.get_fignums()
        for number in plt.get_fignums():
            plt.figure(number).draw_without_rendering()
    finally:
        plt.close("all")
