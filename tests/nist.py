"""The NIST StRD nonlinear data sets: files in data/nist, and the 27 models, as their files state them."""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

DATA = Path(__file__).parent / "data" / "nist"


def ratio(x, b, degree):
    top = sum(b[k] * x**k for k in range(degree + 1))
    return top / (1 + sum(b[degree + k] * x**k for k in range(1, len(b) - degree)))


def decays(x, b1, b2, b3, b4, b5, b6):
    return b1 * np.exp(-b2 * x) + b3 * np.exp(-b4 * x) + b5 * np.exp(-b6 * x)


def peaks(x, b1, b2, b3, b4, b5, b6, b7, b8):
    return b1 * np.exp(-b2 * x) + b3 * np.exp(-((x - b4) ** 2) / b5**2) + b6 * np.exp(-((x - b7) ** 2) / b8**2)


def chwirut(x, b1, b2, b3):
    return np.exp(-b1 * x) / (b2 + b3 * x)


def saturation(x, b1, b2):
    return b1 * (1 - np.exp(-b2 * x))


def enso(x, b1, b2, b3, b4, b5, b6, b7, b8, b9):
    t = 2 * np.pi * x
    seasons = b1 + b2 * np.cos(t / 12) + b3 * np.sin(t / 12)
    return seasons + b5 * np.cos(t / b4) + b6 * np.sin(t / b4) + b8 * np.cos(t / b7) + b9 * np.sin(t / b7)


MODELS = {
    "Bennett5": lambda x, b1, b2, b3: b1 * (b2 + x) ** (-1 / b3),
    "BoxBOD": saturation,
    "Chwirut1": chwirut,
    "Chwirut2": chwirut,
    "DanWood": lambda x, b1, b2: b1 * x**b2,
    "ENSO": enso,
    "Eckerle4": lambda x, b1, b2, b3: (b1 / b2) * np.exp(-0.5 * ((x - b3) / b2) ** 2),
    "Gauss1": peaks,
    "Gauss2": peaks,
    "Gauss3": peaks,
    "Hahn1": lambda x, *b: ratio(x, b, 3),
    "Kirby2": lambda x, *b: ratio(x, b, 2),
    "Lanczos1": decays,
    "Lanczos2": decays,
    "Lanczos3": decays,
    "MGH09": lambda x, b1, b2, b3, b4: b1 * (x**2 + x * b2) / (x**2 + x * b3 + b4),
    "MGH10": lambda x, b1, b2, b3: b1 * np.exp(b2 / (x + b3)),
    "MGH17": lambda x, b1, b2, b3, b4, b5: b1 + b2 * np.exp(-x * b4) + b3 * np.exp(-x * b5),
    "Misra1a": saturation,
    "Misra1b": lambda x, b1, b2: b1 * (1 - (1 + b2 * x / 2) ** -2.0),
    "Misra1c": lambda x, b1, b2: b1 * (1 - (1 + 2 * b2 * x) ** -0.5),
    "Misra1d": lambda x, b1, b2: b1 * b2 * x / (1 + b2 * x),
    "Nelson": lambda x, b1, b2, b3: b1 - b2 * x[0] * np.exp(-b3 * x[1]),
    "Rat42": lambda x, b1, b2, b3: b1 / (1 + np.exp(b2 - b3 * x)),
    "Rat43": lambda x, b1, b2, b3, b4: b1 / (1 + np.exp(b2 - b3 * x)) ** (1 / b4),
    "Roszman1": lambda x, b1, b2, b3, b4: b1 - b2 * x - np.arctan(b3 / (x - b4)) / np.pi,
    "Thurber": lambda x, *b: ratio(x, b, 3),
}


class Set(NamedTuple):
    """A data set: starts (2, m), certified values and standard errors (m,), residual sum of squares."""

    model: object
    x: np.ndarray
    y: np.ndarray
    starts: np.ndarray
    values: np.ndarray
    errors: np.ndarray
    rss: float


def load(name):
    text = (DATA / f"{name}.dat").read_text()
    rows = re.findall(r"^\s*b\d+\s*=\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$", text, re.MULTILINE)
    table = np.array(rows, dtype=float)
    rss = float(re.search(r"Residual Sum of Squares:\s*(\S+)", text)[1])
    lines = text[text.rindex("Data:") :].splitlines()[1:]
    data = np.array([line.split() for line in lines if line.strip()], dtype=float)
    y, x = data[:, 0], data[:, 1:].T
    if name == "Nelson":
        y = np.log(y)
    return Set(MODELS[name], x[0] if len(x) == 1 else x, y, table[:, :2].T, table[:, 2], table[:, 3], rss)


def digits(value, exact):
    """Correct decimal digits of the worst entry."""
    with np.errstate(divide="ignore"):
        return float(np.min(-np.log10(np.abs(value - exact) / np.abs(exact))))
