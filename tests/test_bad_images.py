"""Pictures, folders and lists as they should not be, each with the outcome that it must have."""

import io
import os
import resource
import shutil
import signal
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import asked
from detour import activations, attacks, classifiers, config, folders, folds, images, manifest, seeds, store
from detour.config import ConfigError
from detour.manifest import Manifest
from detour.options.classifier import Training
from detour.pixels import FORMATS, PIXELS, decoded, fitted, with_orientation
from detour.spelling import shown


@pytest.fixture(autouse=True)
def _not_for_ever():
    """What hangs is an error: of a pipe or a device there is always more to read."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("hangs"))
    signal.alarm(60)
    yield
    signal.alarm(0)


# Pictures -----------------------------------------------------------------------------------------------------------

SIDE = 256
RAMP = np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE)
PIXEL = np.stack([np.add.outer(np.arange(40), np.arange(60)) * k % 256 for k in (1, 2, 3)], 2).astype(
    np.uint8
)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(w: int, h: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG as its specification has it: Pillow does not write them all."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def rows_of(values: np.ndarray) -> bytes:
    """Rows of a PNG, not filtered."""
    return b"".join(b"\0" + row.tobytes() for row in values)


def interlaced(values: np.ndarray, end: int | None = None) -> bytes:
    """A PNG of colours in the seven passes of its specification, or the first bytes of its rows."""
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [rows_of(values[y::dy, x::dx]) for y, x, dy, dx in steps if values[y::dy, x::dx].size]
    h, w = values.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 2, 0, 0, 1))
    rows = b"".join(parts)[:end]
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def of_pillow(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(values: np.ndarray, **tags: int) -> bytes:
    """An uncompressed TIFF of one channel, little-endian, with those values of tags."""
    h, w = values.shape
    about = {
        256: w, 257: h, 258: 8 * values.itemsize, 259: 1, 262: 1, 273: 0, 277: 1, 278: h, 279: values.nbytes,
        **{int(tag[1:]): value for tag, value in tags.items()},
    }  # fmt: skip
    about[273] = 8 + 2 + 12 * len(about) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, about[tag]) for tag in sorted(about))
    return b"II*\0" + struct.pack("<IH", 8, len(about)) + entries + b"\0" * 4 + values.tobytes()


def grey(values: np.ndarray) -> np.ndarray:
    return np.stack([values] * 3).astype(np.uint8)


def colours(values: np.ndarray) -> np.ndarray:
    return values.transpose(2, 0, 1).astype(np.uint8)


SIXTEEN = np.stack([RAMP, RAMP[::-1], RAMP.T], 2)
WITH_ALPHA = np.concatenate([SIXTEEN, RAMP[..., None]], 2)
UPPER = RAMP >> 8
PALETTE = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], dtype=np.uint8)
# Four values of two bits a byte.
TWO_BITS = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
UNPACKED = np.stack([TWO_BITS >> s & 3 for s in (6, 4, 2, 0)], 2).reshape(4, 16)
RGB = Image.fromarray(PIXEL)
WHITE, FRAMES = np.full((3, 40, 60), 255), [Image.fromarray(PIXEL // k) for k in (2, 4)]
MASKED = Image.merge("RGBA", [*RGB.split(), RGB.getchannel(0).point(lambda v: v // 2)])

# A picture whose last rows are as black as those that are not there.
ENDS_BLACK = np.concatenate([PIXEL[:20], np.zeros((20, 60, 3), np.uint8)])
GREY = Image.new("RGB", (60, 40), (128, 128, 128))

RIGHT = {
    "interlaced PNG": (interlaced(PIXEL), colours(PIXEL)),
    **{f"interlaced PNG of {h} x {w}": (interlaced(PIXEL[7:7 + h, 9:9 + w]), colours(PIXEL[7:7 + h, 9:9 + w]))
       for h in range(1, 10) for w in (1, 2, 5, 9)},
    "interlaced PNG that ends black": (interlaced(ENDS_BLACK), colours(ENDS_BLACK)),
    "PNG that ends black": (of_pillow(Image.fromarray(ENDS_BLACK), "PNG"), colours(ENDS_BLACK)),
    "1-bit PNG, black": (png(9, 3, 1, 0, b"\0\0\0" * 3), np.zeros((3, 3, 9))),
    "16-bit colour PNG, black": (png(9, 3, 16, 6, rows_of(np.zeros((3, 9, 4), ">u2"))), np.zeros((3, 3, 9))),
    "palette PNG in parts": (png(16, 4, 2, 3, rows_of(TWO_BITS * 0), chunk(b"PLTE", PALETTE[:1].tobytes())), colours(PALETTE[UNPACKED * 0])),
    "JPEG, as grey as what is missing": (of_pillow(GREY, "JPEG"), np.full((3, 40, 60), 128)),
    "progressive JPEG, as grey as what is missing": (of_pillow(GREY, "JPEG", progressive=True), np.full((3, 40, 60), 128)),
    "16-bit grey PNG": (png(SIDE, SIDE, 16, 0, rows_of(RAMP.astype(">u2"))), grey(UPPER)),
    "16-bit colour PNG": (png(SIDE, SIDE, 16, 2, rows_of(SIXTEEN.astype(">u2"))), colours(SIXTEEN >> 8)),
    "16-bit grey PNG with alpha": (
        png(SIDE, SIDE, 16, 4, rows_of(np.stack([RAMP, RAMP.T], 2).astype(">u2"))), grey(UPPER)),
    "16-bit colour PNG with alpha": (
        png(SIDE, SIDE, 16, 6, rows_of(WITH_ALPHA.astype(">u2"))), colours(SIXTEEN >> 8)),
    "16-bit grey TIFF": (tiff(RAMP), grey(UPPER)),
    "16-bit grey TIFF, big-endian": (of_pillow(Image.frombytes("I;16B", (SIDE, SIDE), RAMP.astype(">u2").tobytes()), "TIFF"), grey(UPPER)),
    "16-bit PGM": (b"P5 256 256 65535\n" + RAMP.astype(">u2").tobytes(), grey(UPPER)),
    "10-bit PGM": (b"P5 256 256 1023\n" + (RAMP >> 6).astype(">u2").tobytes(), grey((RAMP >> 6) * 65535.0 / 1023 // 256)),
    "16-bit PPM": (b"P6 256 256 65535\n" + SIXTEEN.astype(">u2").tobytes(), colours((SIXTEEN * 255.0 / 65535).round())),
    "plain 16-bit PGM": (b"P2\n# ramp\n3 2 65535\n0 256 511\n512 65279 65535\n", grey(np.array([[0, 1, 1], [2, 254, 255]]))),
    "plain PPM": (b"P3 1 2 255\n1 2 3\n4 5 6", np.array([[[1], [4]], [[2], [5]], [[3], [6]]])),
    "plain PBM": (b"P1 2 1\n0 1", grey(np.array([[255, 0]]))),
    "PBM": (b"P4 8 1\n\x0f", grey(np.array([[255] * 4 + [0] * 4]))),
    "2-bit grey PNG": (png(16, 4, 2, 0, rows_of(TWO_BITS)), grey(UNPACKED * 85)),
    "1-bit PNG": (png(32, 4, 1, 0, rows_of(TWO_BITS)), grey(np.unpackbits(TWO_BITS, axis=1) * 255)),
    "palette PNG": (png(16, 4, 2, 3, rows_of(TWO_BITS), chunk(b"PLTE", PALETTE.tobytes())), colours(PALETTE[UNPACKED])),
    "palette PNG with transparency": (
        png(16, 4, 2, 3, rows_of(TWO_BITS), chunk(b"PLTE", PALETTE.tobytes()), chunk(b"tRNS", b"\0\x80")), colours(PALETTE[UNPACKED])),
    "RGBA PNG": (of_pillow(MASKED, "PNG"), colours(PIXEL)),
    "RGBA TIFF": (of_pillow(MASKED, "TIFF"), colours(PIXEL)),
    "LA PNG": (of_pillow(MASKED.convert("LA"), "PNG"), grey(np.asarray(RGB.convert("L")))),
    "CMYK TIFF, no ink": (of_pillow(Image.new("CMYK", (60, 40)), "TIFF"), WHITE),
    "CMYK JPEG, no ink": (of_pillow(Image.new("CMYK", (60, 40)), "JPEG"), WHITE),
    "grey TIFF, white is zero": (tiff(RAMP.astype(np.uint8), t262=0), grey(255 - RAMP.astype(np.uint8))),
    "BMP": (of_pillow(RGB, "BMP"), colours(PIXEL)),
    "1-bit BMP": (of_pillow(Image.fromarray(PIXEL[..., 0] > 40), "BMP"), grey((PIXEL[..., 0] > 40) * 255)),
    "lossless WebP": (of_pillow(RGB, "WEBP", lossless=True), colours(PIXEL)),
    **{f"TIFF, {c}": (of_pillow(RGB, "TIFF", compression=c), colours(PIXEL)) for c in ("tiff_lzw", "tiff_deflate", "packbits")},
    "animated PNG": (of_pillow(RGB, "PNG", save_all=True, append_images=FRAMES), colours(PIXEL)),
    "animated WebP": (of_pillow(RGB, "WEBP", save_all=True, append_images=FRAMES, lossless=True), colours(PIXEL)),
    "TIFF of several pages": (of_pillow(RGB, "TIFF", save_all=True, append_images=FRAMES), colours(PIXEL)),
    "PNG with broken EXIF": (of_pillow(RGB, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), colours(PIXEL)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", RIGHT)
def test_a_picture_is_what_its_file_says(name):
    content, expected = RIGHT[name]
    found = decoded(content)
    assert found.dtype == torch.uint8
    # Of values that are scaled, how the last place is rounded is the format's affair.
    np.testing.assert_allclose(
        found.numpy().astype(int), expected, atol=1 if "10-bit" in name or "PPM" in name else 0
    )


NOISY = Image.fromarray(np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8))
INDICES = np.tile(np.arange(8, dtype=np.uint8), (8, 1))
JPEGS = {
    "JPEG": {}, "grey JPEG": {"of": NOISY.convert("L")}, "CMYK JPEG": {"of": NOISY.convert("CMYK")},
    "JPEG 4:4:4": {"subsampling": 0}, "optimised JPEG": {"optimize": True}, "JPEG with restarts": {"restart_marker_blocks": 5},
    "JPEG with a thumbnail": {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + of_pillow(GREY, "JPEG")},
    "progressive JPEG": {"progressive": True}, "grey progressive JPEG": {"progressive": True, "of": NOISY.convert("L")},
}  # fmt: skip


def a_jpeg(of: Image.Image = NOISY, **options) -> bytes:
    return of_pillow(of, "JPEG", **options)


WHOLE_JPEGS = {
    **{kind: a_jpeg(**options) for kind, options in JPEGS.items()},
    "followed by something": a_jpeg() + b"\xff\xd9 something",
    "with bytes before its end": a_jpeg()[:-2] + bytes(30) + b"\xff\xd9",
    "progressive with bytes before its end": a_jpeg(progressive=True)[:-2] + bytes(30) + b"\xff\xd9",
    "of two pictures": of_pillow(NOISY, "MPO", save_all=True, append_images=[GREY]),
    "flat, in scans of zeros": of_pillow(GREY.resize((900, 1100)), "JPEG", optimize=True),
    "large": a_jpeg(NOISY.resize((900, 1100)), quality=98),
}


@pytest.mark.parametrize("name", WHOLE_JPEGS)
def test_the_pixels_of_a_whole_jpeg_are_pillow_s_to_the_bit(name):
    content = WHOLE_JPEGS[name]
    with Image.open(io.BytesIO(content)) as image:
        expected = colours(np.asarray(image.convert("RGB")))
    np.testing.assert_array_equal(decoded(content), expected)


def test_sixteen_bits_keep_all_levels():
    assert len(np.unique(decoded(RIGHT["16-bit grey PNG"][0]))) == 256


def webp_of(w: int, h: int) -> bytes:
    """An animation of one small frame on a canvas of another size."""

    def part(kind: bytes, content: bytes) -> bytes:
        return kind + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)

    def three(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(3, "little") for number in numbers)

    frame = part(b"ANMF", three(0, 0, 59, 39, 100) + b"\0" + of_pillow(RGB, "WEBP", lossless=True)[12:])
    body = part(b"VP8X", b"\2\0\0\0" + three(w - 1, h - 1)) + part(b"ANIM", b"\0" * 6) + frame
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def jpeg_of(w: int, h: int) -> bytes:
    content = bytearray(of_pillow(RGB, "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", h, w)
    return bytes(content)


def bmp_of(w: int, h: int) -> bytes:
    content = bytearray(of_pillow(RGB, "BMP"))
    content[18:26] = struct.pack("<ii", w, h)
    return bytes(content)


FLOATS = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
ELSEWHERE = "found none of JPEG, PNG, PPM, BMP, TIFF, WEBP"
TOO_MANY = "pixels, allowed: 1 to 67,108,864"
BOMB = chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 2**26))


def sparse(content: bytes) -> bytes:
    """With 200 bytes in the middle zeroed, as a copy leaves them that was broken off."""
    half = len(content) // 2
    return content[:half] + bytes(200) + content[half + 200 :]


REFUSED = {
    **{f"PNG with {n} of 20 rows": (png(60, 20, 8, 2, rows_of(PIXEL[:n])), "bytes of its rows missing" if n else "cannot") for n in (0, 1, 10, 19)},
    **{f"interlaced PNG without its last {n} bytes": (interlaced(PIXEL, -n), "bytes of its rows missing|truncated") for n in (1, 181, 2000)},
    "16-bit PNG with half its rows": (png(SIDE, SIDE, 16, 0, rows_of(RAMP[:128].astype(">u2"))), "found 65,664 bytes of its rows missing"),
    "palette PNG without a palette": (png(8, 8, 8, 3, rows_of(INDICES)), "found colour 7 of a palette of 0"),
    "palette PNG without a palette, of one colour": (png(8, 8, 8, 3, rows_of(INDICES * 0)), "found colour 0 of a palette of 0"),
    "palette PNG with a colour beyond it": (png(8, 8, 8, 3, rows_of(INDICES), chunk(b"PLTE", PALETTE.tobytes())), "found colour 7 of a palette of 4"),
    **{f"{kind}, cut at {cut:.0%} and ended": (a_jpeg(**options)[: int(cut * len(a_jpeg(**options)))] + b"\xff\xd9", "truncated|cut short")
       for kind, options in JPEGS.items() for cut in (0.5, 0.7, 0.97)},
    **{f"{kind}, sparse": (sparse(a_jpeg(**options)), "truncated|zeros in its scan") for kind, options in JPEGS.items() if kind in ("JPEG", "CMYK JPEG", "JPEG 4:4:4", "JPEG with a thumbnail")},
    "TIFF of JPEG, sparse": (sparse(of_pillow(NOISY, "TIFF", compression="jpeg")), "truncated|zeros in its scan"),
    **{f"TIFF, {c}, cut": (of_pillow(RGB, "TIFF", compression=c)[:400], "begins as a TIFF, and is cut short, damaged") for c in ("tiff_lzw", "tiff_deflate", "packbits", "jpeg")},
    "PNG of a few bytes": (b"\x89PNG\r\n\x1a\n\0\0", "begins as a PNG|cannot be decoded"),
    "nothing": (b"", ELSEWHERE),
    "zeros": (b"\0" * 1000, ELSEWHERE),
    "a page": (b"<html>not found</html>", ELSEWHERE),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", ELSEWHERE),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", ELSEWHERE),
    "PDF": (of_pillow(RGB, "PDF"), ELSEWHERE),
    **{kind: (of_pillow(RGB, kind), ELSEWHERE) for kind in ("GIF", "ICO", "TGA", "PCX", "SGI", "DDS", "DIB", "IM")},
    "JPEG 2000": (of_pillow(RGB, "JPEG2000"), ELSEWHERE),
    "AVIF": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(range(200)), ELSEWHERE),
    "float TIFF": (of_pillow(Image.fromarray(FLOATS), "TIFF"), "found a TIFF with values of 32 bits"),
    "32-bit TIFF": (tiff(RAMP.astype(np.uint32)), "found a TIFF with values of 32 bits"),
    "signed 8-bit TIFF": (tiff(RAMP.astype(np.int8), t339=2), r"of 8 bits, SampleFormat \[2\]"),
    "signed 16-bit TIFF": (tiff(RAMP, t339=2), r"of 16 bits, SampleFormat \[2\]"),
    "12-bit TIFF": (tiff(RAMP, t258=12), "of 12 bits"),
    "16-bit TIFF, white is zero": (tiff(RAMP, t262=0), "PhotometricInterpretation 0"),
    "PFM": (b"Pf\n256 256\n-1\n" + FLOATS.tobytes(), "range no file says"),
    "PGM without pixels": (b"P5 0 10 255\n", "cannot be decoded"),
    "PNG without pixels": (png(0, 5, 8, 0, b""), "cannot be decoded"),
    "BMP without pixels": (bmp_of(0, 40), "cannot be decoded"),
    "PNG of 100 million pixels": (png(10_000, 10_000, 8, 0, b""), TOO_MANY),
    "PNG of 2.5 billion pixels": (png(50_000, 50_000, 8, 0, b""), "DecompressionBombError"),
    "PGM of 100 million pixels": (b"P5 10000 10000 255\n", TOO_MANY),
    "TIFF of 100 million pixels": (tiff(RAMP, t256=10_000, t257=10_000), TOO_MANY),
    "BMP of 100 million pixels": (bmp_of(10_000, 10_000), TOO_MANY),
    "JPEG of 100 million pixels": (jpeg_of(10_000, 10_000), TOO_MANY),
    "WebP of 100 million pixels": (webp_of(10_000, 10_000), TOO_MANY),
    "WebP of 268 million pixels": (webp_of(16_383, 16_383), "cannot be decoded"),
    "PNG with 64 MB of text": (png(4, 1, 8, 0, b"\0" * 5, BOMB), "cannot be decoded"),
    "PNG whose header's CRC is wrong": (png(4, 1, 8, 0, b"\0" * 5).replace(chunk(b"IHDR", b"")[8:], b"")[:29] + b"abcd" + png(4, 1, 8, 0, b"\0" * 5)[33:], "cannot be decoded"),
    "PNG of an unknown filter": (png(4, 1, 8, 0, b"\x09" + b"\0" * 4), "cannot be decoded"),
    "BMP of an unknown compression": (of_pillow(RGB, "BMP").replace(struct.pack("<HI", 24, 0), struct.pack("<HI", 24, 99)), "cannot be decoded"),
    **{f"{kind}, cut at {cut:.0%}": (content[: int(cut * len(content))], "cannot be decoded")
       for kind, content in ((k, of_pillow(RGB, k)) for k in FORMATS) for cut in (0.02, 0.3, 0.7)},
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_of_these_formats_is_refused_by_name(name):
    content, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as refused:
        decoded(content)
    assert " at 0x" not in str(refused.value)
    assert str(refused.value).startswith("cannot be decoded (")


@pytest.mark.parametrize(
    "error", [RuntimeError, struct.error, MemoryError, zlib.error, OverflowError, KeyError, SystemError]
)
def test_whatever_a_decoder_throws_is_one_error(error, monkeypatch):
    def broken(*_, **__):
        raise error("of <_io.BytesIO object at 0x7f3a5c0d1e90>")

    monkeypatch.setattr(Image, "open", broken)
    with pytest.raises(ValueError, match=rf"cannot be decoded \({error.__name__}: .*of the file"):
        decoded(b"")


@pytest.mark.parametrize(
    ("kind", "applied"), [("JPEG", False), ("PNG", False), ("WEBP", False), ("TIFF", True)]
)
def test_orientation_is_told_and_that_of_a_tiff_followed(kind, applied):
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"lossless": True} if kind == "WEBP" else {}
    upright, _ = with_orientation(of_pillow(RGB, kind, **options))
    found, asks = with_orientation(of_pillow(RGB, kind, exif=exif, **options))
    assert asks is not applied
    # By a quarter clockwise.
    torch.testing.assert_close(found, upright.rot90(-1, (1, 2)) if applied else upright)
    exif[0x0112] = 1
    assert with_orientation(of_pillow(RGB, kind, exif=exif, **options))[1] is False


@pytest.mark.parametrize(("w", "h"), [(20_000, 1), (1, 20_000), (3_000, 2)])
def test_a_picture_too_long_for_its_width_is_refused_before_it_is_resized(w, h):
    image = decoded(png(w, h, 8, 0, b"".join(b"\0" + b"\1" * w for _ in range(h))))
    with pytest.raises(ValueError, match=f"found {w} x {h} pixels, .*dataset.resize"):
        fitted(image, 224, 224)
    assert fitted(image[:, :50, :50], 32, 32).shape == (3, 32, 32)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """With some bytes flipped, cut out or put in."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 8)):
        at = int(rng.integers(len(changed)))
        # Headers are short, and most of what can be said wrongly is said there.
        at = at if rng.random() < 0.5 else at % 64
        match rng.integers(4):
            case 0:
                changed[at : at + 1] = bytes([int(rng.integers(256))])
            case 1:
                del changed[at : at + int(rng.integers(1, 32))]
            case 2:
                changed[at:at] = rng.bytes(int(rng.integers(1, 32)))
            case 3 if rng.random() < 0.2:
                del changed[at:]
        if not changed:
            break
    return bytes(changed)


