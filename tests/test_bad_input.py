"""Bad input is refused before the first iteration, by a ValueError or TypeError that names the argument."""

import re
from pathlib import Path

import naive
import numpy as np
import problems
import pytest
from scipy import sparse

from benchmarks.checks import bad_input
from plsolve import certify, curve_fit, least_squares, root, solve, solve_batch, tangent_kernel
from plsolve.networks import WideNetwork

A = problems.matrix(2, 3)
J6 = problems.matrix(6, 4)
NAN = np.array([0.0, np.nan, 1.0])


def F(w):
    return A @ w


def jac(w):
    return A


class Broken:
    def __array__(self, *args, **kwargs):
        raise TypeError("no array")


# (argument named in the message, arguments that differ from a good call)
CASES = {
    "F None": ("F", {"F": None}),
    "F number": ("F", {"F": 3}),
    "F array": ("F", {"F": A}),
    "F string": ("F", {"F": "sin"}),
    "F returns None": ("F", {"F": lambda w: None}),
    "F returns 2-d": ("F", {"F": lambda w: (A @ w)[:, None]}),
    "F returns 2-d row": ("F", {"F": lambda w: (A @ w)[None]}),
    "F returns a string": ("F", {"F": lambda w: "result"}),
    "F returns complex": ("F", {"F": lambda w: A @ w + 1j}),
    "F returns objects": ("F", {"F": lambda w: np.array([None, None])}),
    "F returns nothing in it": ("F", {"F": lambda w: np.empty(0)}),
    "F returns ragged lists": ("F", {"F": lambda w: [[1.0], [1.0, 2.0]]}),
    "F returns NaN": ("F", {"F": lambda w: np.array([1.0, np.nan])}),
    "F returns inf": ("F", {"F": lambda w: np.array([np.inf, 1.0])}),
    "F returns a pair": ("F", {"F": lambda w: (A @ w, A)}),
    "F not the length of y": ("F", {"F": lambda w: np.ones(3), "y": np.ones(2)}),
    "F not the length of jac": ("jac", {"F": lambda w: np.ones(3), "y": None}),
    "jac number": ("jac", {"jac": 3}),
    "jac False": ("jac", {"jac": False}),
    "jac name": ("jac", {"jac": "4-point"}),
    "jac array": ("jac", {"jac": A}),
    "jac True but F returns no pair": ("F", {"jac": True}),
    "jac True but F returns three": ("F", {"F": lambda w: (A @ w, A, 0), "jac": True}),
    "jac returns None": ("jac", {"jac": lambda w: None}),
    "jac returns 1-d": ("jac", {"jac": lambda w: A[0]}),
    "jac returns 3-d": ("jac", {"jac": lambda w: A[None]}),
    "jac transposed": ("jac", {"jac": lambda w: A.T}),
    "jac transposed, sparse": ("jac", {"jac": lambda w: sparse.csr_array(A.T)}),
    "jac transposed, operator": ("jac", {"jac": lambda w: problems.Operator(A.T)}),
    "jac with a column too many": ("jac", {"jac": lambda w: np.ones((2, 4))}),
    "jac with a row too many": ("jac", {"jac": lambda w: np.ones((3, 3))}),
    "jac returns a string": ("jac", {"jac": lambda w: "result"}),
    "jac returns complex": ("jac", {"jac": lambda w: A * 1j}),
    "jac returns objects": ("jac", {"jac": lambda w: np.full((2, 3), None)}),
    "jac returns NaN": ("jac", {"jac": lambda w: np.where(np.eye(2, 3), np.nan, A)}),
    "jac returns inf": ("jac", {"jac": lambda w: np.where(np.eye(2, 3), np.inf, A)}),
    "jac returns NaN, sparse": ("jac", {"jac": lambda w: sparse.csr_array(np.where(np.eye(2, 3), np.nan, A))}),
    "jac of both returns NaN": ("jac", {"F": lambda w: (A @ w, A * np.nan), "jac": True}),
    "w0 None": ("w0", {"w0": None}),
    "w0 2-d": ("w0", {"w0": np.ones((1, 3))}),
    "w0 empty": ("w0", {"w0": []}),
    "w0 complex": ("w0", {"w0": np.ones(3) * 1j}),
    "w0 string": ("w0", {"w0": "abc"}),
    "w0 strings": ("w0", {"w0": ["1", "2", "3"]}),
    "w0 objects": ("w0", {"w0": np.array([None, None, None])}),
    "w0 fails to convert": ("w0", {"w0": Broken()}),
    "w0 ragged": ("w0", {"w0": [[1], [1, 2]]}),
    "w0 NaN": ("w0", {"w0": NAN}),
    "w0 inf": ("w0", {"w0": [0, np.inf, 0]}),
    "w0 dates": ("w0", {"w0": np.array(["2020-01-01"] * 3, dtype="datetime64[D]")}),
    "y 2-d": ("y", {"y": np.ones((2, 1))}),
    "y too long": ("y", {"y": np.ones(3)}),
    "y empty": ("y", {"y": []}),
    "y complex": ("y", {"y": np.ones(2) * 1j}),
    "y string": ("y", {"y": "ab"}),
    "y objects": ("y", {"y": [None, None]}),
    "y NaN": ("y", {"y": [1, np.nan]}),
    "y inf": ("y", {"y": [-np.inf, 1]}),
    "method name": ("method", {"method": "newton"}),
    "method None": ("method", {"method": None}),
    "method number": ("method", {"method": 2}),
    "method list": ("method", {"method": ["gd"]}),
    "x_scale zero": ("x_scale", {"x_scale": 0.0}),
    "x_scale negative": ("x_scale", {"x_scale": [1, -1, 1]}),
    "x_scale NaN": ("x_scale", {"x_scale": np.nan}),
    "x_scale inf": ("x_scale", {"x_scale": np.inf}),
    "x_scale shape": ("x_scale", {"x_scale": np.ones(2)}),
    "x_scale 2-d": ("x_scale", {"x_scale": np.ones((3, 1))}),
    "x_scale name": ("x_scale", {"x_scale": "rows"}),
    "x_scale None": ("x_scale", {"x_scale": [None] * 3}),
    "x_scale complex": ("x_scale", {"x_scale": 1j}),
    "bounds number": ("bounds", {"bounds": 3}),
    "bounds string": ("bounds", {"bounds": "01"}),
    "bounds three": ("bounds", {"bounds": (0, 1, 2)}),
    "bounds pairs": ("bounds", {"bounds": [(0, 2), (0, 2), (0, 2)]}),
    "bounds inverted": ("bounds", {"bounds": (2, 0)}),
    "bounds inverted in one": ("bounds", {"bounds": ([0, 0, 2], [2, 2, 0])}),
    "bounds NaN": ("bounds", {"bounds": (NAN, 2)}),
    "bounds shape": ("bounds", {"bounds": (np.zeros(2), np.ones(2))}),
    "bounds complex": ("bounds", {"bounds": (0, 2j)}),
    "bounds below w0": ("bounds", {"bounds": (-1, 0.5)}),
    "bounds above w0": ("bounds", {"bounds": ([0, 0, 1.5], 2)}),
    "bounds both infinite on one side": ("bounds", {"bounds": (np.inf, np.inf)}),
    "tol negative": ("tol", {"tol": -1e-3}),
    "tol NaN": ("tol", {"tol": np.nan}),
    "tol None": ("tol", {"tol": None}),
    "tol string": ("tol", {"tol": "small"}),
    "tol array": ("tol", {"tol": np.ones(2)}),
    "tol complex": ("tol", {"tol": 1j}),
    "eps negative": ("eps", {"eps": -1.0}),
    "eps NaN": ("eps", {"eps": np.nan}),
    "eps string": ("eps", {"eps": "small"}),
    "max_iter negative": ("max_iter", {"max_iter": -1}),
    "max_iter NaN": ("max_iter", {"max_iter": np.nan}),
    "max_iter half": ("max_iter", {"max_iter": 2.5}),
    "max_iter string": ("max_iter", {"max_iter": "many"}),
    "max_time negative": ("max_time", {"max_time": -1.0}),
    "max_time NaN": ("max_time", {"max_time": np.nan}),
    "max_time string": ("max_time", {"max_time": "long"}),
    "tol beyond float64": ("tol", {"tol": 10**400}),
    "tol bool": ("tol", {"tol": True}),
    "xtol beyond float64": ("xtol", {"xtol": 10**5000}),
    "eps inf": ("eps", {"eps": np.inf}),
    "max_iter bool": ("max_iter", {"max_iter": True}),
    "max_time complex": ("max_time", {"max_time": 1j}),
    "certify string": ("certify", {"certify": "abc"}),
    "certify number": ("certify", {"certify": 2}),
    "progress string": ("progress", {"progress": "no"}),
    "compiled string": ("compiled", {"compiled": "yes"}),
    "w0 masked": ("w0", {"w0": np.ma.array([1.0, 1.0, 9.0], mask=[0, 0, 1])}),
    "w0 list with a masked entry": ("w0", {"w0": [1.0, np.ma.masked, 1.0]}),
    "w0 list of a huge integer": ("w0", {"w0": [1, 10**400, 1]}),
    "w0 sparse": ("w0", {"w0": sparse.csr_array(np.ones((1, 3)))}),
    "y masked": ("y", {"y": np.ma.array([1.0, 1.0], mask=[0, 1])}),
    "x_scale masked": ("x_scale", {"x_scale": np.ma.array([1.0, 1.0, 1.0], mask=[0, 0, 1])}),
    "bounds masked": ("bounds", {"bounds": (np.ma.array([0.0, 0.0, 0.0], mask=[0, 0, 1]), 2)}),
    "beta masked": ("beta", {"beta": np.ma.array([1.0, 1.0], mask=[0, 1])}),
    "F returns masked": ("F", {"F": lambda w: np.ma.array(A @ w, mask=[0, 1])}),
    "jac returns masked": ("jac", {"jac": lambda w: np.ma.array(A, mask=A < 0)}),
    "callback number": ("callback", {"callback": 3}),
    "callback string": ("callback", {"callback": "print"}),
    "rng string": ("rng", {"rng": "seed"}),
    "rng digits": ("rng", {"rng": "123"}),
    "rng bool": ("rng", {"rng": True}),
    "rng list of text": ("rng", {"rng": ["a"]}),
    "rng negative": ("rng", {"rng": -1, "method": "sgd"}),
    "rng float": ("rng", {"rng": 1.5, "method": "sgd"}),
    "options list": ("options", {"options": ["nearest"]}),
    "options string": ("options", {"options": "nearest"}),
    "nearest string": ("nearest", {"method": "gauss-newton", "options": {"nearest": "yes"}}),
    "gd step_size name": ("step_size", {"method": "gd", "options": {"step_size": "large"}}),
    "gd step_size zero": ("step_size", {"method": "gd", "options": {"step_size": 0.0}}),
    "gd step_size negative": ("step_size", {"method": "gd", "options": {"step_size": -0.1}}),
    "gd step_size NaN": ("step_size", {"method": "gd", "options": {"step_size": np.nan}}),
    "gd step_size array": ("step_size", {"method": "gd", "options": {"step_size": np.ones(2)}}),
    "gd step_size of sgd": ("step_size", {"method": "gd", "options": {"step_size": "kaczmarz"}}),
    "sgd step_size of gd": ("step_size", {"method": "sgd", "options": {"step_size": "cauchy"}}),
    "sgd step_size negative": ("step_size", {"method": "sgd", "options": {"step_size": -1.0}}),
    "gd step_size bool": ("step_size", {"method": "gd", "options": {"step_size": True}}),
    "sgd step_size bool": ("step_size", {"method": "sgd", "options": {"step_size": np.True_}}),
    "sgd batch_size bool": ("batch_size", {"method": "sgd", "options": {"batch_size": True}}),
    "sgd batch_size zero": ("batch_size", {"method": "sgd", "options": {"batch_size": 0}}),
    "sgd batch_size negative": ("batch_size", {"method": "sgd", "options": {"batch_size": -2}}),
    "sgd batch_size half": ("batch_size", {"method": "sgd", "options": {"batch_size": 1.5}}),
    "sgd batch_size name": ("batch_size", {"method": "sgd", "options": {"batch_size": "all"}}),
}


