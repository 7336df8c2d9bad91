"""The examples of README and docs/ run as printed, each section from its own imports on."""

import doctest
import inspect
import math
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from plsolve import solve
from plsolve.methods import OPTIONS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
EXPONENTIAL = r"\b[1-9](?:\.\d+)?e[+-]\d+"
PROGRAMS = ["docs/guide/distributed.md"]  # pages whose python blocks are whole programs


class Checker(doctest.OutputChecker):
    """Numbers with an exponent, as in certificates, depend on rounding: they need to agree to a factor of ten."""

    def check_output(self, want, got, optionflags):
        printed, found = (re.findall(EXPONENTIAL, text) for text in (want, got))
        if len(printed) == len(found) and all(
            abs(math.log10(float(a) / float(b))) < 1.0 for a, b in zip(printed, found, strict=True)
        ):
            rest = iter(printed)
            got = re.sub(EXPONENTIAL, lambda match: next(rest), got)
        return super().check_output(want, got, optionflags)


def place(page):
    return page.relative_to(ROOT).as_posix()


def sections():
    """(page, title, examples) of every section; one without imports from plsolve continues the one above."""
    parser, chains = doctest.DocTestParser(), []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        first = True
        for title, body in re.findall(r"^##? (.+)\n((?:(?!##? ).*\n?)*)", text, re.MULTILINE):
            if not parser.get_examples(body):
                continue
            if first or re.search(r"^>>> from plsolve\S* import", body, re.MULTILINE):
                chains.append((page, title, body))
            else:
                chains[-1] = (page, f"{chains[-1][1]} + {title}", chains[-1][2] + body)
            first = False
    return chains


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's forward mode of itself
@pytest.mark.parametrize(
    ("page", "title", "text"), [pytest.param(*found, id=f"{place(found[0])}: {found[1]}") for found in sections()]
)
def test_the_examples_of_a_section_run_as_printed(page, title, text):
    for package in re.findall(r"^>>> (?:import|from) (jax|numba|torch)\b", text, re.MULTILINE):
        pytest.importorskip(package)
    test = doctest.DocTestParser().get_doctest(text, {}, title, str(page), 0)
    printed: list[str] = []
    failed, attempted = doctest.DocTestRunner(Checker(), optionflags=FLAGS).run(test, out=printed.append)
    assert attempted
    assert not failed, "".join(printed)


def python_blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if place(page) not in PROGRAMS], ids=place)
def test_every_example_is_one_that_runs(page):
    assert all(block.startswith(">>> ") and block.endswith("\n\n") for block in python_blocks(page))


def test_a_program_on_two_ranks(tmp_path):
    pytest.importorskip("mpi4py")
    beside = Path(sys.executable).parent / "mpiexec"
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("there is no mpiexec")
    (code,) = python_blocks(ROOT / "docs" / "guide" / "distributed.md")
    (tmp_path / "program.py").write_text(code, "utf-8")
    command = [mpiexec, "-n", "2", sys.executable, "-m", "mpi4py", "program.py"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True)
    assert out.stdout == "Solved: the residual is within `tol`.\n"


def test_the_tables_of_arguments_are_complete():
    text = (ROOT / "docs" / "guide" / "arguments.md").read_text("utf-8")
    arguments, options = (
        table.split("\n\n")[0] for table in re.split(r"^\| (?:argument|option) \|", text, flags=re.M)[1:]
    )
    assert re.findall(r"^\| `(\w+)`", arguments, re.MULTILINE) == list(inspect.signature(solve).parameters)
    rows = re.findall(r"^\| (.+?) \| (.+?) \|", options, re.MULTILINE)[1:]
    listed = {(method, name) for names, methods in rows for method in methods.split(", ") for name in names.split(", ")}
    known = {(method, f"`{name}`") for method in ("gauss-newton", "gd", "sgd") for name in OPTIONS[method]}
    assert listed == known


def test_the_table_of_extras_is_complete():
    text = (ROOT / "docs" / "get_started.md").read_text("utf-8").split("| extra | for |")[1].split("\n\n")[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = {name for cell in re.findall(r"^\| (`.+?`) \|", text, re.MULTILINE) for name in re.findall(r"\w+", cell)}
    assert named == set(extras) - {"bench", "docs", "test"}


def anchor(title):
    """The fragment that a heading has where the page is browsed."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=place)
def test_links_lead_to_pages_and_headings_that_are_there(page):
    for target, fragment in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text("utf-8")):
        if re.match(r"\w+:", target):
            continue
        file = (page.parent / target) if target else page
        assert file.exists(), target
        if fragment:
            headings = re.findall(r"^#+ (.+)$", file.read_text("utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{target}#{fragment}"


def test_two_set_up_commands_are_printed():
    assert len(re.findall(r"^```bash\n.+\n```$", PAGES[0].read_text(encoding="utf-8"), re.MULTILINE)) == 2
