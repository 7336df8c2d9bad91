"""The main job as its user meets it: a process with printed lines, a picture and an exit code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import plsolve

PNG = b"\x89PNG\r\n\x1a\n"


def run_main(*arguments, cwd):
    """Run the plsolve that these tests import, installed or not."""
    env = {**os.environ, "PYTHONPATH": str(Path(plsolve.__file__).parents[1])}
    command = [sys.executable, "-m", "plsolve", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )


def number(line_start, output):
    (found,) = re.findall(rf"^{line_start} (\d\.\d+e[+-]\d+)$", output, re.MULTILINE)
    return float(found)


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("main")
    return run_main(cwd=cwd), cwd


def test_the_network_passes_through_every_point(solved):
    run, _ = solved
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert number("relative residual", run.stdout) <= 1e-12
    assert number("kernel condition number", run.stdout) < 1e5  # what the file head promises
    assert "168 equations, 6001 unknowns" in run.stdout
    for line in ("method gauss-newton", "iterations ", "distance moved ", "time "):
        assert re.search(f"^{line}", run.stdout, re.MULTILINE), line


def test_the_picture_is_a_png_in_the_working_directory(solved):
    run, cwd = solved
    assert run.stdout.splitlines()[-1] == "picture plsolve.png"
    assert [path.name for path in cwd.iterdir()] == ["plsolve.png"]
    assert (cwd / "plsolve.png").read_bytes().startswith(PNG)


def test_plot_and_width_are_heeded(tmp_path):
    run = run_main("--width", "500", "--method", "gauss-newton", "--plot", "curve.pdf", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "1501 unknowns" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["curve.pdf"]


@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_first_order_methods_stop_after_ten_seconds_with_a_forecast(method, tmp_path):
    run = run_main("--method", method, cwd=tmp_path)
    assert run.returncode == 1, run.stderr
    assert 1e-12 < number("relative residual", run.stdout) < 1.0
    (forecast,) = re.findall(r"^forecast (\S+) more iterations, \d+ (?:minutes|hours|days),", run.stdout, re.MULTILINE)
    assert float(forecast) > 1e4
    (seconds,) = re.findall(r"^time (\S+) s$", run.stdout, re.MULTILINE)
    assert 9.5 < float(seconds) < 15.0


def test_the_narrowest_network_is_called_solved_only_if_it_is(tmp_path):
    run = run_main("--width", "168", cwd=tmp_path)
    residual = number("relative residual", run.stdout)
    assert run.returncode == (0 if residual <= 1e-12 else 1)
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--width", "0"), "whole number from 168 to 100000, got '0'"),
        (("--width", "-3"), "got '-3'"),
        (("--width", "111"), "got '111'"),
        (("--width", "100001"), "got '100001'"),
        (("--width", "2e3"), "got '2e3'"),
        (("--width", "nan"), "got 'nan'"),
        (("--width",), "--width: expected one argument"),
        (("--method", "newton"), "invalid choice: 'newton'"),
        (("--plt", "x.png"), "unrecognized arguments: --plt"),
    ],
)
def test_a_bad_value_is_one_clear_line_and_exit_code_2(arguments, says, tmp_path):
    run = run_main(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert says in line


def test_help_names_every_option(tmp_path):
    run = run_main("--help", cwd=tmp_path)
    assert run.returncode == 0
    for word in ("--method", "--width", "--plot", "FILE", "exit codes"):
        assert word in run.stdout


@pytest.mark.parametrize("path", ["no/such/directory/x.png", "x.unknown", ".", ""])
def test_a_picture_that_cannot_be_written_is_one_line(path, tmp_path):
    run = run_main("--plot", path, cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1].startswith("picture not written: ")
    assert "Traceback" not in run.stderr


def test_a_read_only_directory_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user may write everywhere")
    run = run_main(cwd=tmp_path)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1].startswith("picture not written: ")
    assert "Traceback" not in run.stderr


def test_without_matplotlib_it_still_solves(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('hidden')\n")
    run = run_main(cwd=tmp_path)  # python -m looks into the working directory first
    assert run.returncode == 0, run.stderr
    assert "matplotlib is missing" in run.stdout.splitlines()[-1]
    assert not (tmp_path / "plsolve.png").exists()


def test_the_jacobian_is_the_derivative():
    from plsolve.__main__ import Network, read_series

    series = read_series()
    network = Network(series.t, 113)
    rng = np.random.default_rng(1)
    w = network.start(rng)
    assert np.abs(network.F(w)).max() < 1e-12
    w += 0.1 * rng.standard_normal(w.size)
    v, h = rng.standard_normal(w.size), 1e-5
    differences = (network.F(w + h * v) - network.F(w - h * v)) / (2 * h)
    np.testing.assert_allclose(network.jac(w) @ v, differences, atol=1e-6 * np.abs(differences).max())
    rows = np.array([3, 100, 3])
    np.testing.assert_array_equal(network.jac(w, rows), network.jac(w)[rows])
    np.testing.assert_allclose(network.F(w, rows), network.F(w)[rows], rtol=1e-13, atol=1e-13)


def test_the_series_is_nists():
    from plsolve.__main__ import read_series

    series = read_series()
    np.testing.assert_array_equal(series.month, np.arange(1, 169))
    assert series.pressure[[0, 1, -1]].tolist() == [12.9, 11.3, 14.8]
    # NIST's certified model leaves this residual sum of squares: the data are theirs, digit for digit
    x, y = series.month, series.pressure
    annual, long, short = (2 * np.pi * x / period for period in (12.0, 4.4311088700e01, 2.6887614440e01))
    model = (
        1.0510749193e01 + 3.0762128085 * np.cos(annual) + 0.53280138227 * np.sin(annual)
        - 1.6231428586 * np.cos(long) + 0.52554493756 * np.sin(long)
        + 0.21232288488 * np.cos(short) + 1.4966870418 * np.sin(short)
    )  # fmt: skip
    assert abs(np.sum((y - model) ** 2) - 788.53978668) < 1e-6
