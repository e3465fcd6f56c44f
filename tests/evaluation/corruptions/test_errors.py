from functools import partial

import numpy as np
import pytest
import torch

from helpers.small_texts import word_model
from regraft.data.text.samples import Texts
from regraft.evaluation.corruptions.corruptions import CORRUPTIONS, ImageCorruptions
from regraft.evaluation.corruptions.errors import CorruptionErrors, corruption_errors, corruptions_of, summary
from regraft.tasks import TASKS


def made(clean, **errors):
    return CorruptionErrors(10, clean, {name: [value] * 5 for name, value in errors.items()})


def test_without_a_baseline_nothing_is_normalised():
    metrics, undefined = summary(made(0.1, fog=0.4, snow=0.2), None)
    assert metrics == pytest.approx({"corruption_error": 0.3, "relative_corruption_error": 0.2})
    assert undefined == {}


def test_with_one_each_corruption_weighs_the_same():
    metrics, _ = summary(made(0.1, fog=0.4, snow=0.2), made(0.2, fog=0.8, snow=0.25))
    assert metrics["mce"] == pytest.approx((0.4 / 0.8 + 0.2 / 0.25) / 2)
    assert metrics["relative_mce"] == pytest.approx((0.3 / 0.6 + 0.1 / 0.05) / 2)


def test_a_baseline_that_does_not_mind_a_corruption_gives_no_ratio():
    metrics, undefined = summary(made(0.1, fog=0.4), made(0.2, fog=0.2))
    assert "relative_mce" not in metrics
    assert metrics["mce"] == pytest.approx(2)
    assert "errs no more with fog than without" in undefined["relative_mce"]


def test_errors_do_not_hang_on_the_batches():
    images = torch.randint(0, 256, (6, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    targets = (images.float().mean((1, 2, 3)) > 127).long()
    counted = []

    def classify(some):
        return (some.float().mean((1, 2, 3)) > 127).long().numpy()

    error = partial(TASKS["classification"].error, names=("dark", "bright"))
    parts = [(images[:2], targets[:2]), (images[2:], targets[2:])]
    one = corruption_errors(ImageCorruptions(), [(images, targets)], classify, error, counted.append)
    two = corruption_errors(ImageCorruptions(), parts, classify, error, lambda number: None)
    assert one == two
    assert one.clean == 0
    assert max(one.errors["brightness"]) > 0
    assert sum(counted) == 6 * (1 + 5 * len(CORRUPTIONS))


@pytest.mark.parametrize("name", ["multilabel", "regression"])
def test_of_labels_and_numbers_they_are_what_the_headline_metric_lacks(name):
    task, generator = TASKS[name], np.random.default_rng(0)
    targets = generator.integers(0, 2, (40, 3)).astype(np.float32)
    outputs = np.clip(targets + generator.normal(0, 0.5, (40, 3)), 0, 1).astype(np.float32)
    names = ("a", "b", "c")
    scores = task.scores(outputs, targets, names)
    assert task.error(outputs, targets, names) == pytest.approx(1 - scores.metrics[task.headline])
    batch = (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="robustness: the error of these 4 inputs is undefined"):
        corruption_errors(
            ImageCorruptions(), [batch], lambda _: outputs[:4], partial(task.error, names=names), lambda number: None
        )


def test_texts_are_corrupted_as_texts():
    model, corruptions = word_model(), corruptions_of("text")
    texts = ["the film was good", "the film was bad", "good", "bad film"] * 4
    samples = Texts.from_texts(texts, torch.tensor([0, 1, 0, 1] * 4))
    batch = {"indices": torch.arange(16)}
    batches = [(corruptions.of_batch(batch, samples), samples.labels)]

    found = corruption_errors(
        corruptions,
        batches,
        lambda inputs: model.decisions(corruptions.views(inputs, model)),
        lambda decided, true: float((decided != true).mean()),
        lambda number: None,
    )

    assert found.clean == 0
    assert set(found.errors) == {"typos", "case", "repeated_letters", "dropped_words", "swapped_words"}
    assert found.errors["typos"][4] > 0
    assert found.errors["swapped_words"] == [0.0] * 5  # the model takes the mean over words
