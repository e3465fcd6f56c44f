import pytest

from regraft.config.groups import group_choices, group_names
from regraft.config.meant import _SYNONYMS, choices_meant, keys_meant, keys_of_command_meant, shipped_keys


@pytest.mark.parametrize(
    ("word", "key"),
    [
        *[("lr", "optimizer.lr"), ("optimizer.learning_rate", "optimizer.lr"), ("epochs", "trainer.max_epochs")],
        *[("bs", "data.batch_size"), ("batch", "data.batch_size"), ("batch-size", "data.batch_size")],
        *[("imgsz", "model.image_size"), ("wd", "optimizer.weight_decay"), ("workers", "data.num_workers")],
        *[("arch", "model"), ("device", "trainer.accelerator"), ("BatchSize", "data.batch_size")],
        *[("drop_path_rate", "model.drop_path"), ("trainer.channels_last", "trainer.memory_format")],
    ],
)
def test_usual_words_stand_for_keys(word: str, key: str) -> None:
    assert keys_meant(word) == [key]


def test_every_key_is_found_by_its_last_name() -> None:
    assert not [key for key in shipped_keys() if "." in key and key not in keys_meant(key.rpartition(".")[2])]


def test_keys_of_a_global_group_are_named_once() -> None:
    assert keys_meant("metric") == ["task.metric"]


def test_synonyms_are_of_keys_and_are_not_keys_themselves() -> None:
    known = {*shipped_keys(), *group_names()}
    choices = {f"{group}={choice}" for group in group_names() for choice in group_choices(group)}
    assert set(_SYNONYMS) <= known | choices
    words = [word for each in _SYNONYMS.values() for word in each.split()]
    assert len(words) == len(set(words))
    assert not set(words) & {key.rpartition(".")[2] for key in known}


def test_what_is_no_key_and_no_usual_word_stands_for_none() -> None:
    assert keys_meant("foo") == []


def test_choices_are_found_by_a_part_of_their_names() -> None:
    assert choices_meant("resnet18") == ["model=resnet18"]


@pytest.mark.parametrize(
    ("word", "allowed", "key"),
    [
        ("photos", ["input", "output"], ["input"]),
        ("minutes", ["time", "models"], ["time"]),
        ("corruptions", ["robustness"], ["robustness=corruptions"]),
        ("corruptions", ["input"], []),
        ("lr", ["input"], []),
        ("dataset", ["data"], ["data"]),
    ],
)
def test_keys_of_commands_are_found_by_usual_words_where_they_are_keys(word, allowed, key) -> None:
    assert keys_of_command_meant(word, allowed) == key
