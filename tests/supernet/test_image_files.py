"""What image files become: every pixel mode, every orientation, and what is never decoded."""

from __future__ import annotations

import io
import os
import signal
import socket
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from supernet.data import open_data
from supernet.data.image_file import LARGEST_IMAGE, is_grey, open_image, silence_pillow
from supernet.data.image_pixels import read_pixels, resize_pixels

GREY16 = np.array([[0, 257, 65535], [128, 129, 32896]], dtype=np.uint16)


def write_tiff(
    pixels: bytes,
    shape: tuple[int, int],
    bits: tuple[int, ...],
    photometric: int,
    *,
    sample_format: int = 1,
    extra: int | None = None,
    big: bool = False,
) -> bytes:
    """A TIFF of one uncompressed strip, in modes that Pillow reads and does not write."""
    height, width = shape
    order = ">" if big else "<"
    tags = {256: (3, [width]), 257: (3, [height]), 258: (3, list(bits)), 259: (3, [1])}
    tags |= {262: (3, [photometric]), 273: (4, [0]), 277: (3, [len(bits)]), 278: (3, [height])}
    tags |= {279: (4, [len(pixels)]), 339: (3, [sample_format] * len(bits))}
    if photometric == 3:
        tags[320] = (3, [level * 257 for _ in range(3) for level in range(256)])
    if extra is not None:
        tags[338] = (3, [extra])
    end = 8 + 2 + 12 * len(tags) + 4
    directory, outside = b"", b""
    values = {t: b"".join(struct.pack(order + "HI"[k == 4], v) for v in vs)
              for t, (k, vs) in tags.items()}  # fmt: skip
    rest = sum(len(v) for v in values.values() if len(v) > 4)
    values[273] = struct.pack(order + "I", end + rest)
    for tag in sorted(tags):
        kind, numbers = tags[tag]
        value = values[tag]
        if len(value) > 4:
            field, outside = struct.pack(order + "I", end + len(outside)), outside + value
        else:
            field = value.ljust(4, b"\0")
        directory += struct.pack(order + "HHI", tag, kind, len(numbers)) + field
    head = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "IH", 8, len(tags))
    return head + directory + struct.pack(order + "I", 0) + outside + pixels


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def paint(mode: str, *levels: object) -> Image.Image:
    """One row of pixels."""
    image = Image.new(mode, (len(levels), 1))
    for column, level in enumerate(levels):
        image.putpixel((column, 0), level)
    return image