SEEDS = [
    *[of_pillow(RGB, kind) for kind in FORMATS],
    *[RIGHT[name][0] for name in ("16-bit grey PNG", "16-bit grey TIFF", "palette PNG", "CMYK JPEG, no ink", "RGBA TIFF",
                                  "TIFF, tiff_lzw", "animated WebP", "10-bit PGM", "plain PPM", "1-bit BMP")],
    of_pillow(RGB, "JPEG", progressive=True), of_pillow(RGB, "TIFF", compression="jpeg"),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("count", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_a_damaged_picture_is_a_picture_or_the_one_error(count):
    rng = np.random.default_rng(17)
    whole = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(count):
        signal.alarm(60)
        content = mutated(SEEDS[i % len(SEEDS)], rng)
        try:
            found = decoded(content)
        except ValueError as error:
            said = str(error)
        else:
            said = ""
            assert (found.dtype, found.ndim, found.shape[0]) == (torch.uint8, 3, 3)
            assert 0 < found[0].numel() <= PIXELS
            whole += 1
        assert not said or (said.startswith("cannot be decoded (") and " at 0x" not in said)
    assert 0 < whole < count
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20


# Folders ------------------------------------------------------------------------------------------------------------


def save(path: Path, *colour: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), colour or (1, 2, 3)).save(path, "PNG")


@pytest.fixture
def tree(tmp_path) -> Path:
    """Reference and test of two classes, each picture of another colour."""
    for p, part in enumerate(("reference", "test")):
        for c, name in enumerate(("cat", "dog")):
            for i in range(4):
                save(tmp_path / part / name / f"{i}.png", 100 * p, 100 * c, i)
    return tmp_path


def section(tree: Path, **changes) -> dict:
    given = {
        "run": "x",
        "dataset": {"name": "image_folder", "reference": str(tree / "reference"), "test": str(tree / "test"), "crop": 8, "shards": 1},
        "classifier": {"model": "small_resnet", "weights": "train"},
        "attacks": [{"name": "a", "method": "noise", "eps": 8}],
        "detectors": [{"name": "d", "method": "energy"}],
        "protocols": ["known"],
        "folds": {"count": 2},
    }  # fmt: skip
    return given | {"dataset": given["dataset"] | changes}


def begin(tree: Path, **changes) -> dict:
    """What the workflow does before any job: the configuration, and what its files hold."""
    whole = config.load(section(tree, **changes))
    return manifest.contents(whole, tree / "results/x/contents.json", again=True, say=print)


def test_files_that_are_in_two_classes_of_the_reference_are_told(tree):
    shutil.copy(tree / "reference/cat/0.png", tree / "reference/dog/copy.png")
    (line,) = begin(tree)["copied"]
    assert line == "dataset.reference: 1 files are in two classes: dog/copy.png = one of cat"


def test_a_class_that_is_another_one_again_is_an_error(tree):
    (tree / "reference/lynx").symlink_to(tree / "reference/cat")
    with pytest.raises(ConfigError, match="1 classes have the same files as another: lynx = cat; remove"):
        begin(tree)


def test_empty_test_images_are_told_as_such_and_not_as_copies(tree):
    for i in range(4):
        (tree / f"test/dog/{i}.png").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"dataset.test: 4 files are empty: dog/0.png, dog/1.png, .*; replace or"
    ):
        begin(tree)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    # The name of a socket is at most some 100 characters.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(here)


