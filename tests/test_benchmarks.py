"""The asv suite at small size, and the report that makes the tables of docs/benchmarks.md of it."""

import itertools
import json
import math
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from benchmarks import (
    checkpoints,
    convergence,
    far_families,
    inference,
    marks,
    models,
    proofs,
    scaling,
    sgd_at_scale,
    small,
    start_distance,
)
from benchmarks.checks import far_starts, portability
from benchmarks.report import __main__ as report
from benchmarks.report import pictures, tables, words

ROOT = Path(__file__).parents[1]


def test_the_suite_is_found_without_plsolve():
    """asv imports every module to find the benchmarks, where plsolve need not be installed."""
    files = (ROOT / "benchmarks").glob("*.py")
    names = [f"benchmarks.{p.stem}" for p in files if p.stem != "__init__"]
    code = f"import sys, {', '.join(names)}; assert not {{'plsolve', 'matplotlib', 'asv'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(convergence, "KAPPAS", [10.0**k for k in range(4)])
    monkeypatch.setattr(convergence, "RATIOS", [4])
    monkeypatch.setattr(convergence, "PEERS", ("dogbox",))
    monkeypatch.setattr(convergence, "LIMIT", 3000)


def test_growth_with_kappa(few):
    cells = convergence.all_cells()
    limits = {"gauss-newton": 0.05, "heavy-ball": 0.55, "nesterov": 0.55, "chebyshev": 0.55}
    for method, limit in limits.items():
        assert convergence.exponent(cells, method, 4) <= limit
    for method in ("gd", *list(limits)[1:]):
        assert cells[method, 10.0, 4]["margin"] >= 1.0
    left_out = cells["gd", 1000.0, 4]
    assert left_out.keys() == {"forecast"}
    assert left_out["forecast"] > 3000
    assert cells["gd", 100.0, 4]["iterations"] == pytest.approx(cells["gd", 100.0, 4]["forecast"], rel=0.3)
    assert math.isnan(convergence.exponent(cells, "gd", 4))  # from two points nothing is fitted


@pytest.mark.parametrize("form", scaling.FORMS)
def test_scaling(form):
    cell = scaling.measured(form, 10, 200)
    assert np.isfinite(list(cell.values())).all()
    assert abs(cell["m"] - 200) <= 20
    benchmark = scaling.InUnknowns()
    assert math.isnan(benchmark.track_allocated({}, form, 7))


def test_the_planar_arm_is_the_same_in_all_ways():
    pytest.importorskip("numba")
    assert set(small.ways()) == set(small.WAYS)
    call, _ = small.ways()["compiled"]
    assert call().compiled
    interpreted, _ = small.ways()["interpreted"]
    np.testing.assert_allclose(call().x, interpreted().x, rtol=1e-6)


def test_a_batch_of_poses():
    pytest.importorskip("numba")
    rate, share = small.batch(1, 20)
    assert rate > 0.0
    assert share > 0.3


def test_a_solution_is_as_far_as_it_says():
    for name, make in start_distance.families().items():
        F, _, w0, y = start_distance.system(make, 3, 2.0)
        solution = make(3)[2]
        assert np.array_equal(F(solution), y), name
        assert np.sqrt(np.mean((w0 - solution) ** 2)) == pytest.approx(2.0)
    assert f"{len(start_distance.families())} families" in report.PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("method", start_distance.METHODS)
def test_starts_nearby_are_solved(method, monkeypatch):
    families = {k: far_families.FAMILIES[k] for k in ("sine 3x6 c8", "planar 4", "cubic 10x11")}
    monkeypatch.setattr(start_distance, "families", lambda: families)
    near, far = (start_distance.cell(method, d, range(3)) for d in (0.01, 20.0))
    assert near["share"] == 1.0
    assert near["runs"] == 9.0
    assert near["spent"] < far["spent"] <= start_distance.LIMIT


@pytest.mark.parametrize("way", sgd_at_scale.WAYS)
@pytest.mark.parametrize("name", sgd_at_scale.ROWS)
def test_ways_at_scale_reach_the_level(name, way):
    n = 400 if name == "network" else 2_000
    if not sgd_at_scale.suits(way, name, n):
        pytest.skip("The way does not apply.")
    race = sgd_at_scale.Race(*sgd_at_scale.system(name, n), 0.5)
    cell = race.run(way)
    assert cell["seconds"] > 0.0
    assert cell["passes"] > 0.0 or way in ("plain loop", "LSMR", "L-BFGS-B")


