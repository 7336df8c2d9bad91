"""What theory states of rates, growth and forecasts, at small size: benchmarks/checks/pl_star.py has the full grids."""

import numpy as np
import pytest

from benchmarks.checks import pl_star
from plsolve.testing import prescribed_spectrum

GRID = [(1.0, 0.0), (1.0, 0.3), (1e2, 0.1), (1e4, 0.2), (1e6, 0.0), (1e6, 0.3)]


@pytest.mark.parametrize(("kappa", "e"), GRID)
def test_gradient_descent_contracts_in_every_iteration(kappa, e):
    """1.1: L+/L <= 1 - eta mu."""
    assert pl_star.gd_excess(prescribed_spectrum(20, 60, kappa, e, seed=3), 1000) <= 1e3


@pytest.mark.parametrize(("kappa", "e"), GRID)
@pytest.mark.parametrize("kind", pl_star.MOMENTA)
def test_momentum_keeps_the_bound_of_gradient_descent(kind, kappa, e):
    """6.3: L_t <= (1 - eta mu)^t L_0, here in every iteration."""
    assert pl_star.momentum_excess(prescribed_spectrum(20, 60, kappa, e, seed=3), kind, 1000) <= 1e-9


@pytest.mark.parametrize("batch", [1, 4, 20])
@pytest.mark.parametrize("kappa", [1.0, 1e1, 1e3])
@pytest.mark.parametrize(("theorem", "e"), [("1.3", 0.0), ("1.3", 0.3), ("5.1", 0.0)])
def test_sgd_contracts_on_average(theorem, e, kappa, batch):
    assert pl_star.sgd_excess(theorem, kappa, e, batch, seeds=40, epochs=8) <= 3.0


@pytest.mark.parametrize("batch", [1, 20])
def test_sgd_contracts_inside_the_tube(batch):
    assert pl_star.sgd_excess("5.2", 10.0, 0.2, batch, seeds=30, epochs=4) <= 3.0


@pytest.mark.parametrize("e", [0.0, 0.3])
@pytest.mark.parametrize(
    ("name", "kappas", "limit"),
    [
        ("gd", [1e1, 1e2, 1e3], 1.05),
        ("gauss-newton", 10.0 ** np.arange(9), 0.05),
        *((kind, [1e1, 1e2, 1e3, 1e4], 0.55) for kind in pl_star.MOMENTA),
    ],
)
@pytest.mark.parametrize("given", [True, False])
def test_growth_with_kappa(name, kappas, limit, e, given):
    counts = []
    for kappa in kappas:
        p = prescribed_spectrum(20, 60, kappa, e, seed=1)
        options = (pl_star.given(p) if given else {}) | ({"momentum": name} if name in pl_star.MOMENTA else {})
        counts.append(pl_star.count(p, None if name == "gauss-newton" else options))
    assert pl_star.exponent(kappas, counts) <= limit, counts
    if name == "gd":
        assert pl_star.exponent(kappas, counts) >= 0.9, "gd iterates with gd, not with something faster"


def test_forecasts_are_within_a_factor_two():
    share, missed = pl_star.forecast_share(pl_star.known_runs([1e1, 1e2]))
    assert share >= 0.9, missed
