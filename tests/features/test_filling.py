"""Filling the store in shares: what one pass stores, each row once, whoever is killed."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.processes import start
from regraft.core.console import image_progress_bar
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.data.images.deterministic_views import ImageView
from regraft.data.images.samples import ArrayImages
from regraft.data.splits import Part
from regraft.features import extract
from regraft.features.cache import FeatureCache
from regraft.features.filling import FillState, fill
from regraft.features.settings import FeatureSettings
from regraft.features.share import WHOLE, Share
from regraft.features.store import catalog, segments

NUM_IMAGES, NUM_COPIES = 300, 40
SPEC = ImageSpec(8, mean=(0.5,) * 3, std=(0.5,) * 3)


def view() -> ImageView:
    """Returns images of which the last ones are copies of the first."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 3, 8, 8), dtype=np.uint8)
    pixels = torch.from_numpy(np.concatenate([pixels, pixels[:NUM_COPIES]]))
    samples = ArrayImages(pixels, torch.zeros(len(pixels), dtype=torch.int64))
    return ImageView(Part(samples, torch.arange(len(pixels))), samples.content_hashes(), SPEC, None)


def cache(folder: Path, **settings: object) -> FeatureCache:
    torch.manual_seed(0)
    stages = {
        "conv": nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()),
        "pool": nn.Sequential(nn.AvgPool2d(6), nn.Flatten()),
    }
    options = {"cache": "on", "views": 0, "views_seed": 0, "dtype": "float32", "precision": "exact", "max_gb": 1.0}
    made = FeatureSettings(**options | {"dir": str(folder)} | settings)
    return FeatureCache(
        Backbone(stages, 4, SPEC), "small", made, ("exact",), torch.device("cpu"), image_progress_bar(is_shown=False)
    )


def filled(folder: Path, share: Share = WHOLE, **settings: object) -> FillState:
    return fill(cache(folder, **settings), [([view()], [1, 2])], share, lambda state: None)


def rows(folder: Path) -> dict[str, list[bytes]]:
    """Returns the hashes in the files of each entry."""
    return {
        entry.key: [
            bytes(each) for path in (folder / entry.key).glob("*.safetensors") for each in segments.hashes_in(path)
        ]
        for entry in catalog.entries(folder)
    }


def test_shares_together_are_what_one_pass_stores(tmp_path):
    states = [filled(tmp_path / "shares", Share(index, 3)) for index in range(3)]
    whole = filled(tmp_path / "whole")
    assert (whole.num_inputs, whole.num_computed, whole.num_stored_in_all) == (NUM_IMAGES,) * 3
    assert sum(state.num_computed for state in states) == NUM_IMAGES
    assert [state.num_stored_in_all for state in states] == list(np.cumsum([state.num_inputs for state in states]))
    for key, found in rows(tmp_path / "whole").items():
        assert len(found) == NUM_IMAGES
        assert sorted(found) == sorted(rows(tmp_path / "shares")[key])
    for depth in (1, 2):
        everything = torch.arange(NUM_IMAGES)
        one, other = (
            cache(tmp_path / name).stored(view(), depth).of_view(view())(everything) for name in ("whole", "shares")
        )
        assert torch.equal(one, other)


def test_what_is_stored_is_not_computed_again(tmp_path):
    first = filled(tmp_path, Share(0, 2))
    again = filled(tmp_path, Share(0, 2))
    assert (again.num_computed, again.num_present) == (0, first.num_computed)
    rest = filled(tmp_path)
    assert (rest.num_computed, rest.num_present) == (NUM_IMAGES - first.num_computed, first.num_computed)
    assert cache(tmp_path).num_missing([view()], [1, 2]) == 0


def test_a_full_store_beyond_its_limit_needs_no_room(tmp_path):
    filled(tmp_path)
    assert filled(tmp_path, max_gb=1e-9).num_present == NUM_IMAGES


def test_copies_in_other_splits_are_not_computed_again(tmp_path):
    made = view()
    part = Part(made.part.samples, torch.arange(NUM_IMAGES, NUM_IMAGES + NUM_COPIES))
    other = replace(made, part=part, content_hashes=made.content_hashes[NUM_IMAGES:])
    state = fill(cache(tmp_path), [([made], [2]), ([other], [2])], Share(1, 2), lambda state: None)
    assert sum(map(len, rows(tmp_path).values())) == Share(1, 2).has(made.content_hashes[:NUM_IMAGES]).sum()
    assert state.num_inputs == state.num_computed + Share(1, 2).has(other.content_hashes).sum()


def kill_after(num_flushes: int, folder: Path, share: Share) -> None:
    """Fills a share, and is killed in the middle of writing."""
    extract.BATCH_SIZE = 16
    append = extract.Writer.flush

    def flush(writer: extract.Writer) -> None:
        nonlocal num_flushes
        append(writer)
        num_flushes -= 1
        if num_flushes == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    extract.Writer.flush = flush
    extract._FLUSH_BYTES = 0
    extract.Writer.__init__.__defaults__ = (0, 0)
    filled(folder, share)


def test_a_killed_share_continues_beside_the_others(tmp_path):
    others = [start(filled, tmp_path, Share(index, 3)) for index in (0, 2)]
    killed = start(kill_after, 5, tmp_path, Share(1, 3))
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    num_stored = min(len(set(found)) for found in rows(tmp_path).values())
    assert num_stored > 0
    state = filled(tmp_path, Share(1, 3))
    for process in others:
        process.join()
        assert process.exitcode == 0
    assert 0 < state.num_present < state.num_inputs
    assert state.num_computed == state.num_inputs - state.num_present
    for found in rows(tmp_path).values():
        assert len(found) == len(set(found)) == NUM_IMAGES


def test_progress_is_that_of_the_share_and_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "BATCH_SIZE", 16)
    monkeypatch.setattr("regraft.features.filling._LOOK_SECONDS", 0)
    filled(tmp_path, Share(0, 2))
    seen: list[FillState] = []
    fill(cache(tmp_path), [([view()], [2, 1])], Share(1, 2), seen.append)
    assert [state.num_computed for state in seen] == sorted(state.num_computed for state in seen)
    assert len(seen) > 3
    assert all(NUM_IMAGES > state.num_stored_in_all > 100 for state in seen[:-1])
    assert seen[-1].num_stored_in_all == seen[-1].num_in_all == NUM_IMAGES


def test_a_store_that_cant_hold_all_shares_is_refused_at_once(tmp_path):
    with pytest.raises(OSError, match=r"are needed, but features.max_gb=1e-06 leaves"):
        filled(tmp_path, Share(0, 100), max_gb=1e-6)
    Path("file").touch()
    with pytest.raises(ValueError, match=r"features.dir: .*can't be used as a store of features"):
        filled(Path("file"), Share(0, 100))


def test_a_training_may_use_memory_after_filling(tmp_path):
    Path("file").touch()
    made = cache(Path("file"))
    with pytest.raises(ValueError, match=r"features.dir"):
        fill(made, [([view()], [2])], WHOLE, lambda state: None)
    made.make_room([([view()], [2])])
    assert made.store.location == "memory"