@pytest.mark.parametrize(("name", "change"), CASES.values(), ids=CASES)
def test_refused(name, change):
    arguments = {"F": F, "jac": jac, "w0": np.ones(3), "y": np.ones(2), "max_iter": 5} | change
    if callable(arguments["F"]):
        arguments["F"] = naive.Recorded(arguments["F"])
    steps = []
    arguments.setdefault("callback", lambda w: steps.append(w))
    with pytest.raises((ValueError, TypeError)) as failure:
        solve(arguments.pop("F"), arguments.pop("jac"), arguments.pop("w0"), arguments.pop("y"), **arguments)
    assert re.search(rf"\b{name}\b", str(failure.value)), f"does not name {name}: {failure.value}"
    assert not steps, "refused only after an iteration"


@pytest.mark.parametrize("y", [None, np.ones(2)], ids=["no y", "y"])
def test_functions_are_called_at_most_once_before_the_refusal(y):
    calls = naive.Recorded(F)
    for change in ({"tol": -1}, {"x_scale": -1}, {"bounds": (2, 0)}, {"method": "newton"}, {"options": {"typo": 1}}):
        with pytest.raises(ValueError, match=next(iter(change))):
            solve(calls, jac, np.ones(3), y, **change)
    assert calls.calls == 0


@pytest.mark.parametrize(
    ("change", "given"),
    [
        ({"method": "newton"}, "newton"),
        ({"jac": "4-point"}, "4-point"),
        ({"w0": np.ones((4, 3))}, "(4, 3)"),
        ({"y": np.ones(17)}, "17"),
        ({"jac": lambda w: np.ones((19, 3))}, "19"),
        ({"tol": -0.625}, "-0.625"),
        ({"max_iter": -37}, "-37"),
        ({"max_time": -0.625}, "-0.625"),
        ({"x_scale": np.ones(23)}, "23"),
        ({"F": lambda w: None}, "None"),
    ],
    ids=lambda v: str(v) if isinstance(v, str) else "",
)
def test_message_says_what_was_given(change, given):
    arguments = {"F": F, "jac": jac, "w0": np.ones(3), "y": np.ones(2)} | change
    with pytest.raises((ValueError, TypeError), match=re.escape(given)):
        solve(arguments.pop("F"), arguments.pop("jac"), arguments.pop("w0"), arguments.pop("y"), **arguments)


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"method": "newton"}, ["auto", "gauss-newton", "gd", "sgd"]), ({"jac": "4-point"}, ["2-point", "3-point", "cs"])],
)
def test_message_says_what_is_known(change, expected):
    with pytest.raises(ValueError, match="(?s)" + ".*".join(expected)):
        solve(**({"F": F, "jac": jac, "w0": np.ones(3)} | change))


