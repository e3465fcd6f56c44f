import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.core.modalities import input_spec_of
from regraft.core.pixel_format import PixelFormat
from regraft.core.types import BatchKey
from regraft.data.datamodule import DataModule
from regraft.data.images.decoding import decode_image
from regraft.data.images.transforms.image import eval_view_of_file
from regraft.data.sources.class_mapping import InOrderOf
from regraft.data.sources.folder import FolderSource
from regraft.features.fingerprint import input_fields
from regraft.features.store.catalog import key_of

Make = Callable[..., DataModule]
WritePhotos = Callable[..., None]
STRONG = {"crop": "resized", "flip_probability": 0.5, "policy": "trivialaugment", "erasing_probability": 0.5}


def epoch_of(datamodule: DataModule, epoch: int) -> list[dict[str, Any]]:
    loader = datamodule.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
    return list(loader)


def assert_same(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert left["draw_seed"] == right["draw_seed"]
        for key in ("images", "targets", "indices"):
            assert torch.equal(left[key], right[key])


def test_properties(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((40, 20, 10), num_test=7))

    assert datamodule.num_classes == 3
    assert datamodule.class_names == ("class0", "class1", "class2")
    assert datamodule.class_counts.tolist() == [36, 18, 9]
    assert datamodule.class_counts.dtype == torch.int64
    assert datamodule.sizes == {"train": 63, "val": 7, "test": 7}
    assert datamodule.sizes["train"] == 63
    assert datamodule.has_val
    assert datamodule.has_test


def test_with_refit_nothing_is_held_out_for_validation(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((40, 20, 10), num_test=7), refit=True)
    assert datamodule.sizes == {"train": 70, "test": 7}
    assert not datamodule.has_val


def test_with_refit_an_official_validation_split_is_trained_on(
    tmp_path: Path, make_datamodule: Make, write_photos: WritePhotos
) -> None:
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for name in ("ant", "bee"):
            write_photos(tmp_path / split / name, count)
    held_out, refitted = (
        make_datamodule(FolderSource(root=str(tmp_path), on_error="raise", splits={}), refit=refit)
        for refit in (False, True)
    )
    assert refitted.sizes == {"train": 10, "test": 2}
    assert refitted.fingerprint == held_out.fingerprint
    part = refitted.part("train")
    names = [part.samples.path(index).relative_to(tmp_path) for index in part.indices.tolist()]
    assert [name.parts[0] for name in names] == ["train"] * 6 + ["val"] * 4
    assert [name.parts[1] for name in names] == [("ant", "bee")[label] for label in part.labels.tolist()]
    hashes = refitted._prepared.content_hashes(part)
    assert (
        hashes == np.concatenate([held_out._prepared.content_hashes(held_out.part(name)) for name in ("train", "val")])
    ).all()


def test_a_batch_goes_to_the_device_and_stays_as_it_is_on_the_cpu(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((20, 20)))
    batch = {"images": torch.zeros(2, 3), "draw_seed": 1}
    assert datamodule.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = datamodule.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert (moved["images"].device.type, moved["draw_seed"]) == ("meta", 1)


def test_set_up_once_for_any_stage(make_datamodule: Make, array_source: Any) -> None:
    source = array_source((20, 20))
    datamodule = make_datamodule(source)
    sizes = datamodule.sizes
    for stage in ("fit", "validate", "test", None):
        datamodule.prepare_data()
        datamodule.setup(stage)

    assert (source.num_prepared, source.num_read) == (1, 1)
    assert datamodule.sizes == sizes


def test_source_without_test_gets_one_that_the_run_seed_does_not_change(
    make_datamodule: Make, array_source: Any
) -> None:
    runs = [make_datamodule(array_source((50, 50)), seed=seed, subset_seed=seed) for seed in (0, 1)]
    other = make_datamodule(array_source((50, 50)), split_seed=1)
    first, second, third = (
        [index for batch in run.test_dataloader() for index in batch["indices"].tolist()] for run in (*runs, other)
    )

    assert first == second
    assert first != third
    assert runs[0].sizes == {"train": 72, "val": 8, "test": 20}


def test_each_sample_is_in_one_split_and_comes_once(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((50, 37)))
    loaders = (datamodule.train_dataloader(), datamodule.val_dataloader(), datamodule.test_dataloader())

    seen = Counter(index for loader in loaders for batch in loader for index in batch["indices"].tolist())

    assert seen == Counter(range(87))


def test_no_validation(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((20, 20)), val_fraction=0.0)

    assert not datamodule.has_val
    assert datamodule.val_dataloader() == []
    assert datamodule.sizes == {"train": 32, "test": 8}


def test_no_test_split_is_an_error_when_asked_for(make_datamodule: Make, array_source: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.test_fraction: got 0, and the data set has no test split"):
        make_datamodule(array_source((20, 20)), test_fraction=0.0).test_dataloader()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_size", 0),
        ("num_workers", -1),
        ("val_fraction", 1.0),
        ("val_fraction", -0.1),
        ("test_fraction", 1.0),
        ("fraction", 0.0),
        ("fraction", 1.2),
        ("shots", 0),
        ("sampler", "random"),
    ],
)
def test_out_of_range_names_the_key(make_datamodule: Make, array_source: Any, key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^data\.{key}: got .*; allowed: "):
        make_datamodule(array_source((20, 20)), **{key: value})


def test_a_single_class_is_an_error(make_datamodule: Make, tmp_path: Path, write_photos: WritePhotos) -> None:
    write_photos(tmp_path / "cats and dogs" / "cat", 3)
    with pytest.raises(ValueError, match=r"^data: found a single class, 'cats and dogs'; .* Add images .*data\.root"):
        make_datamodule(FolderSource(root=str(tmp_path), on_error="raise", splits={}))


def test_shots_and_fraction_exclude_each_other(make_datamodule: Make, array_source: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.shots: got 3 together with data\.fraction=0\.5"):
        make_datamodule(array_source((20, 20)), shots=3, fraction=0.5)


def test_shots_leave_validation_and_test_alone(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((50, 50)), shots=3)

    assert datamodule.sizes == {"train": 6, "val": 8, "test": 20}
    assert datamodule.class_counts.tolist() == [3, 3]


def test_statistics_are_those_of_the_training_samples(make_datamodule: Make, array_source: Any) -> None:
    source = array_source((30, 30))
    datamodule = make_datamodule(source, fraction=0.5)
    indices = torch.cat([batch["indices"] for batch in datamodule.train_dataloader()])
    pixels = source.splits().train.pixels[indices].double() / 255

    spec = datamodule.input_spec
    assert spec.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert spec.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-9)


def test_statistics_of_the_weights_are_kept(make_datamodule: Make, array_source: Any) -> None:
    spec = ImageSpec(12, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

    assert make_datamodule(array_source((20, 20)), spec).input_spec == replace(spec, eval_view="square")


def test_statistics_of_files_are_those_of_their_evaluation_views(make_datamodule: Make, photo_folder: Path) -> None:
    datamodule = make_datamodule(FolderSource(root=str(photo_folder), on_error="raise", splits={}), ImageSpec(16))
    pixels = torch.cat([batch["images"] for batch in datamodule.train_dataloader()]).double() / 255

    assert datamodule.input_spec.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert datamodule.input_spec.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-9)


@pytest.mark.parametrize(("stored", "wanted"), [(1, 3), (3, 1), (1, 1), (3, 3)])
@pytest.mark.parametrize("augment", [{}, STRONG, {"crop": "padded", "policy": "randaugment"}])
def test_channels_and_size_are_those_of_the_spec(
    make_datamodule: Make, array_source: Any, stored: int, wanted: int, augment: dict[str, Any]
) -> None:
    spec = ImageSpec(image_size=20, num_channels=wanted)
    datamodule = make_datamodule(array_source((20, 20), channels=stored), spec, augment, batch_size=8)

    for loader in (datamodule.train_dataloader(), datamodule.test_dataloader()):
        batch = next(iter(loader))
        assert batch["images"].shape == (8, wanted, 20, 20)
        assert batch["images"].dtype == torch.uint8
        assert datamodule.on_after_batch_transfer(batch, 0)["inputs"].shape == (8, wanted, 20, 20)


def test_evaluation_view_of_arrays_is_torchvisions_resize(make_datamodule: Make, array_source: Any) -> None:
    source = array_source((20, 20), num_test=6)
    datamodule = make_datamodule(source, ImageSpec(30, interpolation="bicubic", crop_fraction=0.8))
    test = source.splits().test

    expected = tv.resize(test.pixels, [30, 30], interpolation=v2.InterpolationMode.BICUBIC)
    assert torch.equal(next(iter(datamodule.test_dataloader()))["images"], expected)


def test_evaluation_view_of_files_is_resize_and_center_crop(photo_folder: Path) -> None:
    path = photo_folder / "train/cat/photo005.png"
    image = decode_image(path, PixelFormat(3))

    view = eval_view_of_file(image, ImageSpec(16, crop_fraction=0.8))

    assert torch.equal(view, v2.Compose([v2.Resize(20), v2.CenterCrop(16)])(image))


@pytest.mark.parametrize("kind", ["arrays", "files"])
def test_batches_do_not_depend_on_workers_or_on_earlier_epochs(
    make_datamodule: Make, array_source: Any, photo_folder: Path, kind: str
) -> None:
    source = (
        array_source((20, 19))
        if kind == "arrays"
        else FolderSource(root=str(photo_folder), on_error="raise", splits={})
    )
    straight, workers = (
        make_datamodule(source, ImageSpec(16), STRONG, num_workers=num_workers, batch_size=6, val_fraction=0.0)
        for num_workers in (0, 2)
    )
    walking = workers.train_dataloader()
    for epoch in range(4):
        walking.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
        last = list(walking)

    torch.manual_seed(123)
    assert_same(epoch_of(straight, 3), last)
    assert not torch.equal(epoch_of(straight, 2)[0]["images"], last[0]["images"])


def test_draws_of_a_sample_do_not_depend_on_its_batch(make_datamodule: Make, array_source: Any) -> None:
    small, large = (make_datamodule(array_source((30, 30)), None, STRONG, batch_size=size) for size in (4, 48))
    by_index = [
        {
            int(i): image
            for batch in epoch_of(run, 1)
            for i, image in zip(batch["indices"], batch["images"], strict=True)
        }
        for run in (small, large)
    ]

    assert by_index[0].keys() == by_index[1].keys()
    assert all(torch.equal(by_index[0][index], by_index[1][index]) for index in by_index[0])


def test_samples_of_a_batch_are_augmented_differently(make_datamodule: Make, array_source: Any) -> None:
    source = array_source((32, 32), size=24)
    datamodule = make_datamodule(source, ImageSpec(24), {"crop": "padded"}, val_fraction=0.0, batch_size=51)
    pixels = source.splits().train.pixels
    pixels[:] = pixels[0]
    datamodule._prepared.parts["train"].samples.pixels[:] = pixels

    assert len(epoch_of(datamodule, 0)[0]["images"].flatten(1).unique(dim=0)) > 25


@pytest.mark.parametrize("kind", ["arrays", "files"])
@pytest.mark.parametrize("augment", [{"crop": "resized"}, {"crop": "padded"}, {"policy": "trivialaugment"}])
def test_copies_of_an_image_in_one_epoch_are_augmented_differently(
    make_datamodule: Make, array_source: Any, tmp_path: Path, write_photos: WritePhotos, kind: str, augment: Any
) -> None:
    if kind == "arrays":
        source = array_source((40, 2), size=16)
    else:
        for name, count in (("cat", 40), ("dog", 2)):
            write_photos(tmp_path / name, count)
        source = FolderSource(root=str(tmp_path), on_error="raise", splits={})
    options = {"sampler": "balanced", "val_fraction": 0.0, "test_fraction": 0.0, "batch_size": 42}
    batch = epoch_of(make_datamodule(source, ImageSpec(16), augment, **options), 0)[0]
    copies = batch["images"][batch["indices"] == 41].flatten(1)

    assert len(copies) >= 8
    # TrivialAugment leaves some as they are, or darkens or turns them alike.
    assert len(copies.unique(dim=0)) > len(copies) / 2


def test_loading_leaves_the_global_generator_alone(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((20, 20)), None, {**STRONG, "mixup_alpha": 1.0})
    before = torch.get_rng_state()
    for batch in datamodule.train_dataloader():
        datamodule.on_after_batch_transfer(batch, 0)

    assert torch.equal(torch.get_rng_state(), before)


def test_only_training_batches_are_mixed(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((40, 40)), None, {"mixup_alpha": 1.0, "cutmix_alpha": 1.0})
    train = datamodule.on_after_batch_transfer(next(iter(datamodule.train_dataloader())), 0)
    test = datamodule.on_after_batch_transfer(next(iter(datamodule.test_dataloader())), 0)

    assert train["targets"].shape == (16, 2)
    torch.testing.assert_close(train["targets"].sum(1), torch.ones(16))
    assert test["targets"].dtype == torch.int64
    assert "draw_seed" not in test


def test_balanced_sampler_is_used(make_datamodule: Make, array_source: Any) -> None:
    datamodule = make_datamodule(array_source((900, 100)), sampler="balanced", val_fraction=0.0)
    targets = torch.cat([batch["targets"] for batch in datamodule.train_dataloader()])

    assert 0.4 < targets.double().mean() < 0.6


def test_broken_photo_is_named_from_a_worker(make_datamodule: Make, photo_folder: Path) -> None:
    source = FolderSource(root=str(photo_folder), on_error="raise", splits={})
    spec = ImageSpec(16, mean=(0.5,) * 3, std=(0.2,) * 3)
    datamodule = make_datamodule(source, spec, num_workers=1)
    (photo_folder / "val/dog/photo001.png").write_bytes(b"no picture")

    with pytest.raises(ValueError, match=r"data\.root: can't decode .*photo001\.png.*Remove"):
        list(datamodule.test_dataloader())


def test_truncated_jpg_is_named_in_one_sentence_from_a_worker(
    make_datamodule: Make, tmp_path: Path, write_photos: WritePhotos
) -> None:
    for name in ("cat", "dog"):
        write_photos(tmp_path / name, 12, "jpg")
    spec = ImageSpec(16, mean=(0.5,) * 3, std=(0.2,) * 3)
    datamodule = make_datamodule(
        FolderSource(root=str(tmp_path), on_error="raise", splits={}), spec, num_workers=2, val_fraction=0.0
    )
    for photo in tmp_path.rglob("*.jpg"):
        photo.write_bytes(photo.read_bytes()[:-200])

    with pytest.raises(ConfigError) as caught:
        list(datamodule.train_dataloader())
    assert re.fullmatch(r"data\.root: can't decode .*photo0..\.jpg \(.*truncated.*\)\. Remove .*", str(caught.value))


def test_fingerprint_is_of_the_content(make_datamodule: Make, photo_folder: Path, tmp_path: Path) -> None:
    def fingerprint(root: Path, **changes: Any) -> str:
        return make_datamodule(FolderSource(root=str(root), on_error="raise", splits={}), **changes).fingerprint

    original = fingerprint(photo_folder)
    moved = photo_folder.rename(tmp_path / "moved")
    (moved / "train/cat/photo000.png").touch()
    assert fingerprint(moved) == original
    assert fingerprint(moved, seed=5, split_seed=4, shots=2) == original

    (moved / "train/cat/photo000.png").replace(moved / "train/dog/photo999.png")
    relabelled = fingerprint(moved)
    assert relabelled != original
    for split in ("train", "val"):
        (moved / split / "dog").rename(moved / split / "wolf")
    renamed = fingerprint(moved)
    assert renamed not in (original, relabelled)


def test_fingerprint_of_arrays_sees_one_pixel_and_one_label(make_datamodule: Make, array_source: Any) -> None:
    def fingerprint(change: Callable[[Any], None]) -> str:
        datamodule = make_datamodule(array_source((20, 20)))
        change(datamodule._prepared.parts["train"].samples)
        return datamodule.fingerprint

    def change_pixel(images: Any) -> None:
        images.pixels[7, 1, 3, 3] += 1

    def swap_labels(images: Any) -> None:
        images.labels[19:21] = images.labels[19:21].flip(0)

    results = [fingerprint(change) for change in (lambda _: None, lambda _: None, change_pixel, swap_labels)]
    assert results[0] == results[1]
    assert len(set(results)) == 3


class TinyModule(pl.LightningModule):
    """Notes which samples each stage saw."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 12 * 12, 2)
        self.seen: dict[str, list[list[int]]] = {"train": [], "val": [], "test": []}

    def training_step(self, batch: Any) -> torch.Tensor:
        assert batch["inputs"].dtype == torch.float32
        self.seen["train"].append(batch["indices"].tolist())
        return nn.functional.cross_entropy(self.layer(batch["inputs"].flatten(1)), batch["targets"])

    def validation_step(self, batch: Any) -> None:
        self.seen["val"].append(batch["indices"].tolist())

    def test_step(self, batch: Any) -> None:
        self.seen["test"].append(batch["indices"].tolist())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


# Lightning 2.6 asks torch for what newer versions call deprecated.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
@pytest.mark.parametrize("val_fraction", [0.0, 0.1])
def test_in_a_trainer(make_datamodule: Make, array_source: Any, tmp_path: Path, val_fraction: float) -> None:
    datamodule = make_datamodule(array_source((30, 30)), None, STRONG, val_fraction=val_fraction)
    module = TinyModule()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=1.0 if datamodule.has_val else 0,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=datamodule)
    trainer.test(module, datamodule=datamodule, verbose=False)

    alone = make_datamodule(array_source((30, 30)), None, STRONG, val_fraction=val_fraction)
    expected = [batch["indices"].tolist() for epoch in range(2) for batch in epoch_of(alone, epoch)]
    assert module.seen["train"] == expected
    assert sum(map(len, module.seen["val"])) == 2 * datamodule.sizes.get("val", 0)
    assert sum(map(len, module.seen["test"])) == 12


def test_processes_deal_the_batches_among_themselves(make_datamodule: Make, array_source: Any) -> None:
    def batches(rank: int, num_replicas: int, batch_size: int) -> tuple[list[Any], list[Any]]:
        datamodule = make_datamodule(array_source((31, 30)), None, STRONG, batch_size=batch_size)
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        datamodule.trainer = SimpleNamespace(
            global_rank=rank, world_size=num_replicas, strategy=strategy, state=SimpleNamespace(fn=None)
        )
        return list(datamodule.train_dataloader()), list(datamodule.test_dataloader())

    (train0, test0), (train1, test1), (alone, _) = batches(0, 2, 4), batches(1, 2, 4), batches(0, 1, 8)

    for shares, whole in zip(zip(train0, train1, strict=True), alone, strict=True):
        images = {int(i): image for share in shares for i, image in zip(share["indices"], share["images"], strict=True)}
        assert images.keys() == set(whole["indices"].tolist())
        assert all(torch.equal(images[int(i)], row) for i, row in zip(whole["indices"], whole["images"], strict=True))
    tested = [index for batch in test0 + test1 for index in batch["indices"].tolist()]
    assert len(tested) == len(set(tested)) == 12


def test_flips_are_half_of_the_draws(make_datamodule: Make, array_source: Any) -> None:
    source = array_source((100, 100))
    datamodule = make_datamodule(source, None, {"flip_probability": 0.5}, val_fraction=0.0, batch_size=160)
    batch = epoch_of(datamodule, 0)[0]
    pixels = source.splits().train.pixels[batch["indices"]]

    is_same = (batch["images"] == pixels).flatten(1).all(1)
    is_flipped = (batch["images"] == pixels.flip(3)).flatten(1).all(1)
    assert (is_same ^ is_flipped).all()
    assert 50 < is_flipped.sum() < 110


def test_the_background_and_the_range_are_part_of_the_spec_and_of_the_key(tmp_path, make_datamodule, caplog):
    """Of a folder of drawings on a transparent ground, and of 12-bit values in 16-bit files."""
    root = tmp_path / "photos"
    drawing = np.zeros((12, 12, 4), np.uint8)
    drawing[3:9, 3:9, 3] = 255
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.fromarray(drawing).save(root / name / "1.png")
        Image.fromarray(np.full((12, 12), 4095, np.uint16)).save(root / name / "2.png")
        Image.fromarray(np.full((12, 12), 4095, np.float32)).save(root / name / "3.tif")
    spec, options = ImageSpec(12), {"val_fraction": 0.0, "test_fraction": 0.0}
    with pytest.raises(ValueError, match=r"range isn't known.*data\.value_range"):
        make_datamodule(FolderSource(root=str(root), on_error="raise", splits={}), spec, **options)
    make_datamodule(FolderSource(root=str(root), on_error="skip", splits={}), spec, **options)
    assert "No gray image with 16 bits a channel (2) has a value above 4,095" in caplog.text
    caplog.clear()
    source = FolderSource(root=str(root), on_error="raise", splits={})
    keys = set()
    for background, corner in (("white", 255), ("black", 0)):
        data = make_datamodule(
            InOrderOf(source, ("a", "b"), "run"), spec, background=background, value_range=[0, 4095], **options
        )
        assert (data.input_spec.background, data.input_spec.value_range) == (background, (0, 4095))
        assert input_spec_of(data.input_spec.to_dict()) == data.input_spec
        images = data.inputs.dataset("train", is_training=False)[BatchKey(0, 0, np.arange(3), np.arange(3))]["images"]
        assert images[:, 0, 0, 0].tolist() == [corner, 255, 255]
        assert images[0, 0, 6, 6] == 0
        (view,) = data.inputs.views("train", 0)
        keys.add(key_of(input_fields(view.spec, view.transform)))
        keys.add(str(data.inputs.decoded("train").transform))
        assert data.with_input_spec(ImageSpec(20)).input_spec.background == background
    assert len(keys) == 4
    assert "16 bits" not in caplog.text
    with pytest.raises(ValueError, match=r"range isn't known"):  # the source is as it was
        make_datamodule(source, spec, **options)
