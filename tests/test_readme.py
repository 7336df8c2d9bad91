"""README's examples run as printed, each section from its own imports on."""

import doctest
import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def sections():
    """(title, examples) of every section with examples; one without imports of its own continues the one above."""
    parser, chains = doctest.DocTestParser(), []
    for title, text in re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", README.read_text(encoding="utf-8"), re.MULTILINE):
        if not parser.get_examples(text):
            continue
        if "from plsolve import" in text:
            chains.append((title, text))
        else:
            chains[-1] = (f"{chains[-1][0]} + {title}", chains[-1][1] + text)
    return chains


@pytest.mark.parametrize(("title", "text"), [pytest.param(*section, id=section[0]) for section in sections()])
def test_the_examples_of_a_section_run_as_printed(title, text):
    test = doctest.DocTestParser().get_doctest(text, {}, title, str(README), 0)
    printed: list[str] = []
    failed, attempted = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=printed.append)
    assert attempted
    assert not failed, "".join(printed)


def test_two_set_up_commands_are_printed():
    assert len(re.findall(r"^```bash\n.+\n```$", README.read_text(encoding="utf-8"), re.MULTILINE)) == 2
