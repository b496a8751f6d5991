"""Any image in, agreed pixels out; anything else refused with a reason."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.data import images
from pipeline.data.images import MOST_PIXELS, Unreadable, fitted

RAMP = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def decode(content: bytes, size: int, channels: int) -> np.ndarray:
    return images.decode(content, size, channels).pixels


def photo(width: int = 48, height: int = 40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 5, y * 6, (x * y) % 256], -1).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_an_image_of_the_size_is_untouched() -> None:
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RAMP)), 8, 3), RAMP)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_pixels_are_those_of_pil(subsampling: int, progressive: bool) -> None:
    content = encoded(photo(40, 40), "JPEG", subsampling=subsampling, progressive=progressive, quality=80)
    np.testing.assert_array_equal(decode(content, 40, 3), np.asarray(Image.open(io.BytesIO(content))))


def test_grey_jpeg_in_both_depths() -> None:
    content = encoded(photo(40, 40).convert("L"), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(decode(content, 40, 1)[:, :, 0], expected)
    np.testing.assert_array_equal(decode(content, 40, 3), np.stack([expected] * 3, -1))


def test_colour_to_grey_is_that_of_pil_for_jpeg_and_png() -> None:
    for content in (encoded(photo(40, 40), "JPEG"), encoded(photo(40, 40))):
        expected = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
        np.testing.assert_array_equal(decode(content, 40, 1)[:, :, 0], expected)


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (33, 32), (200, 3)])
def test_the_centre_square_is_kept(size: tuple[int, int]) -> None:
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    pixels[top : top + side, left : left + side] = 200
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels)), side, 3), np.full((side, side, 3), 200))
    assert (decode(encoded(Image.fromarray(pixels)), 16, 3) == 200).all()


def test_shrinking_is_antialiased() -> None:
    checkerboard = ((np.indices((64, 64)).sum(0) % 2) * 255).astype(np.uint8)
    assert np.abs(decode(encoded(Image.fromarray(checkerboard)), 8, 1).astype(int) - 127).max() <= 2


def test_cmyk() -> None:
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # magenta and yellow: red
    red = decode(encoded(ink, "TIFF"), 8, 3)[4, 4]
    assert red[0] > 240
    assert red[1:].max() < 15
    red = decode(encoded(ink, "JPEG", quality=95), 8, 3)[4, 4]
    assert red[0] > 230
    assert red[1:].max() < 30


def test_16_bit_is_scaled_not_cut() -> None:
    deep = np.array([[0, 257], [32_896, 65_535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        content = encoded(Image.fromarray(deep), kind)
        np.testing.assert_array_equal(decode(content, 2, 1)[:, :, 0], [[0, 1], [128, 255]])


def test_palette_and_one_bit() -> None:
    colours = photo(16, 16).quantize(16)
    np.testing.assert_array_equal(decode(encoded(colours, "PNG"), 16, 3), np.asarray(colours.convert("RGB")))
    bits = Image.fromarray((np.indices((8, 8)).sum(0) % 2).astype(bool))
    assert set(np.unique(decode(encoded(bits), 8, 1))) == {0, 255}


def test_alpha_is_flattened_on_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    image.putpixel((1, 0), (0, 0, 0, 128))
    pixels = decode(encoded(image), 8, 3)
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[0, 1].tolist() == [127, 127, 127]
    assert (pixels[1:] == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([9, 9, 9])
    assert (decode(encoded(palette, "PNG", transparency=0), 8, 3) == 255).all()
    assert (decode(encoded(Image.new("LA", (8, 8), (0, 0))), 8, 1) == 255).all()


def test_the_first_frame_of_what_moves() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "WEBP", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode(content, 8, 3) == [255, 0, 0]).all(), kind


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(photo(), kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert upright.size == ((48, 40) if orientation < 5 else (40, 48))
    side, left, top = 40, (upright.width - 40) // 2, (upright.height - 40) // 2
    expected = np.asarray(upright)[top : top + side, left : left + side]
    np.testing.assert_array_equal(decode(content, 40, 3), expected)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"hello, I am no image", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "not an image"),
        (encoded(photo(), "JPEG")[:700], "truncated"),
        (encoded(photo(), "JPEG")[:-1], "truncated"),
        (encoded(photo(), "PNG")[:300], "."),
        (encoded(photo(), "GIF")[:300], "."),
        (encoded(photo(), "TIFF")[:300], "."),
        (encoded(Image.new("F", (8, 8), 0.5), "TIFF"), "mode F"),
    ],
)
def test_what_is_no_whole_image_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        decode(content, 8, 3)


def test_a_jpeg_cut_in_the_middle_with_an_end_marker_is_refused() -> None:
    with pytest.raises(Unreadable, match="truncated"):
        decode(encoded(photo(200, 200), "JPEG")[:1500] + b"\xff\xd9", 8, 3)


def test_bombs_are_refused_by_their_header() -> None:
    side = int(MOST_PIXELS**0.5) + 10
    with pytest.raises(Unreadable, match="bomb"):
        decode(png_header(side, side), 8, 3)
    content = bytearray(encoded(photo(), "JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(Unreadable, match="60000 x 60000"):
        decode(bytes(content), 8, 3)


def test_digits_can_be_brought_to_another_size_and_depth() -> None:
    assert fitted(RAMP[:, :, :1], 32, 3).shape == (32, 32, 3)


def test_the_size_before_is_that_of_the_upright_image() -> None:
    tagged = Image.Exif()
    tagged[0x0112] = 6  # a quarter turn
    for content in (encoded(photo(), "JPEG"), encoded(photo())):
        assert images.decode(content, 8, 3)[1:] == (40, 48, False)
    turned = images.decode(encoded(photo(), "JPEG", exif=tagged.tobytes()), 8, 3)
    assert (turned.height, turned.width) == (48, 40)


@pytest.mark.parametrize("channels", [1, 3])
def test_only_a_jpeg_of_the_very_pixels_is_to_be_stored_as_it_is(channels: int) -> None:
    square = photo(40, 40) if channels == 3 else photo(40, 40).convert("L")
    tagged = Image.Exif()
    tagged[0x0112] = 3  # upside down

    def plain(image: Image.Image, kind: str = "JPEG", **options: object) -> bool:
        return images.decode(encoded(image, kind, **options), 40, channels).is_plain_jpeg

    assert plain(square)
    assert plain(square, exif=Image.Exif().tobytes())
    assert not plain(square, "PNG")
    assert not plain(square.resize((41, 40)))
    assert not plain(square.convert("L" if channels == 3 else "RGB"))
    assert not plain(square.convert("CMYK"))
    assert not plain(square, exif=tagged.tobytes())
