"""Tests of types of files by their first bytes."""

import io
import pickle
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError
from safetensors.torch import save

from regraft.data.images.file_reading.facts import facts_of
from regraft.data.images.file_reading.kinds import counted_kinds, is_image, kind_of
from regraft.data.images.file_reading.opening import open_bounded

TFRECORD = bytes.fromhex("0500000000000000 ea b2 04 3e 68656c6c6f")
"""The length 5 and its checksum, as TensorFlow writes them, before `hello`."""


def saved(write) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def zipped(name: str, content: str = "x") -> bytes:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def raw_photo(order: str, *more: int) -> bytes:
    """Returns a TIFF whose first image is a preview of 8 x 8 pixels, as NEF, ARW and DNG are."""
    preview = {254: 1, 256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 600, 277: 1, 278: 8, 279: 64, 330: 700}
    tags = preview | dict.fromkeys(more, 1)
    found = b"II*\0" if order == "<" else b"MM\0*"
    found += struct.pack(order + "IH", 8, len(tags))
    found += b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags.items())
    return found.ljust(600, b"\0") + bytes(range(64)) + bytes(100)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (TFRECORD, "TFRecord"),
        (save({"x": torch.zeros(2)}), "weights (safetensors)"),
        (saved(lambda file: torch.save({"x": torch.zeros(2)}, file)), "weights of PyTorch"),
        (
            saved(lambda file: torch.save({"x": torch.zeros(2)}, file, _use_new_zipfile_serialization=False)),
            "weights of PyTorch",
        ),
        (pickle.dumps([1]), "a pickle of Python"),
        (saved(lambda file: np.savez(file, x=np.zeros(2))), "NumPy arrays (NPZ)"),
        (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0", "a network (ONNX)"),
        (b"\x1c\0\0\0TFL3\x14\0\x20\0", "a network (TensorFlow Lite)"),
        (b"\x08\x04\x12\x60\x0a\x10\x0a\x05image", ""),  # CoreML
        (b"\x82\xa6params\x81\xa5layer", "MessagePack"),
        (b"\xde\0\x10\xa4name\xa1x\xc0\xc0", "MessagePack"),
        (b"G\x40\0\x10".ljust(188, b"\xff") * 3, "a video (MPEG-TS)"),
        ((b"\0\0\1\2G\x40\0\x10").ljust(192, b"\xff") * 3, "a video (MPEG-TS)"),
        (b"CWS\x0a\x10\x20\0\0x\x9c", "an animation of Flash (SWF)"),
        (b"FWS is a text\n", "text"),
        (b"\0\0\x08\x03\0\0\xea\x60\0\0\0\x1c", "many images in one file, as MNIST has them (IDX)"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08", "JPEG-LS"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "JPEG"),
        (b"AC1032\0\0", "a CAD drawing (DWG)"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\0" * 16 + b"\xde\xc0\xef\xbe", "an LMDB database"),
        (b"\0\0\0\x18ftypcrx ", "a raw photo (CR3)"),
        (b"\0\0\0\x18ftypqt  ", "a video (MP4 or MOV)"),
        (raw_photo("<"), "a raw photo (NEF, ARW or DNG)"),
        (raw_photo(">", 50706), "a raw photo (NEF, ARW or DNG)"),
        (zipped("[Content_Types].xml"), "a document of Office"),
        (zipped("cat.jpg"), "a zip archive"),
        (b"BMW, a make of cars\n", "text"),
        (saved(lambda file: Image.new("L", (9, 9)).save(file, "BMP")), "BMP"),
        (b"\x05" + bytes(30), ""),
        (bytes(range(200)), ""),
    ],
)
def test_kinds(content: bytes, kind: str) -> None:
    assert kind_of(content) == kind


def test_the_preview_of_a_raw_photo_is_not_used() -> None:
    photo = raw_photo(">")
    assert Image.open(io.BytesIO(photo)).size == (8, 8)
    with pytest.raises(UnidentifiedImageError):
        open_bounded(photo)
    row, detail = facts_of(photo)
    assert (row["problem"], detail) == (b"not_image", "looks like a raw photo (NEF, ARW or DNG)")


def test_a_damaged_image_of_a_known_kind_is_not_another_file() -> None:
    row, detail = facts_of(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30))
    assert (row["problem"], detail) == (b"undecodable", "JPEG 2000 that Pillow doesn't know")


def test_tiff_of_several_sizes_is_an_image() -> None:
    content = saved(lambda file: Image.new("L", (9, 9)).save(file, "TIFF", tiffinfo={254: 0}))
    assert is_image(content)
    assert open_bounded(content).size == (9, 9)


def test_kinds_are_counted() -> None:
    assert counted_kinds([b"%PDF", b"\x01", TFRECORD, b"%PDF"]) == "a PDF (2); of an unknown type; TFRecord"