def paint_palette(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.new("P", (len(colours), 1))
    image.putpalette([level for colour in colours for level in colour])
    for column in range(len(colours)):
        image.putpixel((column, 0), column)
    return image


def row(*levels: int) -> list[list[list[int]]]:
    return [[list(levels)]]


def colours(*pixels: tuple[int, int, int]) -> list[list[list[int]]]:
    return [[[pixel[channel] for pixel in pixels]] for channel in range(3)]


# The content of a file, whether it is grey, and what is seen of it, on white.
MODES = {
    "1": (save(paint("1", 0, 255), "PNG"), True, row(0, 255)),
    "L": (save(paint("L", 0, 7, 255), "PNG"), True, row(0, 7, 255)),
    "LA": (
        save(paint("LA", (0, 0), (100, 255), (0, 127), (200, 128)), "PNG"),
        True,
        row(255, 100, 128, 227),
    ),
    # 50 is half of 100: the levels of this mode are multiplied by alpha already.
    "La": (
        write_tiff(bytes((0, 0, 100, 255, 50, 128)), (1, 3), (8, 8), 1, extra=1),
        True,
        row(255, 100, 177),
    ),
    "P": (
        save(paint_palette((255, 0, 0), (1, 2, 3)), "PNG"),
        False,
        colours((255, 0, 0), (1, 2, 3)),
    ),
    "P, grey": (save(paint_palette((9, 9, 9), (250, 250, 250)), "PNG"), True, row(9, 250)),
    "P, transparent": (
        save(paint_palette((255, 0, 0), (1, 2, 3)), "PNG", transparency=bytes((255, 0))),
        False,
        colours((255, 0, 0), (255, 255, 255)),
    ),
    "P of a GIF, transparent": (
        save(paint_palette((255, 0, 0), (1, 2, 3)), "GIF", transparency=1),
        False,
        colours((255, 0, 0), (255, 255, 255)),
    ),
    "PA": (
        write_tiff(bytes((10, 255, 20, 0)), (1, 2), (8, 8), 3, extra=2),
        True,
        row(10, 255),
    ),
    "RGB": (save(paint("RGB", (1, 2, 3), (4, 5, 6)), "PNG"), False, colours((1, 2, 3), (4, 5, 6))),
    "RGB, one colour transparent": (
        save(paint("RGB", (1, 2, 3), (4, 5, 6)), "PNG", transparency=(1, 2, 3)),
        False,
        colours((255, 255, 255), (4, 5, 6)),
    ),
    "RGBA": (
        save(paint("RGBA", (0, 0, 0, 0), (1, 2, 3, 255), (0, 255, 0, 51)), "PNG"),
        False,
        colours((255, 255, 255), (1, 2, 3), (204, 255, 204)),
    ),
    "RGBa": (
        write_tiff(bytes((0, 0, 0, 0, 0, 51, 0, 51)), (1, 2), (8,) * 4, 2, extra=1),
        False,
        colours((255, 255, 255), (204, 255, 204)),
    ),
    "RGBX": (
        write_tiff(bytes((1, 2, 3, 0, 4, 5, 6, 9)), (1, 2), (8,) * 4, 2, extra=0),
        False,
        colours((1, 2, 3), (4, 5, 6)),
    ),
    "CMYK": (
        save(paint("CMYK", (0, 0, 0, 0), (255, 0, 0, 0), (0, 0, 0, 255)), "TIFF"),
        False,
        colours((255, 255, 255), (0, 255, 255), (0, 0, 0)),
    ),
    "YCbCr": (
        save(paint("YCbCr", (255, 128, 128), (76, 85, 255)), "TIFF"),
        False,
        colours((255, 255, 255), (254, 0, 0)),
    ),
    "LAB": (
        save(paint("LAB", (255, 128, 128), (0, 128, 128)), "TIFF"),
        False,
        colours((255, 255, 255), (0, 0, 0)),
    ),
    "I;16 of a PNG": (save(Image.fromarray(GREY16), "PNG"), True, [[[0, 1, 255], [0, 1, 128]]]),
    "I;16 of a TIFF": (save(Image.fromarray(GREY16), "TIFF"), True, [[[0, 1, 255], [0, 1, 128]]]),
    "I;16B": (
        write_tiff(GREY16.astype(">u2").tobytes(), (2, 3), (16,), 1, big=True),
        True,
        [[[0, 1, 255], [0, 1, 128]]],
    ),
    "I of a PGM": (
        b"P5\n3 2\n65535\n" + GREY16.astype(">u2").tobytes(),
        True,
        [[[0, 1, 255], [0, 1, 128]]],
    ),
    # 10 bits a pixel, as the header says: 1023 is white.
    "I of a PGM of fewer bits": (b"P2\n3 1\n1023\n0 512 1023\n", True, row(0, 128, 255)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_what_is_seen(tmp_path: Path, mode: str) -> None:
    if mode in ("La", "YCbCr") and int(PIL.__version__.split(".")[0]) < 13:
        pytest.skip("older versions of Pillow refuse these files")
    content, grey, expected = MODES[mode]
    file = tmp_path / "image"
    file.write_bytes(content)
    with open_image(file) as image:
        assert is_grey(image) is grey
    with open_image(file) as image:
        pixels = read_pixels(image, grey)
    assert pixels.dtype == np.uint8
    # Colours of LAB go through a colour management that rounds twice.
    np.testing.assert_allclose(pixels.astype(int), expected, atol=mode == "LAB", rtol=0)


def test_opaque_colours_pass_as_they_are(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels, levels[::-1], levels // 2, np.full_like(levels, 255)], 1)[None]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as image:
        assert np.array_equal(read_pixels(image, False), pixels[..., :3].transpose(2, 0, 1))


def test_pictures_of_16_bits_keep_their_levels(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            levels = np.roll(ramp, i + 10 * (label == "b"))
            kind = ("png", "tif")[i % 2]
            Image.fromarray(levels).save(tmp_path / label / f"{i}.{kind}")
    data = open_data(f"folder:{tmp_path}")
    assert data.shape.input == (1, 8, 8)
    for split in (data.train, data.val, data.test):
        for image in split.inputs:
            assert sorted(image.flatten().tolist()) == [round(v / 257) for v in ramp.flatten()]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (save(Image.new("F", (3, 2), 0.5), "TIFF"), "floating-point"),
        (save(Image.new("I", (3, 2), 70_000), "TIFF"), "signed"),
        (write_tiff(bytes(24), (2, 3), (32,), 1), "32-bit"),
        (write_tiff(bytes(12), (2, 3), (16,), 1, sample_format=2), "signed"),
        (write_tiff(bytes(6), (2, 3), (8,), 1, sample_format=2), "signed"),
        (write_tiff(bytes(10), (2, 3), (12,), 1), "12-bit"),
        (write_tiff(bytes(12), (2, 3), (16,), 0), "inverted 16-bit"),
    ],
)
def test_levels_without_a_rule_are_refused(tmp_path: Path, content: bytes, kind: str) -> None:
    file = tmp_path / "odd.tif"
    file.write_bytes(content)
    message = rf"odd\.tif has {kind} pixels, .* save it with 8 or 16 bits"
    with pytest.raises(ValueError, match=message), open_image(file):
        pass


@pytest.mark.parametrize(
    "kind", ["JPEG", "PNG", "plain TIFF", "LZW TIFF", "WEBP", "16-bit PNG", "16-bit TIFF"]
)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_says(
    tmp_path: Path, kind: str, orientation: int
) -> None:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 256, (2, 3)), np.ones((8, 8))).astype(np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    options = {
        "JPEG": {"quality": 100, "exif": exif},
        "PNG": {"exif": exif},
        # Pixels that are not compressed are read in another way.
        "plain TIFF": {"tiffinfo": {274: orientation}},
        "LZW TIFF": {"tiffinfo": {274: orientation}, "compression": "tiff_lzw"},
        "16-bit TIFF": {"tiffinfo": {274: orientation}},
        "WEBP": {"lossless": True, "exif": exif},
        "16-bit PNG": {"exif": exif},
    }[kind]
    stored = Image.fromarray(blocks * np.uint16(257) if "16" in kind else blocks)
    stored = stored.convert("RGB") if kind == "WEBP" else stored
    stored.save(tmp_path / "image", kind.split()[-1], **options)
    with open_image(tmp_path / "image") as image:
        seen = read_pixels(image, True)[0]
    # Where row 0 and column 0 of what is stored are seen (table of EXIF 2.3, section 4.6.4).
    expected = {
        1: blocks,
        2: blocks[:, ::-1],
        3: blocks[::-1, ::-1],
        4: blocks[::-1],
        5: blocks.T,
        6: blocks.T[:, ::-1],
        7: blocks.T[::-1, ::-1],
        8: blocks.T[::-1],
    }[orientation]
    assert seen.shape == expected.shape
    np.testing.assert_allclose(seen.astype(int), expected.astype(int), atol=2)


def test_pictures_are_turned_before_they_are_cropped(tmp_path: Path) -> None:
    stored = np.zeros((30, 10), dtype=np.uint8)
    stored[15:] = 255
    exif = Image.Exif()
    exif[274] = 8
    Image.fromarray(stored).save(tmp_path / "a.png", exif=exif)
    with open_image(tmp_path / "a.png", 10) as image:
        pixels = read_pixels(image, True, 10)
    # Dark on the left and light on the right; as stored it would be dark above and light below.
    assert pixels.tolist() == [[[0] * 5 + [255] * 5] * 10]


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(3, 40), st.integers(2, 30), st.integers(0, 2**20))
def test_pixels_are_resized_as_a_supernet_does(
    height: int, width: int, side: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).random((3, height, width), dtype=np.float32)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None],
        size=(side, side),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[0]
    np.testing.assert_allclose(resize_pixels(pixels, side, side), expected, atol=1e-5)