def test_a_way_that_is_late_has_no_time(monkeypatch):
    monkeypatch.setattr(sgd_at_scale, "PATIENCE", 0.0)
    monkeypatch.setattr(sgd_at_scale, "ROWS", {"affine": [2_000]})
    monkeypatch.setattr(sgd_at_scale, "WAYS", ["L-BFGS-B", "LSMR"])
    cells = sgd_at_scale.all_cells()
    assert math.isnan(cells["affine", "L-BFGS-B", 2_000]["seconds"])
    assert cells["affine", "LSMR", 2_000]["seconds"] > 0.0


def test_a_checkpoint_in_the_suite():
    cell = checkpoints.measured(2_000, turns=1)
    assert cell["bytes"] >= 8 * cell["m"]
    assert min(cell["without"], cell["with"]) > 0.0


def test_infer_in_the_suite():
    cells = inference.measured("Matern, 8 x 8")
    assert set(cells) == set(inference.WAYS)
    assert cells["infer"]["near"] <= cells["infer"]["jacobians"]
    assert 0.0 < cells["infer"]["inside"] <= 1.0


def test_models_without_their_package_are_skipped(monkeypatch):
    monkeypatch.setattr(models, "find_spec", lambda name: name == "numpy" or None)
    assert list(models.seconds(20, repeats=1)) == ["WideNetwork"]
    benchmark = models.Kernels()
    benchmark.setup({}, "WideNetwork", 3)
    for way in list(models.NEEDS)[1:]:
        with pytest.raises(NotImplementedError):
            benchmark.setup({}, way, 3)


def test_a_size_that_would_take_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(scaling, "PATIENCE", 0.0)
    monkeypatch.setattr(scaling, "FORMS", ["dense"])
    monkeypatch.setattr(scaling, "UNKNOWNS", [200, 300, 400])
    monkeypatch.setattr(scaling, "SIZES", [10, 20])
    assert list(scaling.all_sizes()) == [
        ("dense", 100, 200),
        ("dense", 100, 300),
        ("dense", 10, 100),
        ("dense", 20, 200),
    ]


def test_forecast_benchmark():
    benchmark = proofs.OneForecast()
    benchmark.setup(20)
    benchmark.time_one_iteration_with_forecast(20)


def test_portability(monkeypatch, capsys, tmp_path):
    """Of two runs here all ends are alike; another status, and another point, are seen."""
    monkeypatch.setattr(portability, "PANEL", [portability.nearest, portability.curve_fit])
    first, second, page = tmp_path / "first.json", tmp_path / "second.json", tmp_path / "page.md"
    page.write_text("<!-- report: portability -->\n<!-- /report -->\n")
    for path in (first, second):
        portability.save(path)
    monkeypatch.setattr(sys, "argv", ["portability", "--compare", str(first), str(second), "--page", str(page)])
    assert portability.main() == 0
    assert page.read_text().count("| 44 | 0 | 0 | 0 | 0 | 0 |") == 2
    run = json.loads(second.read_text())
    (a, b), others = list(run["ends"])[:2], {**run["ends"]}
    run["ends"] = {**others, a: ["STALLED", *others[a][1:]], b: [*others[b][:3], 1.01 * others[b][3]]}
    second.write_text(json.dumps(run))
    assert portability.main() == 1
    assert page.read_text().count("| 44 | 1 | 1 | 0 | 0 | 0 |") == 1
    assert f"second: {a}: " in capsys.readouterr().out


# The report -----------------------------------------------------------------------------------------------------------


PAGE = "Before\n<!-- report: a b -->\nold\n<!-- /report -->\nbetween\n<!-- report: c-1 -->\n<!-- /report -->\nafter\n"


def test_a_report_is_written_between_its_marks(tmp_path):
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    marks.write(path, "c-1", "| \\1 |")
    assert path.read_text() == PAGE.replace("c-1 -->\n", "c-1 -->\n| \\1 |\n")
    marks.write(path, "c-1", "")
    assert path.read_text() == PAGE.replace("c-1 -->\n", "c-1 -->\n\n")
    assert marks.replaced(PAGE, "a b", "new\n") == PAGE.replace("old", "new")


