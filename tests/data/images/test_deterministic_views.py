"""Views of a split: which there are, what makes them, and that an image's draws are of its content alone."""

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import regraft
from regraft.core.image_spec import ImageSpec
from regraft.core.seeding import derive_seed
from regraft.data.images import deterministic_views
from regraft.data.images.deterministic_views import (
    ImageView,
    augmentations_of_views,
    choose_views,
    is_flip_only,
    is_none,
)
from regraft.data.images.samples import ArrayImages
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.batch import eval_view_of_arrays, train_view_of_arrays
from regraft.data.splits import Part

NONE = Augment(
    crop=None,
    scale=(0.35, 1.0),
    ratio=(0.75, 1.33),
    padding=4,
    flip_probability=0.0,
    policy=None,
    mixup_alpha=0.0,
    cutmix_alpha=0.0,
    erasing_probability=0.0,
)
FLIP = replace(NONE, flip_probability=0.5)
BASIC = replace(FLIP, crop="resized")
SPEC = ImageSpec(8, 3, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
NO_PIXELS = {
    "data/images/transforms/augment.py": "described by its values",
    "data/loader.py": "which process decodes",
    "data/sampler.py": "which images, in which order",
    "data/sources/base.py": "what a source is",
    "data/splits.py": "which images",
}
"""Files of `data` that the pixels of a view don't depend on, though `deterministic_views` imports them."""


def imported_of_data(path: Path) -> set[str]:
    """Returns the files of `data` that one of them imports, itself or by way of others, itself included."""
    root = Path(regraft.__file__).parent
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        name = file.relative_to(root).as_posix()
        if name in found | NO_PIXELS.keys():
            continue
        found.add(name)
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("regraft.data."):
                waiting.append(root / f"{node.module.removeprefix('regraft.').replace('.', '/')}.py")
    return found


def test_all_code_that_makes_pixels_is_in_the_key():
    assert imported_of_data(Path(deterministic_views.__file__)) <= set(deterministic_views._CODE)


def part_of(pixels: Tensor) -> Part:
    return Part(ArrayImages(pixels, torch.zeros(len(pixels), dtype=torch.int64)), torch.arange(len(pixels)))


def view_of(part: Part, augment: Augment | None, **options: Any) -> ImageView:
    return ImageView(part, part.samples.content_hashes(), SPEC, augment, **options)


def pixels_of(view: ImageView, places: list[int]) -> Tensor:
    return torch.cat(list(view.batches(torch.tensor(places), 2, torch.device("cpu"))))


@pytest.fixture
def part() -> Part:
    generator = torch.Generator().manual_seed(0)
    return part_of(torch.randint(0, 256, (5, 3, 10, 10), dtype=torch.uint8, generator=generator))


def test_the_view_of_evaluation_is_normalised_and_in_the_order_asked_for(part):
    expected = eval_view_of_arrays(part.samples.pixels[[3, 0, 4]], SPEC).float() / 255
    assert torch.allclose(pixels_of(view_of(part, None), [3, 0, 4]), (expected - 0.5) / 0.25, atol=1e-6)


def test_a_view_is_a_function_of_the_content_not_of_the_place(part):
    turned = part_of(part.samples.pixels.flip(0))
    first, second = (view_of(one, BASIC, view=2, seed=7) for one in (part, turned))
    assert torch.equal(pixels_of(first, [0, 1, 2, 3, 4]), pixels_of(second, [4, 3, 2, 1, 0]))


def test_views_and_seeds_differ(part):
    rows = [pixels_of(view_of(part, BASIC, view=view, seed=seed), [0, 1]) for view, seed in ((0, 0), (1, 0), (0, 1))]
    assert not torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


def test_a_transform_names_all_that_pixels_depend_on(part):
    transforms = [
        view_of(part, augment, view=view, seed=seed).transform
        for augment, view, seed in ((None, 0, 0), (BASIC, 0, 0), (BASIC, 1, 0), (BASIC, 0, 1), (FLIP, 0, 0))
    ]
    assert len({repr(transform) for transform in transforms}) == 5
    mirrored = replace(FLIP, flip_probability=1.0)
    assert view_of(part, mirrored, view=1, seed=3).transform == view_of(part, mirrored).transform


def test_digests_see_one_pixel_and_the_shape(part):
    changed = part.samples.pixels.clone()
    changed[1, 0, 0, 0] ^= 1
    digests = [one.samples.content_hashes() for one in (part, part_of(changed))]
    assert [(digests[0][row] == digests[1][row]).all() for row in range(5)] == [True, False, True, True, True]
    long, wide = (part_of(torch.zeros(1, 3, *size, dtype=torch.uint8)) for size in ((4, 9), (9, 4)))
    assert (long.samples.content_hashes() != wide.samples.content_hashes()).any()


def test_what_the_views_are():
    assert augmentations_of_views(NONE, 8) == [None]
    assert augmentations_of_views(FLIP, 8) == [None, replace(FLIP, flip_probability=1.0)]
    assert augmentations_of_views(BASIC, 3) == [BASIC] * 3
    assert [is_none(one) for one in (NONE, FLIP, BASIC)] == [True, False, False]
    assert [is_flip_only(one) for one in (NONE, FLIP, BASIC)] == [False, True, False]


def test_a_flip_is_drawn_as_for_images_in_memory(part):
    """So that image and mirror image, stored, give the very run that flips anew in each epoch."""
    numbers = torch.arange(5) + (1 << 33)
    chosen = choose_views(FLIP, 2, 4, 6, numbers)
    fresh = train_view_of_arrays(part.samples.pixels, SPEC, FLIP, derive_seed(4, "augment", 6), numbers)
    views = [
        train_view_of_arrays(part.samples.pixels, SPEC, replace(FLIP, flip_probability=p), 0, numbers)
        for p in (0.0, 1.0)
    ]
    assert 0 < chosen.sum() < 5
    assert torch.equal(fresh, torch.stack([views[view][row] for row, view in enumerate(chosen.tolist())]))


def test_views_are_drawn_anew_each_epoch_and_all_of_them():
    numbers = torch.arange(400)
    draws = [choose_views(BASIC, 4, 0, epoch, numbers) for epoch in (0, 1)]
    assert torch.equal(draws[0], choose_views(BASIC, 4, 0, 0, numbers))
    assert not torch.equal(draws[0], draws[1])
    assert all(70 < count < 130 for count in draws[0].bincount(minlength=4).tolist())
