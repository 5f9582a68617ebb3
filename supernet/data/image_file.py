"""Image files are opened and judged by their header, before anything is decoded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from supernet.errors import InputError

MEGAPIXEL = 1_000_000
LARGEST_IMAGE = 100 * MEGAPIXEL
# By content, whatever the name says. Left out is what Pillow starts other programs for (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "DIB", "WEBP", "TIFF")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO = 0


@contextmanager
def silence_pillow() -> Iterator[None]:
    """Hear no warnings of large images and of damaged metadata, neither of which matters here.

    For all images at once, since what is heard is settled for the whole process: threads that
    settled it for one image each would undo what another has settled.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def open_image(file: Path, size: int | None = None) -> Iterator[Image.Image]:
    """Open an image that is safe to decode; what fails while it is open is said of the file.

    Args:
        file: A regular file.
        size: Square size in pixels that it will be brought to.

    Raises:
        InputError: It is no image or a damaged one; it has more than ``LARGEST_IMAGE`` pixels, or
            would have once its shorter side has ``size``; or nobody can say what its pixel values
            mean.
    """
    try:
        # By a file, not by its name: Pillow maps the pixels of a named TIFF into memory by the
        # size they have once they are turned, which mixes up those that lie on their side.
        with file.open("rb") as opened, Image.open(opened, formats=FORMATS) as image:
            _check_pixels(file, image.size, size)
            _check_levels(file, image)
            yield image
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{file} has too many pixels; {_ADVICE}") from None
    # Pillow's decoders report damage by whatever exception they run into.
    except Exception as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = f"Pillow reads it as none of {', '.join(FORMATS)}"
        message = f"cannot decode image {file} ({reason}); replace it, or remove it"
        raise InputError(message) from error


def is_grey(image: Image.Image) -> bool:
    """Whether an image has no colours by its mode, or by the palette it is made of."""
    if image.mode in ("P", "PA"):
        palette = np.array(image.getpalette()).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "F") or image.mode.startswith("I")


_ADVICE = (
    f"at most {LARGEST_IMAGE // MEGAPIXEL} megapixels are decoded: make it smaller, or remove it"
)


def _check_pixels(file: Path, sides: tuple[int, int], size: int | None) -> None:
    width, height = sides
    if width * height > LARGEST_IMAGE:
        raise InputError(
            f"{file} has {width}x{height} = {width * height / MEGAPIXEL:.0f} megapixels; {_ADVICE}"
        )
    if size is not None and size * size * max(sides) > LARGEST_IMAGE * min(sides):
        raise InputError(
            f"{file} has {width}x{height} pixels, which is too long and thin to be cropped at "
            f"{size} pixels; cut it, or remove it"
        )


def _check_levels(file: Path, image: Image.Image) -> None:
    """Refuse pixels that no rule brings to 8 bits: where black and white are is not said."""
    kind = None
    if image.mode == "F":
        kind = "floating-point"
    elif image.format == "TIFF":
        tags = getattr(image, "tag_v2", {})
        if tags.get(_SAMPLE_FORMAT, (1,))[0] != 1:
            kind = "signed"
        elif tags.get(_BITS_PER_SAMPLE, (1,))[0] not in (1, 2, 4, 8, 16):
            kind = f"{tags[_BITS_PER_SAMPLE][0]}-bit"
        elif image.mode.startswith("I") and tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
            kind = "inverted 16-bit"
    if kind is not None:
        raise InputError(
            f"{file} has {kind} pixels, and no rule says which values are black and white; "
            "save it with 8 or 16 bits a channel, unsigned"
        )
