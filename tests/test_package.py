"""The house: imports run one way, and `import plsolve` stays light."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import plsolve

ROOT = Path(plsolve.__file__).parent
TESTS = Path(__file__).parent
TOP = TESTS.parent  # ROOT's own parent where plsolve is not installed from a wheel
CONTRIBUTING = (TOP / "CONTRIBUTING.md").read_text("utf-8")
WINGS = {"distributed", "models", "networks", "testing", "experiments", "_scipy_api", "__main__"}
# room -> rooms of the package that it must not know
MAY_IMPORT_NOTHING = {"_stopping", "theory"}
UPPER = {"_solver", "_result", "_loop", "methods"}
NOT_FROM = {
    "_linalg": {"_tangent", "_problem"} | UPPER,
    "_tangent": {"_problem"} | UPPER,
    "_differences": {"_problem"} | UPPER,
    "_problem": UPPER,
    "methods": UPPER - {"methods"},
    "_loop": UPPER - {"_loop"},
    "_result": {"_solver", "_loop", "methods"},
}


def imports(path):
    """Modules of the package that a file imports, wherever in the file, but for type checking only."""
    module = ("plsolve", *path.relative_to(ROOT).with_suffix("").parts)
    package = module[:-1]
    tree = ast.parse(path.read_text())
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            base = (*base, *(node.module.split(".") if node.module else ()))
            found |= {(*base, alias.name) if is_module((*base, alias.name)) else base for alias in node.names}
    return found


def is_module(parts):
    path = ROOT.joinpath(*parts[1:])
    return parts[0] == "plsolve" and (path.is_dir() or path.with_suffix(".py").exists())


def name_of(path):
    parts = ("plsolve", *path.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def place(path):
    return path.relative_to(ROOT).as_posix()


FILES = sorted(ROOT.rglob("*.py"))
GRAPH = {name_of(path): imports(path) for path in FILES}


def room(parts):
    return parts[1] if len(parts) > 1 else "__init__"


def test_files_were_found():
    assert {"__init__", "_solver", "_loop", "_problem", "_stopping", "_result"} <= {room(name) for name in GRAPH}


def test_imports_form_no_circle():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join(".".join(p) for p in [*path[path.index(name) :], name])
        if name in done or name not in GRAPH:
            return
        path.append(name)
        for other in sorted(GRAPH[name]):
            if other != name:
                visit(other)
        path.pop()
        done.add(name)

    for name in GRAPH:
        visit(name)


def test_rooms_form_no_circle():
    """Folders count as one room each: between rooms the arrows run one way too."""
    rooms = {}
    for name, others in GRAPH.items():
        rooms.setdefault(room(name), set()).update(room(o) for o in others if o[0] == "plsolve")
    order = []
    while rooms:
        free = [r for r, others in rooms.items() if not (others - {r}) & rooms.keys()]
        assert free, f"circle among {sorted(rooms)}"
        order += free
        for r in free:
            del rooms[r]
    assert order.index("_stopping") < order.index("_loop") < order.index("_solver")


def code(function):
    """Lines of a function below its signature and docstring: what has to be read to follow it."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=place)
def test_functions_fit_a_screen_and_files_stay_short(path):
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 450
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    assert not {node.name: code(node) for node in functions if code(node) > 60}


def test_lines_of_code_are_counted():
    written = (
        'def f(\n    x,\n):\n    """What\n    it is."""\n    y = x\n\n    return y\n\ndef g():\n    """What it is."""'
    )
    assert [code(function) for function in ast.parse(written).body] == [3, 0]


def listed_tests():
    """Module or folder -> its test files, by the table in CONTRIBUTING.md."""
    table = CONTRIBUTING.split("| module or folder | its tests |")[1].split("\n\n")[0]
    rows = [row.split("|")[1:3] for row in table.splitlines()[2:]]
    return {key.rstrip("/"): re.findall(r"`(\S+)`", tests) for row, tests in rows for key in re.findall("`(.+?)`", row)}


@pytest.mark.parametrize("path", [path for path in FILES if path.stem != "__init__"], ids=place)
def test_every_module_has_tests_where_they_are_looked_for(path):
    table, name = listed_tests(), place(path).removesuffix(".py")
    names = {name, *name.split("/")}
    found = [test for name in names & table.keys() for test in table[name]]
    found += [test.name for name in names for test in TESTS.glob(f"test_{name.strip('_')}*.py")]
    assert found
    assert all((TESTS / test).exists() for test in found)