@pytest.mark.parametrize(("page", "name"), [(PAGE, "a"), (PAGE, "c"), (PAGE + PAGE, "c-1"), ("", "a b")])
def test_a_report_has_exactly_one_place(page, name):
    with pytest.raises(ValueError, match=f"one place for the report '{name}'"):
        marks.replaced(page, name, "new")


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (1.234, "1.2"), (0.0123, "0.012"), (123.4, "120"), (2e5, "200000"), (1.5e8, "1.5e8"), (9.96, "10"),
     (1e-5, "1.0e-5"), (math.nan, "-")],
)  # fmt: skip
def test_numbers(x, text):
    assert words.number(x) == text


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2 s"), (0.0123, "12 ms"), (4.56e-5, "46 µs"), (math.nan, "-")])
def test_times(seconds, text):
    assert words.time(seconds) == text


def test_every_region_of_the_page_has_its_report(monkeypatch):
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    monkeypatch.setattr(report, "REGIONS", {name: lambda new, name=name: f"[{name}]" for name in report.REGIONS})
    text = report.rewritten(page, None)
    for name in report.REGIONS:
        assert text.count(f"<!-- report: {name} -->\n[{name}]\n<!-- /report -->") == 1
    assert report.rewritten(text, None) == text
    with pytest.raises(SystemExit, match="machine"):
        report.rewritten(page.replace("report: machine", "report: machinery").replace("machinery", "growth"), None)


class Made:
    """Results of the suite's own trackers and parameters, all numbers the same."""

    def __init__(self, value):
        self.value = value

    def __getitem__(self, name):
        module, cls, tracker = name.split(".")
        benchmark = getattr(import_module(f"benchmarks.{module}"), cls)
        assert callable(getattr(benchmark, tracker))
        return dict.fromkeys(itertools.product(*benchmark.params), self.value)

    def number(self, name):
        module, cls, tracker = name.split(".")
        assert callable(getattr(getattr(import_module(f"benchmarks.{module}"), cls), tracker))
        return self.value


LEFT_OUT = ["growth", "scipy", "sgd", "models"]  # tables with cells that may all be left out
TABLES = [name for name in tables.REGIONS if name != "machine"]


@pytest.mark.parametrize(
    ("name", "value"),
    [*itertools.product(TABLES, [1.0, 12345.678]), *itertools.product(LEFT_OUT, [math.nan])],
)
def test_tables_are_of_what_the_suite_measures(name, value):
    text = tables.REGIONS[name](Made(value))
    for block in text.split("\n\n"):
        lines = block.splitlines()
        assert len({line.count("|") for line in lines}) == 1
        assert len(lines) == 1 or set(lines[1]) == set("| -")
    assert "nan" not in text


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_pictures_are_of_what_the_suite_measures(name):
    plt = pytest.importorskip("matplotlib.pyplot")
    figure = pictures.PICTURES[name](Made(2.0), plt)
    figure.canvas.draw()
    plt.close(figure)


def test_the_pictures_of_the_pages_are_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [page.parent / name for page in pages for name in re.findall(r"!\[[^]]+\]\((\S+\.png)\)", page.read_text())]
    assert {path.stem for path in named} >= set(pictures.PICTURES)
    for path in named:
        assert path.stat().st_size > 5000


@pytest.mark.parametrize("family", ["planar 3", "circle 5"])
def test_far_starts(family, monkeypatch, capsys, tmp_path):
    none = ["--none"] if family in far_families.NONE else []
    results = tmp_path / "far.json"
    arguments = ["--families", family, "--seeds", "0:2", "--limit", "50", "--json", str(results), *none]
    monkeypatch.setattr(sys, "argv", ["far_starts", *arguments])
    assert far_starts.main() == 0
    assert family in capsys.readouterr().out
    assert len(json.loads(results.read_text())) == (2 if none else 4)


@pytest.mark.parametrize("families", [far_families.FAMILIES, far_families.FURTHER, far_families.NONE])
def test_jacobians_of_the_far_families(families):
    for name, make in families.items():
        F, jac, w0, _ = make(0)
        rng = np.random.default_rng(1)
        w, p = w0 + 0.1 * rng.standard_normal(w0.size), 1e-6 * rng.standard_normal(w0.size)
        Jp = jac(w) @ p
        assert np.linalg.norm((F(w + p) - F(w - p)) / 2 - Jp) <= 1e-5 * np.linalg.norm(Jp), name
