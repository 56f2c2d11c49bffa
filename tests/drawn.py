"""Pictures and damaged files, drawn from a seed: what tests read instead of stored files."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image


def drawn(seed: int = 0, width: int = 96, height: int = 64) -> Image.Image:
    """A smooth picture with structure; different for every seed."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    waves = random.random((3, 3))
    channels = [(a * x + b * y + 0.3 * np.sin(9 * c * x * y)) % 1 for a, b, c in waves]
    return Image.fromarray((np.stack(channels, axis=-1) * 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def write_pictures(root: Path, number: int, classes: int = 2, width=40, height=32) -> Path:
    for index in range(number):
        name = root / f"class{index % classes}" / f"{index:03d}.png"
        put(name, encoded(drawn(index, width, height), "PNG"))
    return root


def write_messy_folder(root: Path) -> Path:
    """12 usable pictures, 4 broken ones, and what else lies in people's folders."""
    for index in range(10):
        put(root / f"sub{index % 3}/deep/ok{index}.jpg", encoded(drawn(index), "JPEG"))
    put(root / "UPPER.JPG", encoded(drawn(20), "JPEG"))
    put(root / "really_png.jpg", encoded(drawn(21), "PNG"))
    jpeg, png = encoded(drawn(30), "JPEG"), bytearray(encoded(drawn(31), "PNG"))
    png[len(png) // 2] ^= 0xFF
    put(root / "zero.jpg", b"")
    put(root / "html.jpg", b"<html>404</html>")
    put(root / "trunc.jpg", jpeg[: len(jpeg) * 6 // 10])
    put(root / "bitflip.png", bytes(png))
    put(root / "._ok0.jpg", b"\0\5\x16\7\0\2\0\0Mac OS X        " + b"\0" * 100)
    put(root / ".DS_Store", b"\0\0\0\1Bud1")
    put(root / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    put(root / "notes.txt", b"hi")
    put(root / "__MACOSX/sub0/._ok1.jpg", b"\0\5\x16\7")
    (root / "empty_class").mkdir()
    return root


def write_colour_modes(root: Path) -> Path:
    """One file for every way in which pixels are stored."""
    root.mkdir(parents=True)
    image = drawn(1)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(root / "exif6.jpg", exif=exif)
    image.convert("CMYK").save(root / "cmyk.jpg", quality=95)
    Image.merge("LA", (image.convert("L"), Image.new("L", image.size, 0))).save(root / "la.png")
    clear = image.convert("RGBA")
    clear.putalpha(0)
    clear.save(root / "clear.png")
    image.convert("1").save(root / "bit1.png")
    ramp = np.linspace(0, 65535, 96 * 64).reshape(64, 96).astype(np.uint16)
    Image.fromarray(ramp).save(root / "gray16.png")
    image.quantize(16).save(root / "pal_trns.png", transparency=bytes([0] * 8 + [255] * 8))
    image.convert("L").save(root / "grey.webp", lossless=True)
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "lime", "blue")]
    for name in ("anim.gif", "anim.webp", "anim.png", "multi.tif"):
        frames[0].save(root / name, save_all=True, append_images=frames[1:])
    frames[0].save(root / "two.mpo.jpg", format="MPO", save_all=True, append_images=frames[1:])
    return root


def bomb_png(width: int, height: int) -> bytes:
    """A PNG of a few kilobytes that unpacks to width × height pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def write_link_loops(root: Path) -> Path:
    """Two pictures, and links that lead to them again or nowhere."""
    put(root / "a/x.jpg", encoded(drawn(0), "JPEG"))
    put(root / "a/b/y.jpg", encoded(drawn(1), "JPEG"))
    (root / "a/b/up1").symlink_to("..")
    (root / "a/b/up2").symlink_to("../..")
    (root / "a/b/alias.jpg").symlink_to("../x.jpg")
    (root / "dangling.jpg").symlink_to("/no/such.jpg")
    return root
