"""What needs images of one class each says so at the start."""

import pytest

import regraft


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["task=multilabel", "loss=focal", "fitting=steps"], "loss: .*it doesn't fit task=multilabel. Use loss=bce or"),
        (["task=regression", "loss=bce", "fitting=steps"], "it doesn't fit task=regression. Use loss=mse or loss=mae"),
        (["loss=huber"], "it doesn't fit task=classification. Use loss=cross_entropy or loss=focal or loss=mse"),
        (["task=regression"], "task: got 'regression'; the data is of task=classification. Use task=classification"),
        (["task=multilabel", "callbacks.best.monitor=val/acc"], "unknown metric .*val/acc.*val/map"),
    ],
)
def test_what_doesnt_fit_the_task_or_the_data(overrides, sentence):
    with pytest.raises(ValueError, match=sentence):
        regraft.train(["data=digits", "model=simple_cnn", "model.image_size=8", *overrides])


def test_classes_that_a_sampler_would_balance():
    source = "data._target_=helpers.coloured.Coloured"
    overrides = ["data=digits", source, "+data.kind=multilabel", "task=multilabel", "trust=[helpers]"]
    with pytest.raises(ValueError, match="sampler: got 'balanced'; task=multilabel has no classes to balance"):
        regraft.train([*overrides, "data.sampler=balanced", "model=simple_cnn", "model.image_size=8"])
