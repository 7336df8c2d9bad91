"""The experiments measure what they say, against computations of their own, and say so when a claim does not hold."""

import csv

import naive
import numpy as np
import pytest
from scipy.optimize import least_squares

from plsolve.experiments import almost, batches, du, interpolation, last_layer, wide
from plsolve.experiments.__main__ import EXPERIMENTS, main
from plsolve.experiments.report import hessian_norm, sphere
from plsolve.networks import WideNetwork

pytest.importorskip("matplotlib")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_writes_its_table_and_picture_and_judges_every_claim(name, tmp_path, capsys):
    assert main([name, "--quick", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert out.count("claim:") == out.count("measured:") == out.count("agrees") + out.count("DIFFERS") > 0
    with (tmp_path / f"{name}.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 2
    assert all(row.keys() == rows[0].keys() for row in rows)
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_names_are_refused(capsys):
    with pytest.raises(SystemExit):
        main(["nonsense"])
    assert "almost" in capsys.readouterr().err


# -- what is measured --------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X = np.sqrt(3.0) * sphere(6, 3, 0)
Y = RNG.standard_normal(6)


def descent(net, w, y, eta, steps):
    """Plain gradient descent on differences: losses and points."""
    points = [w]
    for _ in range(steps):
        points.append(points[-1] - eta * naive.jacobian(net.F, points[-1]).T @ (net.F(points[-1]) - y))
    return [0.5 * np.sum((net.F(p) - y) ** 2) for p in points], points


@pytest.mark.parametrize("widths", [(5,), (4, 3)], ids=str)
@pytest.mark.parametrize("output", [None, (last_layer.bent, last_layer.bent_slope)])
def test_the_hessian_norm(widths, output):
    net = WideNetwork(X, widths, output_activation=output)
    w, i = net.init(0), 2
    H = naive.jacobian(lambda v: naive.jacobian(net.F, v)[i], w, 1e-4)
    assert np.isclose(hessian_norm(net, w, i), np.abs(np.linalg.eigvalsh(0.5 * (H + H.T))).max(), rtol=2e-3)


def test_the_hessian_norm_of_a_wide_network_is_that_of_its_worst_unit():
    d, width, i = 10, 300, 1
    inputs = np.sqrt(d) * sphere(4, d, 0)
    net = WideNetwork(inputs, (width,))
    w = net.init(3)
    W, b = net.layers[0].split(w)
    a, _ = net.layers[1].split(w)
    u = np.append(inputs[i] / np.sqrt(d), 1.0)
    t = np.tanh(inputs[i] @ W / np.sqrt(d) + b)
    slope, bend = 1.0 - t * t, a[:, 0] * -2.0 * t * (1.0 - t * t)
    units = [[[c * (u @ u), s * np.sqrt(u @ u)], [s * np.sqrt(u @ u), 0.0]] for c, s in zip(bend, slope, strict=True)]
    exact = np.abs(np.linalg.eigvalsh(units)).max() / np.sqrt(width)
    assert np.isclose(hessian_norm(net, w, i), exact, rtol=2e-3)


def test_the_path_of_gradient_descent():
    net = WideNetwork(X, (30,))
    row, path = wide.measure(net, Y, 40, 1)
    losses, points = descent(net, net.init(2), Y, path.eta, 40)
    np.testing.assert_allclose(path.loss, losses, rtol=1e-6)
    np.testing.assert_allclose(path.away, [np.linalg.norm(p - points[0]) for p in points], rtol=1e-6)
    spectra = np.array([np.linalg.svd(naive.jacobian(net.F, p), compute_uv=False) ** 2 for p in points])
    np.testing.assert_allclose(path.low, spectra.min(axis=1), rtol=1e-4)
    assert np.isclose(row["lambda_min_least"], spectra.min(), rtol=1e-4)
    assert np.isclose(row["ball"], 2 * np.sqrt(spectra.max() * 2 * losses[0]) / spectra.min(), rtol=1e-4)
    assert np.isclose(row["eta"], 1 / (1.05 * spectra[0].max()), rtol=1e-6)
    bound = losses[0] * (1 - row["eta"] * spectra.min()) ** np.arange(41)
    assert np.isclose(row["loss_over_bound"], np.max(losses / bound), rtol=1e-4)


def test_a_bent_output_scales_the_rows_of_j_by_its_slope():
    plain, net = (WideNetwork(X, (9,), output_activation=f) for f in (None, (last_layer.bent, last_layer.bent_slope)))
    w = net.init(0)
    z = plain.F(w)
    np.testing.assert_allclose(net.F(w), z - 0.5 * np.cos(z))
    D = np.diag(1.0 + 0.5 * np.sin(z))
    np.testing.assert_allclose(net.jac(w).gram(), D @ plain.jac(w).gram() @ D, rtol=1e-10)


def test_du_s_kernel_is_the_mean_over_weights():
    inputs = sphere(5, 4, 1)
    active = inputs @ RNG.standard_normal((4, 400_000)) > 0.0
    mean = (inputs @ inputs.T) * (active.astype(float) @ active.T / active.shape[1])
    np.testing.assert_allclose(du.infinite_kernel(inputs), mean, atol=5e-3)


def test_du_s_epochs():
    inputs, y, width, eta = sphere(5, 4, 1), RNG.standard_normal(5), 20, 0.4
    row, error = du.measure(inputs, y, width, eta, 0.1)
    net = WideNetwork(2.0 * inputs, (width,), "relu", bias=False, train="first", rng=width)
    W0 = W = net.init(width + 1).reshape(4, width)
    a = net.layers[1].W[:, 0]
    plain = []
    for _ in range(du.EPOCHS + 1):
        r = np.maximum(inputs @ W, 0.0) @ a / np.sqrt(width) - y
        plain.append(r @ r)
        last, W = W, W - eta * inputs.T @ (r[:, None] * (inputs @ W > 0.0) * a) / np.sqrt(width)
    np.testing.assert_allclose(error, plain, rtol=1e-8, atol=1e-12)
    changed = [(x @ v > 0) != (x @ v0 > 0) for x in inputs for v, v0 in zip(last.T, W0.T, strict=True)]
    assert np.isclose(row["patterns_changed"], np.mean(changed))
    assert np.isclose(row["largest_move"], max(np.linalg.norm(last[:, j] - W0[:, j]) for j in range(width)))


@pytest.mark.parametrize("m", [8, 20, 30])
def test_the_floor_is_what_scipy_finds(m):
    row = almost.measure(20, m, 0)
    rng = np.random.default_rng(0)
    A, y = rng.standard_normal((20, m)) / np.sqrt(20), rng.standard_normal(20)
    fit = least_squares(lambda w: A @ (w + 0.3 * np.sin(w)) - y, np.zeros(m), xtol=1e-12, ftol=1e-14, gtol=1e-12)
    np.testing.assert_allclose(row["floor"], fit.cost / (0.5 * y @ y), rtol=1e-6, atol=1e-18)


@pytest.mark.parametrize("s", [1, 4, 8])
def test_sgd_takes_as_many_steps_as_a_plain_loop(s):
    inputs = np.sqrt(12.0) * sphere(8, 12, 0)
    y = RNG.standard_normal(8)
    net = WideNetwork(inputs, (100,), bias=False)
    w0 = net.init(2, first=2.0)
    J = naive.jacobian(net.F, w0)
    row, largest = np.max(np.sum(J * J, axis=1)), np.linalg.norm(J, 2) ** 2
    np.testing.assert_allclose(batches.constants(net, w0), (row, largest), rtol=1e-6)
    eta, counts = 1.0 / (8 / s * row + (1 - 1 / s) * largest), []
    rng = np.random.default_rng(5)
    for _ in range(10):
        w, steps = w0.copy(), 0
        while np.linalg.norm(net.F(w) - y) > batches.DROP * max(np.linalg.norm(y), np.linalg.norm(net.F(w0))):
            for _ in range(-(-8 // s)):  # an epoch: only then the residual is looked at
                rows = rng.integers(8, size=s)
                w -= eta * 8 / s * net.jac(w, rows=rows).rmatvec(net.F(w, rows=rows) - y[rows])
                steps += 1
        counts.append(steps)
    ours = [batches.measure(net, w0, y, s, seed)["steps"] for seed in range(10)]
    spread = np.hypot(np.std(ours), np.std(counts)) / np.sqrt(10)
    assert abs(np.mean(ours) - np.mean(counts)) <= 5 * spread + 8 / s


def test_the_loss_on_the_segment():
    net = WideNetwork(X, (5,))
    w0, w = net.init(0), net.init(1)
    losses = interpolation.segment(net, w0, w, Y)
    assert losses[0] == 1.0
    for k in (0, 37, 100):
        at = w0 + k / 100 * (w - w0)
        loss = np.sum((net.F(at) - Y) ** 2) / np.sum((net.F(w0) - Y) ** 2)
        assert np.isclose(losses[k], loss)


# -- what is said of it ------------------------------------------------------------------------------------------------


def verdicts(claims):
    assert all(str(claim).rstrip().endswith("agrees" if claim.agrees else "DIFFERS") for claim in claims)
    return [claim.agrees for claim in claims]


WIDTHS = (50, 100, 200, 400)


def network_rows(power=-0.5, change=(0.4, 0.3, 0.2, 0.1), over=1.0, away=1.0, logarithm=0.0, **more):
    return [
        {"width": m, "hessian_norm": m**power * np.log(m) ** logarithm, "lambda_min_change": c, "loss_over_bound": over,
         "distance": away, "ball": 2.0, "lambda_min_start": 1.0, "lambda_min_least": 0.9, **more}
        for m, c in zip(WIDTHS, change, strict=True)
    ]  # fmt: skip


def test_claims_of_wide_networks():
    assert verdicts(wide.claims(network_rows())) == [True, False, True, True, True]
    assert verdicts(wide.claims(network_rows(logarithm=0.5))) == [False, True, True, True, True]
    assert verdicts(wide.claims(network_rows(power=-0.3)))[:2] == [False, False]
    assert verdicts(wide.claims(network_rows(change=(0.1, 0.2, 0.3, 0.4))))[2] is False
    assert verdicts(wide.claims(network_rows(over=1.01)))[3] is False
    assert verdicts(wide.claims(network_rows(away=3.0)))[4] is False


def test_claims_of_a_nonlinear_output():
    def said(bent):
        return verdicts(last_layer.claims([*network_rows(output="linear"), *network_rows(**bent, output="bent")]))

    assert said({"power": 0.0}) == [True, True, True, True]
    assert said({"power": -0.2})[1] is False
    assert said({"power": 0.0, "over": 1.1})[3] is False
    table = [*network_rows(output="linear"), *network_rows(power=0.0, output="bent")]
    table[5]["lambda_min_least"] = 0.2
    assert verdicts(last_layer.claims(table))[2] is False


def test_claims_of_du():
    def rows(changed=(4.0, 3.0, 2.0, 1.0), power=-0.5, over=1.0):
        return [{"width": m, "patterns_changed": c, "largest_move": m**power, "error_over_bound": over, "rate": 0.6,
                 "rate_bound": 0.9} for m, c in zip(WIDTHS, changed, strict=True)]  # fmt: skip

    assert verdicts(du.claims(rows(), 0.2)) == [True, True, True]
    assert verdicts(du.claims(rows(over=1.1), 0.2)) == [False, True, True]
    assert verdicts(du.claims(rows(changed=(4.0, 3.0, 3.5, 1.0)), 0.2)) == [True, False, True]
    assert verdicts(du.claims(rows(power=-0.6), 0.2)) == [True, True, False]


def test_claims_of_almost_over_parameterized_systems():
    def rows(floor=0.5, above=1e-20, status="EPSILON"):
        return [{"ratio": 0.5, "floor": floor, "gd_status": status},
                {"ratio": 2.0, "floor": above, "gd_status": "MAX_ITER"}]  # fmt: skip

    assert verdicts(almost.claims(rows())) == [True, True, True]
    assert verdicts(almost.claims(rows(floor=0.3))) == [False, True, True]
    assert verdicts(almost.claims(rows(above=1e-3))) == [True, False, True]
    assert verdicts(almost.claims(rows(status="MAX_ITER"))) == [True, True, False]


def test_claims_of_sgd():
    def rows(steps, solved=True):
        return [{"batch": s, "steps": k, "solved": solved, "smoothness": 1.0 / s + 0.1}
                for s, k in zip((1, 2, 4, 8, 16, 32, 64), steps, strict=True)]  # fmt: skip

    theory = [1.0 / s + 0.1 for s in (1, 2, 4, 8, 16, 32, 64)]
    assert verdicts(batches.claims(rows(theory), 10)) == [True, True, True, True]
    assert verdicts(batches.claims(rows(theory, solved=False), 10))[0] is False
    assert verdicts(batches.claims(rows([1.0 / s for s in (1, 2, 4, 8, 16, 32, 64)]), 10)) == [
        True, False, True, False]  # fmt: skip
    assert verdicts(batches.claims(rows([1.0] * 7), 10))[2] is False


def test_claims_of_interpolation():
    def rows(narrow, wide_, solved=True):
        return [{"width": m, "solved": solved, "monotone": k} for m, k in ((10, narrow), (20, wide_))]

    assert verdicts(interpolation.claims(rows(True, True))) == [True, True]
    assert verdicts(interpolation.claims(rows(False, True))) == [False, True]
    assert verdicts(interpolation.claims(rows(True, False))) == [False, False]
    assert verdicts(interpolation.claims(rows(True, True, solved=False))) == [False, False]
