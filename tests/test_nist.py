"""curve_fit on the NIST StRD nonlinear data sets, from both starts, nothing tuned: at least six certified digits."""

import nist
import numpy as np
import pytest

from plsolve import curve_fit


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", sorted(nist.MODELS))
def test_certified_digits(name, start):
    data = nist.load(name)
    with np.errstate(all="ignore"):
        popt, pcov = curve_fit(data.model, data.x, data.y, data.starts[start])
    assert nist.digits(popt, data.values) >= 6
    assert nist.digits(np.sqrt(np.diag(pcov)), data.errors) >= (2 if name == "Lanczos1" else 4)


@pytest.mark.parametrize("name", ["Misra1a", "BoxBOD", "Thurber", "Bennett5"])
def test_the_residual_is_the_certified_one(name):
    data = nist.load(name)
    with np.errstate(all="ignore"):
        *_, info, _, ier = curve_fit(data.model, data.x, data.y, data.starts[1], full_output=True)
    assert info["fvec"] @ info["fvec"] == pytest.approx(data.rss, rel=1e-9)
    assert ier in (1, 2, 3, 4)
    assert info["rank"] == data.values.size
    assert info["null_space"].shape == (data.values.size, 0)