@pytest.mark.parametrize(
    ("method", "known"),
    [("gauss-newton", ["nearest"]), ("gd", ["step_size"]), ("sgd", ["batch_size", "step_size"])],
)
@pytest.mark.parametrize("wrong", ["typo", "momentun", 3])
def test_unknown_option_names_the_known_ones(method, known, wrong):
    with pytest.raises((ValueError, TypeError)) as failure:
        solve(F, jac, np.ones(3), method=method, options={wrong: 1})
    assert str(wrong) in str(failure.value)
    for name in known:
        assert name in str(failure.value)


@pytest.mark.parametrize(
    ("method", "other"), [("gauss-newton", "batch_size"), ("gd", "nearest"), ("gd", "batch_size"), ("sgd", "nearest")]
)
def test_option_of_another_method_is_unknown(method, other):
    with pytest.raises(ValueError, match=other):
        solve(F, jac, np.ones(3), method=method, options={other: 1})


@pytest.mark.parametrize("where", ["F", "jac"])
@pytest.mark.parametrize("method", ["gauss-newton", "gd"])
def test_shape_that_changes_on_the_way(method, where):
    p = problems.tanh_system(3, 6)
    calls = {"F": 0, "jac": 0}

    def growing(name, f):
        def call(w):
            calls[name] += 1
            value = f(w)
            return np.concatenate([value, value]) if name == where and calls[name] >= 2 else value

        return call

    with pytest.raises(ValueError, match=rf"\b{where}\b"):
        solve(growing("F", p.F), growing("jac", p.jac), p.w0, method=method)


