"""The asv suite at small size, and the report that makes the tables of docs/benchmarks.md of it."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import convergence, far_families, marks, proofs, report, scaling, small
from benchmarks.checks import far_starts, portability

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
    assert report.number(x) == text


@pytest.mark.parametrize(("seconds", "text"), [(2.0, "2 s"), (0.0123, "12 ms"), (4.56e-5, "46 µs"), (math.nan, "-")])
def test_times(seconds, text):
    assert report.time(seconds) == text


def test_every_region_of_the_page_has_its_report(monkeypatch):
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    monkeypatch.setattr(report, "REGIONS", {name: lambda new, name=name: f"[{name}]" for name in report.REGIONS})
    text = report.rewritten(page, None)
    for name in report.REGIONS:
        assert text.count(f"<!-- report: {name} -->\n[{name}]\n<!-- /report -->") == 1
    assert report.rewritten(text, None) == text
    with pytest.raises(SystemExit, match="machine"):
        report.rewritten(page.replace("report: machine", "report: machinery").replace("machinery", "growth"), None)


def test_the_pictures_of_the_pages_are_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = [page.parent / name for page in pages for name in re.findall(r"!\[[^]]+\]\((\S+\.png)\)", page.read_text())]
    assert {path.stem for path in named} >= set(report.PICTURES)
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
