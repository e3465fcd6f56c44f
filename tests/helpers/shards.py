"""Made tar shards, as WebDataset has them."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def png(number: int, side: int = 12) -> bytes:
    """Returns an image, another one for each number."""
    pixels = np.random.default_rng(number).integers(0, 128, (side, side, 3)) + 100 * (number % 2)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, Any]) -> Path:
    """Writes a tar file; what isn't bytes is written as text, and mappings as JSON."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                archive.addfile(content)
                continue
            text = json.dumps(content) if isinstance(content, Mapping) else str(content)
            data = content if isinstance(content, bytes) else text.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_shards(folder: Path, sizes: tuple[int, ...] = (4, 3, 5), prefix: str = "photos") -> str:
    """Writes shards of labelled images with so many samples each; returns their name with braces."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for shard, size in enumerate(sizes):
        members: dict[str, Any] = {}
        for _ in range(size):
            members |= {f"{number:04}.png": png(number), f"{number:04}.cls": number % 2}
            number += 1
        write_tar(folder / f"{prefix}-{shard:03}.tar", members)
    return f"{folder}/{prefix}-{{000..{len(sizes) - 1:03}}}.tar"