def test_unknown_argument():
    with pytest.raises(TypeError):
        solve(F, jac, np.ones(3), toll=1e-3)


# Other functions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", range(8))
def test_generated_calls(block):
    """See there: every refusal names an argument, and what is taken gives a right result."""
    checker = bad_input.Checker()
    for seed in range(100 * block, 100 * block + 100):
        name, replaced, fault = checker.call([7, seed])
        assert not fault, f"{seed} {name}({replaced}): {fault}"


def test_every_public_callable_is_called_with_bad_arguments():
    """Or is a record that checks nothing."""
    assert not bad_input.uncovered()


X = np.arange(10.0)
MASKED = np.ma.array(np.where(X % 4 == 0, -9999.0, 2 * X + 1), mask=X % 4 == 0)


def line(x, a, b):
    return a * x + b


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
@pytest.mark.parametrize("argument", ["xdata", "ydata", "sigma", "p0", "bounds", "f"])
def test_masked_data_are_not_fitted(argument, method):
    arguments = {"f": line, "xdata": X, "ydata": 2 * X + 1, "p0": [1.0, 1.0], "method": method}
    pair = np.ma.array([1.0, 1.0], mask=[False, True])
    masked = {"p0": pair, "bounds": (pair - 5, 9.0), "f": lambda x, a, b: np.ma.array(a * x + b, mask=MASKED.mask)}
    if method == "lm" and argument == "bounds":
        del arguments["method"]
    with pytest.raises(TypeError, match=rf"\b{argument}\b.*masked"):
        curve_fit(**arguments | {argument: masked.get(argument, MASKED)})
    unmasked = np.ma.array(2 * X + 1, mask=False)
    np.testing.assert_allclose(curve_fit(line, X, unmasked, method=method)[0], [2, 1], rtol=1e-8)


