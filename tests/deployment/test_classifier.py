"""A trained model gives what its run's own test gave, from images alone."""

from dataclasses import replace

import torch

import regraft
from helpers.small import digits_folder, without
from regraft.core.pixel_format import PixelFormat
from regraft.data.images.decoding import decode_image
from regraft.data.sources.digits import DigitsSource
from regraft.data.sources.folder import FolderSource
from regraft.runs.folder import Run
from regraft.runs.predictions import read


def test_images_in_memory_are_seen_as_in_the_final_test(small_run):
    kept = read(small_run.path, with_probabilities=True)
    images = DigitsSource().splits().train.pixels

    found = probabilities(small_run, [images[index] for index in kept.indices])

    torch.testing.assert_close(found, torch.from_numpy(kept.probabilities))


def test_photos_are_seen_as_in_the_final_test(tmp_path):
    digits_folder(tmp_path / "photos", {3: "three", 4: "four"})
    data = ["data=folder", f"data.root={tmp_path / 'photos'}", "data.num_workers=0", "model.image_size=12"]
    run = regraft.train([*without("data", "model.image_size"), *data, "trainer.max_epochs=1"])
    kept = read(run.path, with_probabilities=True)
    photos = FolderSource(root=str(tmp_path / "photos"), on_error="raise", splits={}).splits().test

    found = probabilities(run, [decode_image(photos.path(index), PixelFormat(3)) for index in kept.indices])

    torch.testing.assert_close(found, torch.from_numpy(kept.probabilities))


def probabilities(run: Run, images: list[torch.Tensor]) -> torch.Tensor:
    model = regraft.load(str(run.path))
    return model.probabilities(torch.stack([model.view(image) for image in images]))


def test_a_strip_of_pixels_is_seen_by_its_middle(small_run):
    model = regraft.load(small_run.path)
    model = replace(model, input_spec=replace(model.input_spec, eval_view="center_crop"))
    strip = torch.zeros(3, 1, 6_000_000, dtype=torch.uint8)
    strip[:, :, 2_999_000:3_001_000] = 200
    assert (model.view(strip) == 200).all()
