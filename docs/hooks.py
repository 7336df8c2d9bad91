"""What the site does beyond its extensions: links from names, statements and examples to their pages."""

import inspect
import re
from functools import cached_property

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

import plsolve


def label_statements(_: Sphinx, doctree: nodes.document) -> None:
    """Statement 3.1 of the theory gets the label theory-3.1."""
    domains = doctree.settings.env.domains
    if doctree.settings.env.docname == "theory":
        for section in doctree.findall(nodes.section):
            number = re.match(r"\d+\.\d+", title := section[0].astext())
            if number:
                label = "theory-" + number.group()
                domains.standard_domain.labels[label] = ("theory", section["ids"][0], title)
                domains.standard_domain.anonlabels[label] = ("theory", section["ids"][0])


def link_names(_: Sphinx, doctree: nodes.document) -> None:
    """The first mention of a public name on a page becomes a link, but in the reference, which has its own."""
    if doctree.settings.env.docname.startswith("reference/"):
        return
    names = set(plsolve.__all__) - {"certify", "curve_fit", "least_squares", "root"}  # an argument, and scipy's
    for literal in list(doctree.findall(nodes.literal)):
        name = literal.astext().removesuffix("()").removeprefix("plsolve.")
        if name in names and not isinstance(literal.parent, nodes.reference | nodes.title | pending_xref):
            names.remove(name)
            target = {"refdomain": "py", "reftype": "obj", "reftarget": f"plsolve.{name}"}
            literal.replace_self(pending_xref("", literal.deepcopy(), **target))


def link_gallery(_: Sphinx, doctree: nodes.document) -> None:
    """A link to an example's file, which serves where the repository is browsed, leads to its page in the gallery."""
    for link in list(doctree.findall(download_reference)):
        example = re.search(r"examples/(plot_\w+)\.py$", link["reftarget"])
        if example:
            target = {"refdomain": "std", "reftype": "doc", "reftarget": f"/gallery/{example[1]}", "refexplicit": True}
            link.replace_self(pending_xref("", *link.children, refdoc=link["refdoc"], refwarn=True, **target))


def link_statements(_: Sphinx, doctree: nodes.document) -> None:
    """So does "theory 3.1" on every page and, on that of the theory, 3.1 alone."""
    name = doctree.settings.env.docname
    cited = re.compile(r"(?<![\w.$])([1-8]\.\d{1,2})(?![\w%])" if name == "theory" else r"(?<=theory )([1-8]\.\d{1,2})")
    for text in list(doctree.findall(nodes.Text)):
        pieces = cited.split(text)
        if len(pieces) > 1 and isinstance(text.parent, nodes.paragraph):
            pieces[::2] = [nodes.Text(piece) for piece in pieces[::2]]
            for i, number in enumerate(pieces[1::2]):
                target = {"refdomain": "std", "reftype": "ref", "reftarget": f"theory-{number}", "refexplicit": True}
                pieces[2 * i + 1] = pending_xref("", nodes.inline("", number), refdoc=name, refwarn=True, **target)
            text.parent.replace(text, pieces)


def trim_examples(_: Sphinx, doctree: nodes.document) -> None:
    """The empty line at the end of an example, which doctest needs, is not shown."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.rawsource.rstrip()
        block[:] = [nodes.Text(block.rawsource)]


def link_citations(_: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """What docstrings cite becomes links: statements of the theory by their numbers, and pages by their files."""
    text = "\n".join(lines).replace("plsolve/theory/README.md", "docs/theory.md")
    if "theory" in text or name.startswith("plsolve.theory."):
        text = re.sub(r"(?<=[(, ])([1-8]\.\d{1,2})(?=[);:,\n])", r":ref:`\1 <theory-\1>`", text)
    lines[:] = re.sub(r"\bdocs/([\w/]+)\.md", r":doc:`/\1`", text).split("\n")


def hide_made_by_the_library(
    _: Sphinx, what: str, name: str, obj: type, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None] | None:
    """A class that users do not call has no signature: its docstring has no parameters."""
    if inspect.isclass(obj) and "Parameters\n" not in (obj.__doc__ or ""):
        return "", None
    return None


def skip_attributes(_: Sphinx, what: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Attributes are described in the docstring of their class."""
    return True if inspect.isdatadescriptor(member) or isinstance(member, cached_property) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("doctree-read", label_statements)
    app.connect("doctree-read", link_names)
    app.connect("doctree-read", link_gallery, priority=400)  # before files to download are collected
    app.connect("doctree-read", link_statements)
    app.connect("doctree-read", trim_examples)
    app.connect("autodoc-skip-member", skip_attributes)
    app.connect("autodoc-process-docstring", link_citations, priority=600)  # after numpydoc
    app.connect("autodoc-process-signature", hide_made_by_the_library, priority=400)  # before numpydoc