IRREGULAR = {
    "pipe": (pipe, "found a pipe"),
    "socket": (bound, "found a socket"),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), "found a device"),
    "link to a pipe": (lambda path: (pipe(path.parent / ".pipe"), path.symlink_to(path.parent / ".pipe")), "found a pipe"),
    "link that leads nowhere": (lambda path: path.symlink_to("nowhere"), "found a link that leads nowhere"),
    "link to itself": (lambda path: path.symlink_to(path.name), "found a link that leads nowhere"),
}  # fmt: skip


@pytest.mark.parametrize("part", ["reference", "test"])
@pytest.mark.parametrize("kind", IRREGULAR)
def test_what_is_no_regular_file_is_refused_by_name_before_any_job(tree, kind, part):
    make, message = IRREGULAR[kind]
    make(tree / part / "dog" / "x.jpg")
    with pytest.raises(ValueError, match=rf"dog/x\.jpg: {message}.*; remove"):
        begin(tree)


@pytest.mark.parametrize("kind", IRREGULAR)
def test_a_file_that_has_become_something_else_is_no_image_to_a_job(tree, kind):
    path = tree / "reference/dog/1.png"
    path.unlink()
    make, message = IRREGULAR[kind]
    dataset = asked.folder(reference=str(tree / "reference"), crop=8)
    (tree / "reference/dog/1.png").write_bytes(b"")
    listed = dataset.reference_images()
    path.unlink()
    make(path)
    skipped: list[str] = []
    list(images.batches(listed, 3, 0, "reference", skipped=skipped))
    assert len(skipped) == 1
    assert message in skipped[0]


