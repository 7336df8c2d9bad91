"""Every public name is documented as numpydoc asks: its parameters, attributes and results, with type and meaning."""

import dataclasses
import enum
import inspect
import re
import sys
from functools import cached_property
from importlib import import_module
from pathlib import Path

import pytest

import plsolve

pytest.importorskip("numpydoc")
from numpydoc.docscrape import ClassDoc
from numpydoc.validate import validate

OFF = {  # the checks of numpydoc that are not asked for
    "ES01": "a summary may say it all",
    "EX01": "the examples of most names are the guide's",
    "GL01": "a docstring begins beside its quotes, as ruff sees to",
    "SA01": "the guide leads from one name to the other",
    "PR08": "a description may begin with a symbol: w, lambda_max, ||r||",
    "RT04": "so may that of a result",
    "SS02": "and a summary",
    "SS05": 'what computes a thing may be described by the thing: "The minimum-norm step."',
}
DIRECTIVE = re.compile(r"^\.\. (auto\w+|currentmodule):: *(.*)\n((?: +.*\n|\n)*)", re.MULTILINE)
NO_SECTIONS = {"PR01", "RT01"}  # theory: a module explains its letters once, as a paper does


def attribute(module, name):
    try:
        return getattr(module, name)
    except ImportError:  # an extra is not installed
        return None


def names(module):
    return getattr(module, "__all__", [name for name, value in vars(module).items() if inspect.isfunction(value)])


def listed():
    """Dotted name -> object, None where an extra is missing: what `plsolve.__all__` and the public modules list."""
    modules = {f"plsolve.{name}": found for name in plsolve._MODULES if (found := attribute(plsolve, name))}
    found = {f"plsolve.{name}": getattr(plsolve, name) for name in plsolve.__all__}
    while modules:
        room, module = modules.popitem()
        for name in names(module):
            value = attribute(module, name)
            if inspect.ismodule(value):
                modules[f"{room}.{name}"] = value
            else:
                found[f"{room}.{name}"] = value
    return found


def public():
    """Dotted name -> function or class of these, and the methods of the classes."""
    found = {path: value for path, value in listed().items() if callable(value)}
    for path, value in list(found.items()):
        for name, member in vars(value).items() if inspect.isclass(value) else ():
            if inspect.isfunction(member) and not name.startswith("_"):
                found[f"{path}.{name}"] = member
    return found


PUBLIC = public()
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}


def referenced():
    """Dotted names on the pages of the API reference, by the directives that put them there."""
    found = set()
    for page in (Path(__file__).parents[1] / "docs" / "reference").glob("*.rst"):
        for directive, argument, body in DIRECTIVE.findall(page.read_text("utf-8")):
            if directive in ("automodule", "currentmodule"):
                room = argument
                shown = names(import_module(room)) if ":members:" in body else []
            else:
                shown = re.findall(r"^ +~?([\w.]+)$", f"   {argument}\n{body}", re.MULTILINE)
            found |= {f"{room}.{name}" for name in shown}
    return {name for name in found if "._" not in name}


def documented(cls):
    """The attributes that the docstring of a class lists."""
    return {name for entry in ClassDoc(cls)["Attributes"] for name in entry.name.split(", ")}


def test_every_public_name_has_its_place_in_the_reference():
    pytest.importorskip("numba")  # plsolve.jit is made of it
    assert referenced() == set(listed())


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_are_complete(name):
    off, value = set(OFF), PUBLIC[name]
    if name in CLASSES and "Parameters\n" not in value.__doc__:
        off.add("PR01")  # the library makes it: its attributes are documented
    if name.startswith("plsolve.theory."):
        off |= NO_SECTIONS
    assert not [error for error in validate(name)["errors"] if error[0] not in off]


@pytest.mark.parametrize("name", CLASSES)
def test_attributes_are_documented(name):
    cls = CLASSES[name]
    names = {n for n, member in vars(cls).items() if isinstance(member, (property, cached_property))}
    if dataclasses.is_dataclass(cls):
        names |= {field.name for field in dataclasses.fields(cls)}
    elif issubclass(cls, enum.Enum):
        names |= set(cls.__members__)
    elif issubclass(cls, tuple):
        names |= set(cls._fields)
    assert {n for n in names if not n.startswith("_")} <= documented(cls)


@pytest.mark.parametrize("name", [name for name in PUBLIC if name.startswith("plsolve.theory.")])
def test_letters_of_the_theory_are_explained(name):
    function = PUBLIC[name]
    words = set(re.findall(r"\w+", f"{function.__doc__} {sys.modules[function.__module__].__doc__}"))
    assert set(inspect.signature(function).parameters) <= words
