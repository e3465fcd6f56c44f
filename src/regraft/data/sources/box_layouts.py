"""Folders of data sets for object detection, which hold boxes and not a class of each image. No torch."""

from collections.abc import Iterable
from pathlib import Path

CUT_OUT = "Cut the boxes out into CLASS/*.jpg, or write a table with a class of each image: data=table data.path=TABLE"


def box_layout(root: Path, splits: Iterable[str]) -> str:
    """Returns the format in which a folder or one of its splits holds boxes, an empty text if none is recognised.

    Args:
        splits: their folders, relative to the root.
    """
    folders = dict.fromkeys([root, *(root / split for split in splits)])
    if any(_has(root, "JPEGImages", "Annotations/*.xml") for root in folders):
        return "Pascal VOC"
    if any(_has(root, ".", pattern) for root in folders for pattern in ("annotations/*.json", "*.coco.json")):
        return "COCO"
    if any(_has(root, "images", pattern) for root in folders for pattern in ("labels/*.txt", "labels/*/*.txt")):
        return "YOLO"
    return ""


def _has(root: Path, folder: str, pattern: str) -> bool:
    return (root / folder).is_dir() and next(root.glob(pattern), None) is not None
