"""What a run reads from the store is always of its own weights, pixels and transform, and nothing else is computed."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import regraft
from regraft.data.images.samples import ArrayImages
from regraft.data.sources.base import Splits
from regraft.data.sources.digits import DigitsSource
from regraft.runs.folder import Run

OPTIONS = [
    *("trainer=cpu", "trainer.max_epochs=2", "trainer.enable_progress_bar=false", "logger=csv"),
    *("freezing=linear_probe", "optimizer.lr=0.01", "data.subset_seed=0", "callbacks.checkpoint=null"),
]
DIGITS = ["data=digits", "data.fraction=0.1", "data.test_fraction=0.1", "data.val_fraction=0.1", *OPTIONS]
PHOTOS = ["data=folder", "data.root=photos", "data.num_workers=0", *OPTIONS]
NUM_PHOTOS = 24


@pytest.fixture
def source(small_run, tmp_path) -> Path:
    """The tensors of a trained run, whose mean and std are given."""
    tensors, record = read(small_run.tensors)
    save_file(tensors, tmp_path / "source.safetensors", record)
    return tmp_path / "source.safetensors"


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118


def curve(run: Run) -> list[tuple[float, float]]:
    rows = run.logged_rows(before_step=10**9)
    return [(row[name], row["epoch"]) for row in rows for name in ("train/loss", "val/loss") if name in row]


def num_stored(*overrides: str) -> int:
    """Trains with the store, and returns how many images were computed."""
    num_computed: int = regraft.train([*overrides, "features.cache=on"]).results["features"]["num_computed"]
    return num_computed


def stored_as_fresh(*overrides: str) -> int:
    """Trains with the store and without it, requires the same of both, and returns how many images were computed."""
    stored, fresh = (regraft.train([*overrides, f"features.cache={cache}"]) for cache in ("on", "off"))
    assert len(curve(stored)) == len(curve(fresh)) == 4
    assert np.allclose(curve(stored), curve(fresh), rtol=0, atol=1e-4)
    assert stored.metrics["test/loss"] == pytest.approx(fresh.metrics["test/loss"], abs=1e-4)
    num_computed: int = stored.results["features"]["num_computed"]
    return num_computed


@pytest.fixture
def photos() -> Path:
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        Path("photos", name).mkdir(parents=True)
        for number in range(NUM_PHOTOS // 2):
            write(Path("photos", name, f"{number}.bmp"), generator.integers(0, 256, (20, 20, 3), dtype=np.uint8))
    return Path("photos")


def write(path: Path, pixels: Any) -> None:
    Image.fromarray(pixels).save(path)


def test_one_weight(source):
    options = [*DIGITS, "model=checkpoint", f"model.path={source}"]
    num_images = num_stored(*options)
    assert num_images > 400
    assert num_stored(*options, "seed=1") == 0
    tensors, record = read(source)
    name = next(name for name in tensors if name.startswith("backbone.") and tensors[name].dim() == 4)
    tensors[name].view(-1)[0] += 0.5
    save_file(tensors, source, record)
    assert stored_as_fresh(*options) == num_images


def test_one_statistic_of_a_batch_norm_in_a_weights_file(tmp_path):
    from regraft.models.backbones import cifar_resnet

    stages = cifar_resnet.build(depth=8, shortcut_padding="both", weights=None, image_size=16, num_channels=3).stages
    tensors = {f"{stage}.{name}": value for stage in stages for name, value in stages[stage].state_dict().items()}
    path = tmp_path / "weights.safetensors"
    save_file(tensors, path)
    options = [*DIGITS, "model=cifar_resnet", "model.depth=8", "model.image_size=16", f"model.weights={path}"]
    num_images = num_stored(*options)
    name = [name for name in tensors if name.endswith("running_mean")][-1]
    tensors[name][3] += 0.25
    save_file(tensors, path)
    assert stored_as_fresh(*options) == num_images


def change_digits(monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    """Has the digits' pixels and labels changed whenever they are read."""
    read_splits = DigitsSource.splits

    def changed(self: DigitsSource) -> Splits:
        splits = read_splits(self)
        assert isinstance(splits.train, ArrayImages)
        return Splits(splits.class_names, ArrayImages(*change(splits.train.pixels.clone(), splits.train.labels)))

    monkeypatch.setattr(DigitsSource, "splits", changed)