def test_a_huge_file_is_not_read(tree):
    with (tree / "test/dog/0.png").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(ValueError, match=r"dog/0\.png: found 1,099,511,627,776 bytes, allowed: at most"):
        list(
            images.batches(
                asked.folder(
                    reference=str(tree / "reference"), test=str(tree / "test"), crop=8
                ).test_images(),
                3,
                0,
                "t",
            )
        )


def test_a_list_that_is_a_pipe_is_refused(tree):
    os.mkfifo(tree / "list.csv")
    with pytest.raises(ConfigError, match=r"list\.csv: found a pipe, expected a regular file"):
        begin(tree, name="nips2017", labels=str(tree / "list.csv"))


@pytest.mark.parametrize(
    "hidden", [".ipynb_checkpoints/0-checkpoint.png", "deep/.git/0.png", ".DS_Store.png", "._0.png"]
)
def test_hidden_files_and_folders_are_skipped_inside_classes(tree, hidden):
    before = sorted(folders.images(tree / "test/dog"))
    save(tree / "test/dog" / hidden)
    assert sorted(folders.images(tree / "test/dog")) == before


@pytest.mark.parametrize(
    "name", ["$RECYCLE.BIN", "System Volume Information", "lost+found", "__MACOSX", "@eaDir", "#recycle"]
)
def test_folders_of_systems_and_shares_are_no_classes_and_have_no_images(tree, name):
    """One before the classes would move all labels by one."""
    before = begin(tree)
    for part in ("reference", "test"):
        save(tree / part / name / "0.png", 9, 9, 9)
        save(tree / part / "dog" / name / "0.png/SYNOPHOTO_THUMB_M.jpg", 8, 8, 8)
        save(tree / part / "dog" / "~$a.png", 7, 7, 7)
    assert folders.classes(tree / "reference") == ["cat", "dog"]
    assert begin(tree) == before