@pytest.mark.parametrize("fit", [least_squares, root])
def test_masked_residuals_are_not_fitted(fit):
    with pytest.raises(TypeError, match=r"`fun\(x\)`.*masked"):
        fit(lambda p: p[0] * X + p[1] - MASKED, [1.0, 1.0])
    with pytest.raises(TypeError, match=r"jac.*masked"):
        fit(lambda p: p - 1, [0.0, 0.0], jac=lambda p: np.ma.array(np.eye(2), mask=np.eye(2)))


class Tensor:
    """As torch has them: no array can be made of one that is part of a graph, or lives on a device."""

    def __init__(self, numbers):
        self.numbers = np.asarray(numbers)
        self.dtype = "torch.float64"

    def detach(self):
        return self

    def numpy(self, *, force=False):
        if not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        return self.numbers

    def __array__(self, *args, **kwargs):
        return self.numpy()

    def __len__(self):
        return len(self.numbers)


@pytest.mark.parametrize("of", [Tensor, lambda a: [Tensor(row) for row in a]], ids=["tensor", "list of tensors"])
def test_tensors_are_taken(of):
    start = of(np.zeros(2))
    calls = {
        "solve": lambda: solve(lambda w: of(w - 1), lambda w: of(np.eye(2)), start, y=of(np.zeros(2))).x,
        "x_scale": lambda: solve(lambda w: of(w - 1), lambda w: of(np.eye(2)), start, x_scale=of(np.ones(2) * 2)).x,
        "root": lambda: root(lambda w: of(w - 1), start, jac=lambda w: of(np.eye(2))).x,
        "least_squares": lambda: least_squares(lambda w: of(w - 1), start, lambda w: of(np.eye(2))).x,
        "curve_fit": lambda: curve_fit(lambda x, a, b: of(a * X + b), of(X), of(X + 1), p0=start)[0],
        "solve_batch": lambda: solve_batch(lambda w: of(w - 1), None, start).x[0],
        "certify": lambda: certify(lambda w: of(w - 1), lambda w: of(np.eye(2)), of(np.ones(2))).radius + np.ones(2),
        "tangent_kernel": lambda: tangent_kernel(lambda w: of(np.eye(2)), start).eigenvalues,
    }
    for name, call in calls.items():
        np.testing.assert_allclose(call(), [1, 1], rtol=1e-6, err_msg=name)


class OutOfMemoryError(RuntimeError):
    pass


class Lost:
    def __array__(self, *args, **kwargs):
        raise OutOfMemoryError("the device has no memory left")