def with_another_pixel(pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    pixels[100, 0, 4, 4] ^= 255
    return pixels, labels


def test_one_pixel_and_other_labels_of_the_same_arrays(source, monkeypatch):
    options = [*DIGITS, "data.fraction=1.0", "model=checkpoint", f"model.path={source}"]
    num_stored(*options)
    with monkeypatch.context() as patch:
        change_digits(patch, lambda pixels, labels: (pixels, labels.roll(1)))
        assert stored_as_fresh(*options) == 0
    change_digits(monkeypatch, with_another_pixel)
    assert stored_as_fresh(*options) == 1


def test_one_pixel_where_mean_and_std_are_the_training_images_own(monkeypatch):
    options = [*DIGITS, "data.fraction=1.0", "model=cifar_resnet", "model.depth=8", "model.image_size=8"]
    num_images = num_stored(*options)
    change_digits(monkeypatch, with_another_pixel)
    assert stored_as_fresh(*options) == num_images


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(["model.image_size=20"], marks=pytest.mark.slow),
        pytest.param(["features.precision=exact"], marks=pytest.mark.slow),
        ["features.precision=bfloat16", "features.dtype=bfloat16"],
    ],
)
def test_another_transform_or_precision(change, source):
    options = [*DIGITS, "model=checkpoint", f"model.path={source}"]
    num_images = num_stored(*options)
    assert num_stored(*options, *change) == num_images
    assert stored_as_fresh(*options) == 0


@pytest.mark.slow
def test_views_are_known_by_all_that_they_are_drawn_from(source):
    def num_computed(*overrides: str) -> int:
        views = ["features.cache=on", "features.views=2", *overrides]
        run = regraft.train([*DIGITS, "model=checkpoint", f"model.path={source}", *views])
        found: int = run.results["features"]["num_computed"]
        return found

    first = num_computed("augment=basic")
    assert num_computed("augment=basic", "seed=5") == 0
    num_train = num_computed("augment=basic", "features.views=3")
    assert first > 2 * num_train > 0
    assert num_computed("augment=basic", "features.views_seed=1") == 2 * num_train
    assert num_computed("augment=basic", "augment.scale=[0.5,1.0]") == 2 * num_train
    assert num_computed("augment=crop_flip") == 2 * num_train
    # Evaluation's view is shared, and so is the one of the image as it is.
    assert num_computed("augment=none") == num_train
    assert num_computed("augment=flip") == num_train


def test_a_file_replaced_by_one_of_the_same_size_and_time(photos, source):
    options = [*PHOTOS, "model=checkpoint", f"model.path={source}"]
    assert num_stored(*options) == NUM_PHOTOS
    path = photos / "bee" / "3.bmp"
    before = path.stat()
    write(path, 255 - np.array(Image.open(path)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert stored_as_fresh(*options) == 1


def test_photos_that_come_and_go(photos, source):
    options = [*PHOTOS, "model=checkpoint", f"model.path={source}"]
    num_stored(*options)
    # Other photos are set aside, all others have other places.
    (photos / "ant" / "0.bmp").rename("gone.bmp")
    assert num_stored(*options) == 0
    write(photos / "ant" / "00.bmp", np.full((20, 20, 3), 77, dtype=np.uint8))
    assert stored_as_fresh(*options) == 1
    Path("gone.bmp").rename(photos / "bee" / "copy.bmp")
    (photos / "bee" / "same.bmp").write_bytes((photos / "bee" / "copy.bmp").read_bytes())
    assert stored_as_fresh(*options) == 0


@pytest.mark.slow
def test_classes_renamed_into_another_order_and_a_class_added(photos, source):
    options = [*PHOTOS, "model=checkpoint", f"model.path={source}"]
    num_stored(*options)
    (photos / "ant").rename(photos / "wasp")
    assert stored_as_fresh(*options) == 0
    (photos / "cat").mkdir()
    for number in range(12):
        write(photos / "cat" / f"{number}.bmp", np.full((20, 20, 3), 20 * number, dtype=np.uint8))
    assert stored_as_fresh(*options) == 12
