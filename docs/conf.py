"""How the site is built; CONTRIBUTING.md says by which command."""

import inspect
import re
from functools import cached_property

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

import plsolve

project = "plsolve"
copyright = "plsolve developers"  # noqa: A001 (Sphinx's name for it)
version = release = plsolve.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",  # brings MathJax along: mathematics without internet
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
nitpicky = True  # a name in backticks is a link, or an error
nitpick_ignore_regex = [("py:obj", r"(scipy|torch)\..*")]  # their own pages would be needed for links to them

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_fence_as_directive = ["math"]  # ```math is shown where the repository is browsed too
myst_heading_anchors = 3  # so are links to page.md#section

default_role = "py:obj"
smartquotes = False  # quotes of code stay as they are
add_module_names = False  # where a name is defined is private, the page says where it is imported from
autodoc_mock_imports = ["torch"]  # gigabytes, for one page
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings name the types, with shapes
maximum_signature_line_length = 80
numpydoc_show_class_members = False  # the template of a class does
toc_object_entries_show_parents = "hide"

copybutton_exclude = ".linenos, .gp, .go"  # neither prompts nor what is printed

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "ignore_pattern": "with_others",  # needs packages of its own
    "abort_on_example_error": True,
    "backreferences_dir": "reference/generated/examples",  # a name's page shows the examples that use it
    "doc_module": ("plsolve",),
    "reference_url": {"plsolve": None},  # names in examples are links
    "show_memory": False,
    "show_signature": False,
    "min_reported_time": 1e9,  # times of this machine are no news
    "write_computation_times": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "plsolve"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": False,
}
html_sidebars = {"*": []}  # the pages at the top have none beside them
html_show_sourcelink = False
html_copy_source = False


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
    """The first mention of a public name on a page becomes a link; the reference has its own, and scipy some names."""
    if doctree.settings.env.docname.startswith("reference/"):
        return
    names = set(plsolve.__all__) - {"curve_fit", "least_squares", "root"}
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
    app.connect("doctree-read", trim_examples)
    app.connect("autodoc-skip-member", skip_attributes)
    app.connect("autodoc-process-docstring", link_citations, priority=600)  # after numpydoc
    app.connect("autodoc-process-signature", hide_made_by_the_library, priority=400)  # before numpydoc
