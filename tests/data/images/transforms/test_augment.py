from collections.abc import Callable

import pytest

from regraft.data.images.transforms.augment import Augment


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop", "random"),
        ("policy", "autoaugment"),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 0.4)),
        ("scale", (0.5, 1.1)),
        ("scale", (0.5,)),
        ("ratio", (0.0, 1.0)),
        ("padding", -1),
        ("flip_probability", 2),
        ("flip_probability", -0.1),
        ("erasing_probability", 1.5),
        ("mixup_alpha", -1.0),
        ("cutmix_alpha", -0.2),
    ],
)
def test_out_of_range_names_the_key(make_augment: Callable[..., Augment], key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^augment\.{key}: got .*; allowed: "):
        make_augment(**{key: value})


def test_lists_become_tuples(make_augment: Callable[..., Augment]) -> None:
    augment = make_augment(scale=[0.5, 1.0], ratio=[0.9, 1.1])

    assert (augment.scale, augment.ratio) == ((0.5, 1.0), (0.9, 1.1))
    assert hash(augment) == hash(make_augment(scale=(0.5, 1.0), ratio=(0.9, 1.1)))
