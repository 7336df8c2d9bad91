"""Named tuples of numbers and arrays in one npz file, which is replaced as a whole and never unpickled.

The entry ``header`` is a text in JSON: the tree of the fields with their numbers, and where arrays belong, the names of
their entries. An array that several fields share is stored once, and is shared again after reading. The classes of the
tree come from the annotations of the class that is asked for, never from the file.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

import numpy as np

HEADER, NAMES = "header", "arrays"
#: What reading damaged bytes raises.
DAMAGE = (zipfile.BadZipFile, zlib.error, ArithmeticError, EOFError, LookupError, RuntimeError, TypeError, ValueError)

Arrays = dict[str, Any]


class DifferentClassError(ValueError):
    """The fields in the file are those of no class that is expected."""


# -- the tree ----------------------------------------------------------------------------------------------------------


def encoded(value: Any, name: str, arrays: Arrays, names: dict[int, str]) -> Any:
    """The value for JSON; arrays are added to ``arrays``, except those whose id is in ``names`` already.

    Raises TypeError, which names the field, for what cannot be stored.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        if id(value) not in names:
            names[id(value)], arrays[name] = name, value
        return {"array": names[id(value)]}
    if isinstance(value, np.generic) and value.dtype.kind in "fiub" and value.dtype.itemsize <= 8:
        return {"number": value.item(), "type": value.dtype.name}
    if isinstance(value, int):  # a Status
        return int(value)

    def each(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        return {key: encoded(item, f"{name}.{key}", arrays, names) for key, item in items}

    fields = field_names(type(value))
    if fields:
        return {"fields": each((field, getattr(value, field)) for field in fields)}
    if type(value) is tuple:
        return {"items": list(each((str(i), item) for i, item in enumerate(value)).values())}
    if type(value) is dict and all(type(key) is str for key in value):
        return {"dict": each(value.items())}
    raise TypeError(f"{name} is of type {type(value).__name__}")


def decoded(tree: Any, hint: Any, arrays: Mapping[str, Any], classes: tuple[type, ...] = ()) -> Any:
    """The value; hint: its annotation; classes: those of values whose annotation names none."""
    if not isinstance(tree, dict):
        return tree
    hint = without_none(hint)
    if "array" in tree:
        return arrays[tree["array"]]
    if "number" in tree:
        return np.dtype(tree["type"]).type(tree["number"])
    if "dict" in tree:
        return {key: decoded(item, Any, arrays, classes) for key, item in tree["dict"].items()}
    if "items" in tree:
        hints = hints_of_items(hint, len(tree["items"]))
        return tuple(decoded(item, of, arrays, classes) for item, of in zip(tree["items"], hints, strict=True))
    fields = tree["fields"]
    expected = [kind for kind in (hint, *get_args(hint)) if field_names(kind)] or classes
    for kind in expected:
        if set(field_names(kind)) == fields.keys():
            types = hints_of(kind)
            return kind(**{key: decoded(item, types.get(key, Any), arrays, classes) for key, item in fields.items()})
    raise DifferentClassError(f"fields {', '.join(fields)}")


def without_none(hint: Any) -> Any:
    """X for an annotation X | None."""
    kinds = [kind for kind in get_args(hint) if kind is not NoneType]
    return kinds[0] if isinstance(hint, UnionType) and len(kinds) == 1 else hint


def hints_of_items(hint: Any, count: int) -> list[Any]:
    """The annotations of the items of a tuple, from its own."""
    inside = get_args(hint)
    if inside and inside[-1] is ...:
        return [inside[0]] * count
    return list(inside) if len(inside) == count else [Any] * count


def field_names(kind: Any) -> tuple[str, ...]:
    """The fields of a class of named tuples, or of a dataclass; none for other classes."""
    if isinstance(kind, type) and issubclass(kind, tuple):
        return getattr(kind, "_fields", ())
    return tuple(field.name for field in dataclasses.fields(kind)) if dataclasses.is_dataclass(kind) else ()


def hints_of(kind: type) -> dict[str, Any]:
    """The annotations of the fields; none where a name in them is unknown."""
    try:
        return get_type_hints(kind)
    except NameError:
        return {}


# -- the file ----------------------------------------------------------------------------------------------------------


def write(path: str, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write or replace the file; a process that is killed meanwhile leaves the one before.

    Raises FileExistsError where another run writes at the same time, which would rename a file that is not complete.
    """
    part = f"{path}.part"
    with suppress(FileNotFoundError):
        os.unlink(part)  # of a process that was killed
    try:
        with open(part, "xb") as file:
            text = json.dumps({**header, NAMES: list(arrays)}).encode()
            entries: Any = {HEADER: np.frombuffer(text, np.uint8), **arrays}
            np.savez(file, **entries)
            file.flush()
            os.fsync(file.fileno())
            if not os.path.samestat(os.fstat(file.fileno()), os.stat(part)):
                raise FileExistsError("another run writes it at the same time")
        os.replace(part, path)
    except FileExistsError:
        raise  # what stands there is another's
    except OSError:
        with suppress(OSError):
            os.unlink(part)
        raise


def as_array(member: bytes) -> Any:
    """The array in an entry of the file."""
    return np.lib.format.read_array(io.BytesIO(member), allow_pickle=False)


def parsed(data: bytes) -> tuple[dict[str, Any], Arrays]:
    """The header and the arrays in the bytes of a file; raises one of DAMAGE where they are not as they were written.

    The check sums of the archive are tested before anything is interpreted.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise zipfile.BadZipFile("it is compressed or encrypted")
        members = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
    arrays = {name: as_array(member) for name, member in members.items()}
    header = json.loads(arrays.pop(HEADER).tobytes())
    if not isinstance(header, dict):
        raise ValueError("its header is not one of plsolve")
    if header.pop(NAMES) != list(arrays):  # the check sums are of contents alone
        raise ValueError("its entries have other names than were written")
    return header, arrays
