"""How the site is built; CONTRIBUTING.md says by which command."""

import sys
from pathlib import Path

from numpydoc.xref import DEFAULT_LINKS

import plsolve

sys.path.insert(0, str(Path(__file__).parent))  # of hooks.py

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
    "hooks",
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
add_module_names = False  # each page begins with the import
autodoc_mock_imports = ["torch"]  # gigabytes, for one page
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # the docstrings name the types, with shapes
maximum_signature_line_length = 80
numpydoc_show_class_members = False  # the template of a class does
numpydoc_xref_param_type = True  # types of the library are links
numpydoc_xref_ignore = "all"  # but for these
DEFAULT_LINKS.clear()  # those to pages of Python and numpy, which are not at hand
numpydoc_xref_aliases = {name: f"plsolve.{name}" for name in plsolve.__all__ if name[0].isupper()} | {
    "History": "plsolve._history.History",
    "NetworkJacobian": "plsolve.networks.NetworkJacobian",
    "Solution": "plsolve.jit.Solution",
    "Stage": "plsolve.methods.Stage",
    "System": "plsolve.testing.System",
}
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
    "capture_repr": (),  # what examples print, not the last of their objects
    "remove_config_comments": True,
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
