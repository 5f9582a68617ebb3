"""From an image file to what a network sees; model cards show these functions as they stand here.

Nothing besides Pillow and NumPy is used, and nothing else of this project, so that whoever has an
exported network and its card can run the same lines.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageOps


def read_pixels(image: Image.Image, grey: bool, size: int | None = None) -> np.ndarray:
    """Pixels of an opened image, uint8 (channels, height, width): upright, opaque, cropped."""
    image.load()
    if image.format != "TIFF":  # which Pillow turns itself
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16 bits, to 8
        levels = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("LA", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "L" if grey else "RGB"
    image = image if image.mode == mode else image.convert("RGB").convert(mode)
    if size:  # the shorter side becomes `size`, the centre is kept
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def resize_pixels(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bring float32 pixels (channels, height, width) to the size that a network takes."""
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in pixels]
    bilinear = Image.Resampling.BILINEAR
    return np.stack([np.asarray(plane.resize((width, height), bilinear)) for plane in planes])