@pytest.mark.parametrize("target", [".", "..", "../..", "deep"])
def test_a_link_to_a_folder_that_it_is_in_is_refused(tree, target):
    deep = tree / "test/dog/deep"
    deep.mkdir()
    (deep / "back").symlink_to(Path("..", target) if target != "deep" else deep)
    with pytest.raises(ValueError, match="found a link to a folder that it is in"):
        begin(tree)


@pytest.mark.parametrize("part", ["reference", "test"])
@pytest.mark.parametrize("target", ["nowhere", "ant"])
def test_a_link_among_the_classes_that_leads_nowhere_is_refused(tree, part, target):
    (tree / part / "ant").symlink_to(target)
    with pytest.raises(ConfigError, match=rf"dataset\.{part}: .*ant: found a link that leads nowhere"):
        begin(tree)


def test_a_link_to_another_folder_is_followed(tree):
    elsewhere = tree / "elsewhere"
    save(elsewhere / "a.png", 7, 7, 7)
    (tree / "test/dog/linked").symlink_to(elsewhere)
    assert "linked/a.png" in list(folders.images(tree / "test/dog"))
    begin(tree)


def test_a_folder_named_like_an_image_is_a_folder(tree):
    save(tree / "test/dog/album.png/a.png", 7, 7, 7)
    assert "album.png/a.png" in list(folders.images(tree / "test/dog"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tree):
    (tree / "test/dog").chmod(0)
    try:
        with pytest.raises(ConfigError, match=r"dataset\.test: cannot read '.*dog' \(Permission denied\)"):
            begin(tree)
    finally:
        (tree / "test/dog").chmod(0o700)


# Names that are no UTF-8, of several lines, of another script, of a page's and a shell's own characters.
NAMES = [
    os.fsdecode(b"caf\xe9.png"),
    "two\nlines.png",
    "tab\t.png",
    "\u732b.png",
    "<b>&amp;.png",
    "'\"$(x).png",
    "\u2028.png",
    "a: b.png",
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_whatever_a_file_is_called_it_is_stored_and_left_out_by_a_name_that_can_be_written(
    tree, name, made, resnet
):
    save(tree / "test/dog" / name, 9, 9, 9)
    (tree / "reference/cat" / name).write_bytes(b"no image")
    assert begin(tree) == begin(tree)
    dataset = asked.folder(reference=str(tree / "reference"), test=str(tree / "test"), crop=32)
    images.collect(dataset, tree / "o.zarr.zip", seed=0, workers=0, made=made)
    written = next(n for n in store.read(tree / "o.zarr.zip").attrs["names"] if n == f"dog/{shown(name)}")
    assert written.encode().decode().isprintable()
    activations.extract_reference(
        resnet, dataset, tree / "r.zarr.zip", number=0, count=1, layers=["layer4.1"], batch_size=4, device="cpu", workers=0, made=made
    )  # fmt: skip
    (problem,) = store.read(tree / "r.zarr.zip").attrs["skipped"]
    assert shown(name) in problem
    (tree / "page.html").write_text(problem, encoding="utf-8")


@pytest.mark.parametrize("name", [os.fsdecode(b"caf\xe9"), "two\nlines", "\u732b"], ids=ascii)
def test_whatever_a_class_is_called_it_can_be_said(tree, name, made):
    for part in ("reference", "test"):
        (tree / part / "dog").rename(tree / part / name)
    begin(tree)
    dataset = asked.folder(reference=str(tree / "reference"), test=str(tree / "test"), crop=8)
    images.collect(dataset, tree / "o.zarr.zip", seed=0, workers=0, made=made)
    assert store.read(tree / "o.zarr.zip").attrs["classes"] == [shown(n) for n in sorted(["cat", name])]
    (tree / "reference" / name).rename(tree / "reference" / "other")
    with pytest.raises(ConfigError) as refused:
        begin(tree)
    str(refused.value).encode()
    assert len(str(refused.value).splitlines()) == 2


def test_equal_runs_name_what_is_left_out_equally(tree, made, resnet):
    (tree / "reference/dog/0.png").write_bytes(b"no image")
    dataset = asked.folder(reference=str(tree / "reference"), crop=32)
    for run in "ab":
        activations.extract_reference(
            resnet, dataset, tree / f"{run}.zarr.zip", number=0, count=1, layers=["layer4.1"], batch_size=4, device="cpu", workers=0, made=made
        )  # fmt: skip
    assert store.digest(tree / "a.zarr.zip") == store.digest(tree / "b.zarr.zip")


def test_a_class_of_which_nothing_can_be_decoded_is_named(tree):
    for path in (tree / "reference/dog").iterdir():
        path.write_bytes(b"")
    whole = asked.folder(reference=str(tree / "reference"), crop=8).reference_images()
    with pytest.raises(
        ValueError,
        match=r"reference: in 1 classes, one of them that of dog/0\.png, found no image that can be decoded",
    ):
        list(images.batches(whole, 3, 0, "reference", skipped=[]))


def test_images_left_out_of_training_are_named_once(tree, caplog):
    broken = tree / "reference/dog/0.png"
    broken.write_bytes(broken.read_bytes()[:50])
    reference = asked.folder(reference=str(tree / "reference"), crop=32).reference_images()
    classifier = classifiers.Classifier(classifiers.untrained("small_resnet", 2, 0), [0.5] * 3, [0.5] * 3)
    classifiers.train(
        classifier, reference, Training(epochs=3, batch_size=4, lr=0.01), 0, torch.device("cpu")
    )
    assert caplog.text.count("left out 1 of 8 images that cannot be decoded") == 1
    assert "dog/0.png: cannot be decoded" in caplog.text
    for path in (tree / "reference").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="training images: found none that can be decoded"):
        classifiers.train(
            classifier, reference, Training(epochs=3, batch_size=4, lr=0.01), 0, torch.device("cpu")
        )


def test_a_classifier_is_trained_on_files(tree, made):
    """To its end, the statistics of batch norm included, with a file that cannot be decoded."""
    broken = tree / "reference/dog/0.png"
    broken.write_bytes(broken.read_bytes()[:50])
    classifiers.prepare(
        tree / "classifier.pt", model="small_resnet", weights="train", mean=[0.5] * 3, std=[0.5] * 3, classes=2,
        training=Training(epochs=2, batch_size=4, lr=0.01), dataset=asked.folder(reference=str(tree / "reference"), crop=32),
        made=made,
    )  # fmt: skip
    net = classifiers.load(tree / "classifier.pt", torch.device("cpu"))
    assert net(torch.rand(3, 3, 32, 32)).isfinite().all()


def test_orientation_is_counted_for_the_log_and_the_store(tree, made, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("RGB", (12, 10), (50, 60, i)).save(tree / f"test/dog/turned{i}.jpg", exif=exif)
    dataset = asked.folder(reference=str(tree / "reference"), test=str(tree / "test"), crop=8)
    images.collect(dataset, tree / "o.zarr.zip", seed=0, workers=2, made=made)
    assert store.read(tree / "o.zarr.zip").attrs["turned"] == ["dog/turned0.jpg", "dog/turned1.jpg"]
    assert caplog.text.count("2 images have an EXIF orientation, which is not followed") == 1


# What is remembered -------------------------------------------------------------------------------------------------

GARBAGE = [b"", b"{", b"[]", b"null", b"3", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"0.png": 3}', b'{"0.png": [1, 2, "x"]}',
           b'{"0.png": [[1, 2, 3, 4], 5]}', b'{"test": 3, "reference": "x"}', b'{"0.png": null}']  # fmt: skip


@pytest.mark.parametrize("garbage", GARBAGE, ids=lambda garbage: ascii(garbage[:30]))
def test_what_was_remembered_and_is_not_whole_is_made_anew(tree, garbage):
    expected = begin(tree)
    kept = [*(tree / "results/.manifests").iterdir(), tree / "results/x/contents.json"]
    assert len(kept) == 5
    for path in kept:
        path.write_bytes(garbage)
    whole = config.load(section(tree))
    for again in (False, True):
        found = manifest.contents(whole, tree / "results/x/contents.json", again=again, say=print)
        assert found == expected


def test_a_job_takes_what_the_workflow_found(tree):
    expected = begin(tree)
    save(tree / "test/dog/new.png", 5, 5, 5)
    whole = config.load(section(tree))
    assert manifest.contents(whole, tree / "results/x/contents.json", again=False, say=print) == expected
    assert begin(tree) != expected


# Copies -------------------------------------------------------------------------------------------------------------


def test_a_test_image_that_is_in_the_reference_is_an_error_that_names_the_pair(tree):
    (tree / "test/dog/9.png").write_bytes((tree / "reference/cat/2.png").read_bytes())
    with pytest.raises(
        ConfigError,
        match=r"dataset\.duplicates: .* 1 pairs: dog/9\.png = cat/2\.png; remove .*duplicates: allow",
    ):
        begin(tree)
    (note,) = begin(tree, duplicates="allow")["leaked"]
    assert "dog/9.png = cat/2.png" in note


def test_the_test_folder_as_reference_is_an_error_and_a_link_to_it_too(tree):
    with pytest.raises(ConfigError, match=r"dataset\.duplicates: .* 8 pairs"):
        begin(tree, reference=str(tree / "test"))
    (tree / "linked").symlink_to(tree / "test")
    with pytest.raises(ConfigError, match=r"dataset\.duplicates: .* 8 pairs"):
        begin(tree, reference=str(tree / "linked"))


def test_images_of_the_reference_that_are_not_drawn_are_no_leak(tree):
    taken = folders.taken(tree / "reference/cat", 1, 0)
    other = next(f"{i}.png" for i in range(4) if f"{i}.png" not in taken)
    (tree / "test/dog/9.png").write_bytes((tree / "reference/cat" / other).read_bytes())
    assert not begin(tree, per_class=1)["leaked"]


def test_listed_images_that_are_in_the_reference_are_an_error(tree):
    (tree / "images").mkdir()
    (tree / "images.csv").write_text(
        "ImageId,TrueLabel,TargetClass\n" + "".join(f"{i},{1 + i % 2},{2 - i % 2}\n" for i in range(8))
    )
    for i in range(8):
        save(tree / f"images/{i}.png", 3, 3, i)
    begin(tree, name="nips2017", test=str(tree / "images"))
    (tree / "images/5.png").write_bytes((tree / "reference/cat/2.png").read_bytes())
    with pytest.raises(ConfigError, match=r"1 pairs: 5\.png = cat/2\.png"):
        begin(tree, name="nips2017", test=str(tree / "images"))


def test_copies_among_test_images_are_told_and_too_many_are_an_error(tree):
    for i in range(4):
        (tree / f"test/dog/copy{i}.png").write_bytes((tree / f"test/dog/{i}.png").read_bytes())
    (note,) = begin(tree)["copied"]
    assert "4 images are copies of others" in note
    assert "dog/copy0.png = dog/0.png" in note
    (tree / "test/dog/3.png").unlink()
    (tree / "test/dog/copy3.png").unlink()
    with pytest.raises(
        ConfigError, match=r"folds\.count: found 2, .* of the class of dog/0\.png only 3 test images differ"
    ):
        begin(tree)


@pytest.mark.parametrize("stratify", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_copies_are_in_one_group_of_the_folds_and_shares_are_kept(stratify, seed):
    label = np.repeat(np.arange(5), 40)
    # Every image twice, and one five times.
    copy_of = np.arange(200) // 2 * 2
    copy_of[:5] = 0
    roles = folds.folds(label, 5, stratify=stratify, seed=seed, copy_of=copy_of)
    for of_one in (roles[copy_of == image] for image in np.unique(copy_of)):
        assert (of_one == of_one[0]).all()
    for role in ("validation", "test"):
        assert (roles == role).sum(1).max() <= 1
        assert np.abs((roles == role).sum(0) - 20).max() <= 4
        if stratify:
            for c in range(5):
                assert np.abs((roles[label == c] == role).sum(0) - 4).max() <= 3


def test_without_copies_the_folds_are_those_of_scikit_learn():
    from sklearn.model_selection import StratifiedKFold

    label = np.repeat(np.arange(5), 40)
    roles = folds.folds(label, 5, stratify=True, seed=3, copy_of=np.arange(200))
    expected = [test for _, test in StratifiedKFold(10, shuffle=True, random_state=3).split(label, label)]
    for group, members in enumerate(expected):
        np.testing.assert_array_equal(
            np.flatnonzero(roles[:, group // 2] == ("validation" if group % 2 else "test")), members
        )


def test_too_many_copies_for_the_folds_are_an_error():
    with pytest.raises(ValueError, match=r"folds\.count: found 2, which deals into 4 groups, .* 3 differ"):
        folds.folds(np.zeros(9, int), 2, stratify=True, seed=0, copy_of=np.arange(9) % 3)


def test_a_store_knows_which_images_have_the_same_pixels(tree, made, tmp_path, caplog):
    (tree / "test/dog/a.png").write_bytes((tree / "test/cat/1.png").read_bytes())
    Image.open(tree / "test/cat/1.png").save(tree / "test/dog/b.bmp")
    dataset = asked.folder(reference=str(tree / "reference"), test=str(tree / "test"), crop=8)
    images.collect(dataset, tmp_path / "o.zarr.zip", seed=0, workers=0, made=made)
    found = store.read(tmp_path / "o.zarr.zip")
    names = found.attrs["names"]
    at = {name: names.index(name) for name in names}
    first = at["cat/1.png"]
    expected = [first if name in ("dog/a.png", "dog/b.bmp") else i for name, i in at.items()]
    np.testing.assert_array_equal(found["copy_of"][:], expected)
    assert "2 images are copies of others" in caplog.text
    dealt = tmp_path / "folds.zarr.zip"
    folds.deal(tmp_path / "o.zarr.zip", dealt, count=2, stratify="class", seed=0, made=made)
    for k in range(2):
        for role in folds.ROLES:
            inside = {first, at["dog/a.png"], at["dog/b.bmp"]} & set(folds.sources(dealt, k, role))
            assert len(inside) in (0, 3)


# Draws --------------------------------------------------------------------------------------------------------------


def test_an_image_added_in_front_changes_no_other_s_draws(tree, made, tmp_path):
    """Its targets, drawn once or for an attack, and its noise."""
    network = tmp_path / "classifier.pt"
    classifiers.prepare(
        network,
        model="small_resnet",
        weights="untrained",
        mean=[0.5] * 3,
        std=[0.5] * 3,
        classes=3,
        made=made,
    )
    for part in ("reference", "test"):
        for i in range(20):
            save(tree / part / "eel" / f"{i}.png", len(part), 200, i)
    aimed = asked.attack("fgsm", "aimed", eps=8, target="random")

    def drawn(run: str) -> dict[str, tuple]:
        dataset = asked.folder(reference=str(tree / "reference"), test=str(tree / "test"), crop=32)
        original, noisy, aiming = (tmp_path / f"{name}-{run}.zarr.zip" for name in ("o", "noise", "aimed"))
        images.collect(dataset, original, seed=0, workers=0, made=made)
        for attack, out in ((asked.attack("noise", "noise", eps=8), noisy), (aimed, aiming)):
            attacks.perturb(
                network, original, out, attack=attack, seed=0, batch_size=8, device="cpu", made=made
            )
        columns = [
            store.read(original)["target"][:],
            store.read(aiming)["target"][:],
            [x.tobytes() for x in store.read(noisy)["images"][:]],
        ]
        return dict(zip(store.read(original).attrs["names"], zip(*columns, strict=True), strict=True))

    before = drawn("before")
    save(tree / "test/cat/!.png", 8, 8, 8)
    after = drawn("after")
    assert after.keys() - before.keys() == {"cat/!.png"}
    assert {name: after[name] for name in before} == before


def test_a_reference_image_added_changes_at_most_one_that_is_drawn(tree):
    before = set(folders.taken(tree / "reference/dog", 2, 0))
    for i in range(30):
        save(tree / f"reference/dog/!{i}.png")
        after = set(folders.taken(tree / "reference/dog", 2, 0))
        assert len(before - after) <= 1
        before = after


def test_digits_draw_by_their_number_however_many_there_are(made, tmp_path):
    found = []
    for n in (100, 137):
        images.collect(asked.digits(test=n, size=8), tmp_path / "o.zarr.zip", seed=0, workers=0, made=made)
        stored = store.read(tmp_path / "o.zarr.zip")
        found.append(dict(zip(stored.attrs["names"], stored["target"][:], strict=True)))
    assert {name: found[1][name] for name in found[0]} == found[0]


def test_keys_are_the_names_and_no_two_alike():
    names = [f"class{c}/{i}.png" for c in range(100) for i in range(100)]
    keys = {seeds.key(name) for name in names}
    assert len(keys) == len(names)
    assert all(0 <= key < 2**63 for key in keys)
    assert seeds.key("digit 7") == 4565294146456727561


# Lists --------------------------------------------------------------------------------------------------------------

HEAD = "ImageId,URL,TrueLabel,TargetClass"
ROWS = ["aa,u,1,2", "bb,u,2,1"]
GOOD = {
    "BOM": "\ufeff" + "\n".join([HEAD, *ROWS]),
    "CRLF": "\r\n".join([HEAD, *ROWS, ""]),
    "CR": "\r".join([HEAD, *ROWS]),
    "BOM and CRLF": "\ufeff" + "\r\n".join([HEAD, *ROWS]),
    "spaces": "\n".join(["ImageId , URL, TrueLabel ,TargetClass", " aa , u , 1 , 2", "bb,u, 2,1 "]),
    "semicolons": "\n".join([HEAD, *ROWS]).replace(",", ";"),
    "semicolons and BOM": "\ufeff" + "\n".join([HEAD, *ROWS]).replace(",", ";"),
    "tabs": "\n".join([HEAD, *ROWS]).replace(",", "\t"),
    "quotes": '"ImageId","URL","TrueLabel","TargetClass"\n"aa","u, v","1","2"\n"bb","u","2","1"',
    "empty lines": "\n".join([HEAD, "", *ROWS, "", ""]),
    "a last line of blanks": "\n".join([HEAD, *ROWS, "  \t "]),
    "blank lines before the head": "\n".join(["", "  ", HEAD, *ROWS]),
    "BOM and a blank line": "\ufeff\n" + "\n".join([HEAD, *ROWS]),
    "another order": "TargetClass,ImageId,TrueLabel\n2,aa,1\n1,bb,2",
    "lines in a value": f'{HEAD}\naa,"u\nv",1,2\nbb,u,2,1',
}
BAD = {
    "empty": ("", "found no column ImageId, TrueLabel, TargetClass in its first line, which has nothing"),
    "no head": ("aa,u,1,2\nbb,u,2,1", "found no column ImageId"),
    "a column twice": (f"{HEAD},TrueLabel\naa,u,1,2,1", "found column TrueLabel more than once"),
    "too many values": (f"{HEAD}\naa,u,v,1,2", "line 2: "),
    "too many numbers": (f"{HEAD}\naa,u,1,2,3", "found another number of values than the 4"),
    "too few values": ("ImageId,TrueLabel,TargetClass,URL\naa,1,2", "found another number of values than the 4"),
    "a fraction": (f"{HEAD}\naa,u,1.0,2", "expected whole numbers from 1"),
    "an underscore": (f"{HEAD}\naa,u,1_0,2", "expected whole numbers from 1"),
    "digits of another script": (f"{HEAD}\naa,u,\u0661,2", "expected whole numbers from 1"),
    "a sign": (f"{HEAD}\naa,u,+1,2", "expected whole numbers from 1"),
    "5,000 digits": (f"{HEAD}\naa,u,{'1' * 5000},2", "expected whole numbers from 1"),
    "NaN": (f"{HEAD}\naa,u,nan,2", "expected whole numbers from 1"),
    "a path": (f"{HEAD}\n../aa,u,1,2", "expected the name of a file in the folder"),
    "a zero byte": (f"{HEAD}\na\0a,u,1,2", "images"),
    "a quote that does not end": (f'{HEAD}\n"aa,u,1,2\nbb,u,2,1', "is no row of a CSV"),
    "names with their ending": (f"{HEAD}\naa.png,u,1,2\nbb.png,u,2,1", r"ImageId: found names that end in .png, .*remove it"),
    "a blank line before, and no number": (f"\n{HEAD}\naa,u,x,2", "line 3: "),
    "UTF-16": (None, "found no column ImageId"),
}  # fmt: skip


@pytest.fixture
def listing(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("aa", "bb"):
        save(tmp_path / "images" / f"{name}.png")

    def read(content: bytes):
        (tmp_path / "images.csv").write_bytes(content)
        return folders.nips2017(tmp_path / "images")

    return read


@pytest.mark.parametrize("name", GOOD)
def test_a_list_is_read_however_it_was_saved(listing, name):
    found, missing = listing(GOOD[name].encode())
    assert ([tuple(row) for row in found], missing) == ([("aa.png", 0, 1), ("bb.png", 1, 0)], [])


def test_other_columns_may_be_in_any_encoding(listing):
    assert len(listing((HEAD + "\naa,caf").encode() + b"\xe9,1,2\nbb,u,2,1")[0]) == 2


@pytest.mark.parametrize("name", BAD)
def test_a_list_that_cannot_be_read_is_refused_by_name(listing, name):
    content, message = BAD[name]
    with pytest.raises(ValueError, match=message) as refused:
        listing("\n".join([HEAD, *ROWS]).encode("utf-16") if content is None else content.encode())
    assert "images" in str(refused.value)


def test_hidden_files_beside_listed_images_are_skipped(listing, tmp_path):
    (tmp_path / "images/._aa.png").write_bytes(b"")
    assert len(listing("\n".join([HEAD, *ROWS]).encode())[0]) == 2


def test_a_manifest_names_what_it_cannot_read(tmp_path):
    os.mkfifo(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=r"x\.jpg: found a pipe"):
        Manifest(tmp_path / "kept", print).digest(tmp_path, ["x.jpg"])
