"""Make ``docs/_static/gallery.png``, the picture of README and the landing page, out of pictures of the gallery.

python docs/picture.py    # needs the extra plot
"""

import io
import runpy
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from PIL import Image

HERE = Path(__file__).parent
ROWS = [  # the example, the number of its figure, the axes in it, and what the picture says there
    [
        ("robot_arm", 1, 0, "robot arm between pipes\n16 equations, 21 unknowns"),
        ("groundwater", 1, 1, "groundwater\n50 data, 1600 unknowns"),
        ("spectrum", 1, 0, "crowded spectrum\n36 data, 38 unknowns"),
    ],
    [("lens", 1, 1, "lens design\n11 equations, 12 unknowns"), ("enso", 1, 1, "El Niño\n156 data, 57 001 unknowns")],
]
WIDTH = 1400  # pixels


def picture(example: str, number: int, place: int, title: str) -> Image.Image:
    """Run the example, and cut one of its axes out, with its labels."""
    plt.close("all")
    runpy.run_path(str(HERE.parent / "examples" / f"plot_{example}.py"))
    fig = plt.figure(number)
    shown = fig.axes[place]
    shown.set_title(title, weight="bold", fontsize=11)
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # everything stays where it is
    for other in fig.axes:
        other.set_visible(other is shown)
    box = shown.get_tightbbox().padded(12.0).transformed(fig.dpi_scale_trans.inverted())
    file = io.BytesIO()
    fig.savefig(file, dpi=250, bbox_inches=box)
    return Image.open(file).convert("RGB")


def main() -> None:
    """Set the pictures in rows of the same width."""
    rows = []
    for row in ROWS:
        images = [picture(*which) for which in row]
        height = round(WIDTH / sum(image.width / image.height for image in images))
        rows.append([image.resize((round(image.width / image.height * height), height)) for image in images])
    panel = Image.new("RGB", (WIDTH, sum(row[0].height for row in rows)), "white")
    y = 0
    for row in rows:
        x = 0
        for image in row:
            panel.paste(image, (x, y))
            x += image.width
        y += row[0].height
    panel.quantize(256, kmeans=10, dither=Image.Dither.NONE).save(HERE / "_static" / "gallery.png", optimize=True)


if __name__ == "__main__":
    main()
