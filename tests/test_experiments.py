"""The experiments run, write their files, and find what the papers claim at quick size."""

import csv

import pytest

from plsolve.experiments.__main__ import EXPERIMENTS, main

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_its_table_and_picture(name, tmp_path, capsys):
    assert main([name, "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("claim:") == out.count("measured:") == out.count("agrees") + out.count("DIFFERS") > 0
    assert "DIFFERS" not in out
    with (tmp_path / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 2
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "almost" in capsys.readouterr().err