# -- what is never decoded ---------------------------------------------------------------------


def write_huge_png(path: Path, width: int, height: int) -> None:
    """A PNG that promises so many pixels and has none: decoding it would fail."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((13_000, 13_000), r"1\.png has 13000x13000 = 169 megapixels; at most 100 megapixels"),
        ((30_000, 30_000), r"1\.png has too many pixels; at most 100 megapixels"),
        ((1, 2_000_000), r"1\.png has 1x2000000 pixels, which is too long and thin"),
        ((9_000, 9_000), r"cannot decode image .*1\.png"),
    ],
)
def test_huge_pictures_are_refused_by_their_header(
    tmp_path: Path, size: tuple[int, int], message: str
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), 20 * i + (label == "b")).save(tmp_path / label / f"{i}.png")
    write_huge_png(tmp_path / "b" / "1.png", *size)
    with pytest.raises(ValueError, match=message):
        open_data(f"folder:{tmp_path}", image_size=8)


def test_a_picture_that_pillow_warns_of_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (9, 9), 7).save(tmp_path / "a.png")
    # Above it Pillow warns, and above twice as much it refuses.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with silence_pillow(), open_image(tmp_path / "a.png") as image:
        assert read_pixels(image, True).max() == 7
    assert LARGEST_IMAGE == 100_000_000


def test_formats_that_start_other_programs_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with (
        pytest.raises(
            ValueError, match=r"cannot decode image .*a\.png \(Pillow reads it as none of PNG, "
        ),
        open_image(tmp_path / "a.png"),
    ):
        pass


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """Fail instead of waiting for ever for something to arrive in a pipe."""

    def fail(*_: object) -> None:
        raise TimeoutError("it waits")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    # The name of a socket may have 108 characters only.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)
    assert stat.S_ISSOCK(path.stat().st_mode)


def link_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_nowhere(path: Path) -> None:
    path.symlink_to("gone.png")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (make_pipe, r"x\.png is a pipe and not an image; remove it"),
        (make_socket, r"x\.png is a socket and not an image"),
        (link_device, r"x\.png is a device and not an image"),
        (link_nowhere, r"x\.png is a link to gone\.png, which is not there"),
    ],
)
@pytest.mark.usefixtures("no_waiting")
def test_what_is_no_file_is_named_and_not_waited_for(
    tmp_path: Path, make: object, message: str
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(4):
            Image.new("L", (4, 4), 20 * i + (label == "b")).save(tmp_path / label / f"{i}.png")
    assert callable(make)
    make(tmp_path / "b" / "x.png")
    with pytest.raises(ValueError, match=message):
        open_data(f"folder:{tmp_path}")


def test_a_folder_may_be_called_like_an_image(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label / "x.png").mkdir(parents=True)
        for i in range(4):
            file = tmp_path / label / "x.png" / f"{i}.png"
            Image.new("L", (4, 4), 20 * i + (label == "b")).save(file)
    assert len(open_data(f"folder:{tmp_path}").train) == 6 - 2


@pytest.mark.usefixtures("no_waiting")
def test_a_pipe_is_no_text(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.txt")
    for path in (tmp_path / "t.txt", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=f"{path} is no text file"):
            open_data(f"text:{path}")
