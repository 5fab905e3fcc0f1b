"""Pictures of 4 x 4 cells of 16 pixels, each one flat color, so that one cell is one patch of the image."""

import random

from PIL import Image, ImageDraw

CELL = 16
SIDE = 4
# Corners of the color cube: a linear function of its pixels separates each color from all others.
RGB = {
    "red": (225, 25, 25),
    "green": (20, 170, 30),
    "blue": (25, 25, 225),
    "pink": (230, 30, 220),
    "grey": (200, 200, 200),
    "paper": (245, 245, 240),
}
JITTER = 10

# Four rows of four cells, top to bottom: the color of each.
Grid = tuple[tuple[str, ...], ...]


def pale(rng: random.Random) -> list[list[str]]:
    """A grid of paper and grey cells that mean nothing, to be drawn on."""
    return [[rng.choice(("paper", "grey")) for _ in range(SIDE)] for _ in range(SIDE)]


def freeze(cells: list[list[str]]) -> Grid:
    """A finished grid."""
    return tuple(tuple(row) for row in cells)


def draw(grid: Grid, rng: random.Random) -> Image.Image:
    """The picture of a grid, (64, 64) RGB; each color is shifted a little per picture, drawn with `rng`."""
    shade = {
        name: tuple(min(255, max(0, value + rng.randint(-JITTER, JITTER))) for value in rgb)
        for name, rgb in RGB.items()
    }
    image = Image.new("RGB", (CELL * SIDE, CELL * SIDE), shade["paper"])
    pen = ImageDraw.Draw(image)
    for row, cells in enumerate(grid):
        for column, cell in enumerate(cells):
            x, y = column * CELL, row * CELL
            pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=shade[cell])
    return image
