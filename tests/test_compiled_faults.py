"""Whatever numba functions do at whichever call, and whenever Ctrl-C comes: nothing is lost, nothing untrue is said."""

import pytest

from benchmarks.checks import fault_compiled


@pytest.mark.parametrize("hundred", range(4))
def test_injected(hundred):
    """Runs of benchmarks/checks/faults.py, which says what is tried."""
    seeds = range(100 * hundred, 100 * (hundred + 1))
    assert not {seed: found for seed in seeds if (found := fault_compiled.broken_compiled(seed))}


def test_what_is_injected_would_be_seen(monkeypatch):
    """The check can fail: it does where solve loses a point and miscounts."""
    real = fault_compiled.solve

    def lossy(*args, **settings):
        sol = real(*args, **settings)
        sol["x"] = sol.x + 1.0
        sol["nfev"] += 1
        return sol

    monkeypatch.setattr(fault_compiled, "solve", lossy)
    found = {what.split()[0] for seed in range(60) for what in fault_compiled.broken_compiled(seed)}
    assert {"fun", "nfev,"} <= found