def test_contributing_names_what_there_is():
    """Every room stands in the picture, and the files that are named are there."""
    picture = CONTRIBUTING.split("## The house in one picture")[1].split("```")[1]
    assert not {r for r in map(room, GRAPH) if not re.search(rf"(?<![\w/]){r}\b", picture)} - {"__init__"}
    files = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|md))`", CONTRIBUTING))
    assert len(files) > 30
    folders = ROOT, ROOT.parent, TOP, TESTS
    assert not {file for file in files if not any((folder / file).exists() for folder in folders)}


def test_every_public_name_is_found_where_it_lives():
    for name in plsolve.__all__:
        assert getattr(plsolve, name).__name__ == name
    assert set(plsolve.__all__) <= set(dir(plsolve))
    with pytest.raises(AttributeError, match="nothing"):
        plsolve.nothing  # noqa: B018


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_only_arrows_of_the_plan(path):
    here = room(name_of(path))
    inside = {room(parts) for parts in imports(path) if parts[0] == "plsolve"} - {here}
    assert not inside & NOT_FROM.get(here, set())
    assert not (here in MAY_IMPORT_NOTHING and inside)
    if here not in WINGS | {"__init__"}:
        assert not inside & (WINGS | {"__init__"}), "the core knows none of its wings, nor the front door"
    outside = {parts[0] for parts in imports(path)}
    assert here == "_compiled" or "numba" not in outside


def test_compiled_code_is_entered_by_one_door():
    """`solve` alone goes there, and `plsolve.jit`, which is made of it."""
    doors = {".".join(name) for name, others in GRAPH.items() if any(room(other) == "_compiled" for other in others)}
    assert {name for name in doors if not name.startswith("plsolve._compiled")} == {"plsolve._solver", "plsolve.jit"}


def test_private_modules_are_marked():
    """Without an underscore are the public modules, and what `python -m` runs."""
    found = {room(name) for name in GRAPH} - {"__init__"}
    public = {name for name in found if not name.startswith("_")} - {"experiments"}
    assert public == set(plsolve._MODULES)
    for name in public - {"models", "jit"}:  # which need extras
        module = import_module(f"plsolve.{name}")
        assert all(hasattr(module, listed) for listed in module.__all__)


def test_import_is_light():
    """What users do not ask for is not loaded: a fresh interpreter says so."""
    code = "import sys, plsolve; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "plsolve" in loaded
    assert not loaded & {
        "numba",
        "llvmlite",
        "matplotlib",
        "tqdm",
        "pandas",
        "sklearn",
        "pytest",
        "jax",
        "torch",
        "mpi4py",
    }


@pytest.mark.parametrize(
    "name", ["networks.WideNetwork", "testing.planar_arm", "jit.gauss_newton", "methods.METHODS", "theory.steps"]
)
def test_modules_are_within_reach(name):
    """Each in a fresh interpreter, where nothing else has loaded it."""
    module = name.split(".")[0]
    if module == "jit":
        pytest.importorskip("numba")
    code = (
        f"import sys, plsolve; assert {module!r} in dir(plsolve) and 'plsolve.{module}' not in sys.modules;"
        f"plsolve.{name}; assert plsolve.{module} is sys.modules['plsolve.{module}']"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_solving_loads_no_more_than_it_needs():
    code = (
        "import sys, plsolve; plsolve.solve(lambda w: w - 1, None, [0.0]);"
        "print(*sorted({m.split('.')[0] for m in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert not set(out.stdout.split()) & {"numba", "matplotlib", "tqdm"}


def test_public_names():
    assert {"solve", "Result", "Status"} <= set(plsolve.__all__)
    for name in plsolve.__all__:
        assert hasattr(plsolve, name), name


@pytest.mark.parametrize("file", ["README.md", "CITATION.cff", "CHANGELOG.md"])
def test_every_page_names_the_same_version(file):
    found = re.findall(r"^(?:## |version: |  version = {)(\d[\d.]*\d)", (TOP / file).read_text(), re.MULTILINE)
    assert found[:1] == [plsolve.__version__]


def test_a_release_has_one_date():
    (when,) = re.findall(r"^## \S+ \((.+)\)$", (TOP / "CHANGELOG.md").read_text(), re.MULTILINE)[:1]
    released = re.findall(r"^date-released: (.+)$", (TOP / "CITATION.cff").read_text(), re.MULTILINE)
    assert released == ([] if when == "unreleased" else [when])


def test_the_description_has_no_links_that_lead_nowhere():
    """README stands alone on an index of packages, where there are no files beside it."""
    hooks = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]
    text = readme = (TOP / "README.md").read_text("utf-8")
    for change in hooks["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(change["pattern"], change["replacement"], text)
    assert "](docs/" in readme
    assert all(target.startswith("https:") for target in re.findall(r"\]\((.+?)\)", text))


@pytest.mark.parametrize(
    ("name", "package"), [("JaxModel", "jax"), ("JaxSystem", "jax"), ("TorchModel", "torch"), ("Columns", "mpi4py")]
)
def test_a_missing_extra_is_named(name, package):
    """In a fresh interpreter in which the package cannot be imported; the room itself can."""
    touched = "distributed.Columns(3, None)" if name == "Columns" else f"models.{name}"
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import plsolve; assert plsolve.models and plsolve.distributed\n"
        f"try: plsolve.{touched}\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    extra = {"mpi4py": "mpi"}.get(package, package)
    assert f"{name} needs {package}: python -m pip install 'plsolve[{extra}]'" in out.stdout


@pytest.mark.parametrize("touched", ["jit", "jit.gauss_newton", "solve(F, None, [1.0], compiled=True)"])
def test_without_numba_everything_but_compiled_code_runs(touched):
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import plsolve\n"
        "def F(w): return w * w - 2\n"
        "assert plsolve.solve(F, None, [1.0]).success and plsolve.solve_batch(F, None, [[1.0], [2.0]]).success.all()\n"
        f"try: plsolve.{touched}\n"
        "except ImportError as error: print(error)"
    )
    out = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "Compiled solves need numba: python -m pip install 'plsolve[compiled]'\n"


def test_typed():
    assert (ROOT / "py.typed").exists()
    assert plsolve.solve.__annotations__["return"] in {"Result", plsolve.Result}


def test_docstrings_of_public_names():
    for name in plsolve.__all__:
        value = getattr(plsolve, name)
        if callable(value):
            assert value.__doc__, name
