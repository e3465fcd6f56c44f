from collections.abc import Callable

import pytest
import torch

from regraft.core.image_spec import ImageSpec
from regraft.data.images.transforms.augment import Augment
from regraft.data.images.transforms.mixing import mix, mix_weighted, normalise


def test_normalise_is_the_formula() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    spec = ImageSpec(4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))

    result = normalise(images, spec)

    expected = (images.double() / 255 - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.double(), expected, atol=1e-6, rtol=1e-6)


def test_normalise_takes_repeated_channels() -> None:
    gray = torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)
    spec = ImageSpec(4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))

    assert torch.equal(normalise(gray.expand(-1, 3, -1, -1), spec), normalise(gray.repeat(1, 3, 1, 1), spec))


def test_a_gradient_passes_where_a_prediction_has_normalised_before() -> None:
    spec, images = ImageSpec(1, mean=(0.123,) * 3, std=(0.5,) * 3), torch.zeros(1, 3, 1, 1)
    with torch.inference_mode():
        normalise(images, spec)
    normalise(images.requires_grad_(), spec).sum().backward()
    assert images.grad is not None


@pytest.mark.parametrize("alphas", [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_mixed_targets_are_rows_that_sum_to_one(
    make_augment: Callable[..., Augment], alphas: tuple[float, float]
) -> None:
    augment = make_augment(mixup_alpha=alphas[0], cutmix_alpha=alphas[1])
    images, targets = torch.randn(8, 3, 16, 16), torch.arange(8) % 5

    mixed, rows = mix(images, targets, augment, num_classes=5, draw_seed=11)

    assert mixed.shape == images.shape
    assert rows.shape == (8, 5)
    torch.testing.assert_close(rows.sum(1), torch.ones(8))
    assert not torch.equal(mixed, images)


def test_mixing_depends_on_the_draw_seed_alone(make_augment: Callable[..., Augment]) -> None:
    augment = make_augment(mixup_alpha=1.0)
    images, targets = torch.randn(8, 3, 16, 16), torch.arange(8)
    before = torch.get_rng_state()

    first = mix(images, targets, augment, 8, draw_seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again = mix(images, targets, augment, 8, draw_seed=1)
    others = [mix(images, targets, augment, 8, draw_seed=seed)[1] for seed in range(2, 8)]

    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert all(not torch.equal(first[1], rows) for rows in others)


@pytest.mark.parametrize("kind", ["mixup_alpha", "cutmix_alpha"])
def test_the_loss_of_a_mixed_image_is_the_weighted_mean_of_both_losses(kind):
    images, targets = torch.rand(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, 4, 0])
    weights, augment = torch.linspace(0.5, 3, 6), Augment(**{kind: 1.0})
    plain, rows = mix(images, targets, augment, num_classes=5, draw_seed=11)
    mixed, weighted, shares = mix_weighted(images, targets, weights, augment, num_classes=5, draw_seed=11)
    torch.testing.assert_close(mixed, plain)
    share = float(rows[1, 1])  # the others are mixed with the image before them
    logits = torch.randn(6, 5)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    others = torch.nn.functional.cross_entropy(logits, targets.roll(1), reduction="none")
    expected = share * weights * each + (1 - share) * weights.roll(1) * others
    found = shares * torch.nn.functional.cross_entropy(logits, weighted, reduction="none")
    torch.testing.assert_close(found, expected)