@pytest.mark.parametrize(
    "call",
    [
        lambda: solve(lambda w: Lost(), None, [1.0]),
        lambda: solve(lambda w: w, lambda w: Lost(), [1.0]),
        lambda: solve(lambda w: w, None, Lost()),
        lambda: least_squares(lambda w: Lost(), [1.0]),
        lambda: least_squares(lambda w: w, [1.0], lambda w: Lost()),
        lambda: least_squares(lambda w: w, Lost()),
        lambda: root(lambda w: Lost(), [1.0]),
        lambda: curve_fit(lambda x, a: Lost(), [1.0, 2.0], [1.0, 2.0]),
        lambda: curve_fit(lambda x, a: a * x, [1.0, 2.0], Lost()),
        lambda: certify(lambda w: Lost(), None, [1.0]),
        lambda: tangent_kernel(lambda w: Lost(), [1.0]),
        lambda: WideNetwork(Lost(), 3),
    ],
)
def test_errors_of_arrays_pass_unchanged(call):
    with pytest.raises(OutOfMemoryError, match="no memory left"):
        call()


@pytest.mark.parametrize("workers", [0, -2, 10**9, 10**400, 2.0, "2", True, [2]])
def test_workers_out_of_range_start_no_process(workers, monkeypatch):
    monkeypatch.setattr("multiprocessing.pool.Pool.__init__", lambda *args, **kwargs: pytest.fail("started"))
    with pytest.raises((ValueError, TypeError), match="workers"):
        least_squares(lambda x: x - 1, [0.0], workers=workers)


@pytest.mark.parametrize("restarts", [1, 3])
def test_restarts_of_a_batch_without_a_seed(restarts):
    res = solve_batch(lambda w: w**2 + 1 - 2 * np.sign(w), None, [[-1.0], [1.0]], restarts=restarts)
    assert res.success[1]
    for bad in ({"rng": "abc"}, {"restarts": True}, {"threads": 0}, {"threads": 10**9}, {"each": MASKED}):
        with pytest.raises((ValueError, TypeError), match=next(iter(bad))):
            solve_batch(lambda w: w, None, [[1.0], [1.0]], **bad)


@pytest.mark.parametrize("changes", [{"widths": 2.5}, {"widths": [4, 2.5]}, {"rng": "abc"}, {"outputs": 1.5}])
def test_networks_take_no_other_things(changes):
    with pytest.raises(TypeError, match=next(iter(changes))):
        WideNetwork(X[:, None], **{"widths": 4} | changes)
    with pytest.raises(TypeError, match=r"X.*masked"):
        WideNetwork(MASKED[:, None], 4)
    net = WideNetwork(X[:, None], 4)
    for rows in ([-1], [net.n], [0.5], [[0]], "abc"):
        with pytest.raises((ValueError, TypeError), match="rows"):
            net.F(net.init(0), rows=rows)


# Warnings -------------------------------------------------------------------------------------------------------------


def contradicted():
    return solve(lambda w: np.sin(3 * w) - 0.5, lambda w: np.diag(3 * np.cos(3 * w)), [0.1], beta=1e-3)


WARNINGS = {
    "certify": lambda: certify(lambda w: np.sin(3 * w), lambda w: np.diag(3 * np.cos(3 * w)), [0.1], beta=1e-3),
    "certificate of a run": lambda: contradicted().certificate,
    "the same by name": lambda: contradicted()["certificate"],
    "ftol": lambda: least_squares(lambda x: x - 1, [0.0], ftol=1e-20),
    "ftol of curve_fit": lambda: curve_fit(lambda x, a: a * x, [1.0, 2], [1.0, 3], method="trf", ftol=1e-20),
    "callback of lm": lambda: least_squares(lambda x: x - 1, [0.0], method="lm", callback=print),
    "callback of hybr": lambda: root(lambda x: x - 1, [0.0], callback=print),
    "options of root": lambda: root(lambda x: x - 1, [0.0], options={"typo": 1}),
    "covariance": lambda: curve_fit(lambda x, a, b: a * x + b, [1.0], [2.0], p0=[1, 1]),
}


@pytest.mark.parametrize("call", WARNINGS.values(), ids=WARNINGS)
def test_warnings_point_at_the_line_of_the_user(call):
    with pytest.warns(Warning) as seen:  # noqa: PT030
        call()
    assert [(Path(w.filename).name, w.lineno) for w in seen] == [(Path(__file__).name, call.__code__.co_firstlineno)]
