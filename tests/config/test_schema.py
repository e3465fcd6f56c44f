import json

from regraft.config.groups import group_names, keys_of, section_text, shipped_train
from regraft.config.meant import UNCONFIGURED, shipped_keys
from regraft.config.schema import training_schema


def test_the_schema_has_every_key_with_its_comment() -> None:
    schema = json.loads(json.dumps(training_schema()))
    for key in shipped_keys():
        node = schema
        for part in key.split("."):
            node = node["properties"][part]
    learning_rate = schema["properties"]["data"]["properties"]["sampler"]
    assert learning_rate == {"description": "shuffle | balanced (every class equally likely)", "default": "shuffle"}
    assert schema["properties"]["trainer"]["properties"]["benchmark"] == {"default": None}
    assert schema["properties"]["trainer"]["properties"]["num_nodes"]["type"] == ["number", "string", "null"]


def test_the_schema_knows_what_may_be_chosen() -> None:
    properties = training_schema()["properties"]
    (_, entry) = properties["defaults"]["items"]["anyOf"]
    assert "resnet18" in entry["properties"]["override /model"]["enum"]
    assert set(properties) == {"defaults", *shipped_train(), *group_names()} - set(UNCONFIGURED)


def test_comments_are_those_of_their_keys() -> None:
    keys = keys_of("data/folder")
    assert keys["batch_size"].comment == "per process; auto: by the number of training images"
    assert set(keys_of("task/regression")) == {"name", "metric", "mode"}
    assert keys["splits.train"].comment.startswith(". for the root itself")
    assert keys_of("train")["seed"].comment.startswith("Seeds weights, order,")


def test_a_section_is_described_with_its_choices_and_keys() -> None:
    text = section_text("optimizer", "sgd")
    assert "  optimizer=adamw " in text
    assert "keys of optimizer=sgd" in text
    assert "  optimizer.momentum=" in text
    assert section_text("penalty", None).splitlines()[0].startswith("  penalty.l1=0.0")
