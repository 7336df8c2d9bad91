"""Runs that are stopped and go on: what test_checkpoint.py and test_compiled_checkpoint.py share."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from plsolve import solve

WAYS = ("callback", "interrupt", "limit", "F", "jac")


@dataclass(frozen=True)
class Case:
    """A call of solve or infer."""

    F: Callable[..., Any]
    jac: Any
    w0: np.ndarray
    y: Any = None
    settings: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] = solve

    def run(self, **more):
        return self.call(self.F, self.jac, self.w0, self.y, **self.settings | more)


class Counting:
    """A function that counts its calls, and may be interrupted at one of them."""

    def __init__(self, function, at=0):
        self.calls, self._function, self._at = 0, function, at
        self.function = self.by_rows if "rows" in function.__code__.co_varnames else self.whole

    def whole(self, w):
        self.calls += 1
        if self.calls == self._at:
            raise KeyboardInterrupt
        return self._function(w)

    def by_rows(self, w, rows=None):
        self.calls += 1
        if self.calls == self._at:
            raise KeyboardInterrupt
        return self._function(w) if rows is None else self._function(w, rows=rows)


def counted(case, at_F=0, at_jac=0):
    """The case with functions that count their calls, and the counters."""
    F, jac = Counting(case.F, at_F), Counting(case.jac, at_jac) if callable(case.jac) else None
    return replace(case, F=F.function, jac=case.jac if jac is None else jac.function), F, jac


def stop(case, way, k, path):
    """Run until it is stopped in this way at the k-th iteration, or at the k-th call of F or jac."""
    seen = []

    def callback(w):
        seen.append(w)
        if len(seen) == k:
            raise StopIteration if way == "callback" else KeyboardInterrupt

    if os.path.exists(path):
        os.remove(path)
    if way == "limit":
        case.run(checkpoint=path, max_iter=k)
    elif way == "callback":
        case.run(checkpoint=path, callback=callback)
    else:
        interrupted = counted(case, k * (way == "F"), k * (way == "jac"))[0] if way in ("F", "jac") else case
        with pytest.raises(KeyboardInterrupt) as failure:
            interrupted.run(checkpoint=path, callback=callback if way == "interrupt" else None)
        assert failure.value.best.shape == case.w0.shape


def header(path):
    with np.load(path) as file:
        return json.loads(file["header"].tobytes())


def same(one, other):
    """Whether two results are the same, bit for bit, except for the counts of calls."""
    assert one.x.tobytes() == other.x.tobytes()
    assert one.fun.tobytes() == other.fun.tobytes()
    assert (one.status, one.message, one.nit) == (other.status, other.message, other.nit)
    assert (one.method, one.method_reason, one.compiled) == (other.method, other.method_reason, other.compiled)
    for name, mine, theirs in zip(one.history._fields, one.history, other.history, strict=True):
        assert mine.tobytes() == theirs.tobytes(), name


def moments(last, most=3):
    """Some numbers from 1 to last, the first and the last of them among these."""
    return sorted({1, *np.linspace(1, max(last, 1), most).astype(int).tolist()} & set(range(1, max(last, 1) + 1)))
