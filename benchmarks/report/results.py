"""The newest results of asv."""

import ast
import itertools
import json
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Values = dict[tuple[Any, ...], float]


class Newest:
    """The newest results of the whole suite: benchmark -> {parameters: number}, NaN where a cell was left out."""

    def __init__(self, folder: Path) -> None:
        from asv.results import Results

        files = [p for p in folder.glob("*/*.json") if p.name != "machine.json"]
        suite = json.loads((folder / "benchmarks.json").read_text()).keys() - {"version"} if files else set()
        for path in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True):
            self.results = Results.load(str(path), machine_name=path.parent.name)
            if suite <= set(self.results.get_all_result_keys()):
                return
        raise SystemExit(f"No results of the whole suite in {folder}: asv run -E existing --set-commit-hash HEAD")

    def __getitem__(self, name: str) -> Values:
        params = [[parsed(p) for p in axis] for axis in self.results.get_result_params(name)]
        values = self.results.get_result_value(name, self.results.get_result_params(name))
        if any(value is None for value in values):
            raise SystemExit(f"{name} failed in the newest results.")
        return dict(zip(itertools.product(*params), values, strict=True))

    def number(self, name: str) -> float:
        (value,) = self[name].values()
        return value

    def machine(self) -> str:
        p = self.results.params
        when = datetime.fromtimestamp(max(self.results.started_at.values()) / 1000.0, UTC).date()
        memory = round(int(p["ram"]) / 2**30) if str(p["ram"]).isdigit() else p["ram"]
        return (
            f"Measured on {when} with asv at commit `{self.results.commit_hash[:8]}`: {p['cpu']}, "
            f"{p['num_cpu']} cores, {memory} GiB, {p['os'].split('-')[0]}, Python {platform.python_version()}."
        )


def parsed(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def axis(values: Values, k: int) -> list[Any]:
    """The k-th parameter's values, in their order."""
    return list(dict.fromkeys(key[k] for key in values))
