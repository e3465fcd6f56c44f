"""Every YAML under conf is composed and bound to the signatures that it names."""

import inspect
from functools import cache
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from regraft.config import compose, groups
from regraft.data.datamodule import DataModule
from regraft.data.inputs import PIXEL_OPTIONS
from regraft.training.trainer import OWN_KEYS

# What a choice can't do without.
NEEDED = {
    "model=timm": ["model.name=resnet18"],
    "model=checkpoint": ["model.path=somewhere"],
    "freezing=up_to": ["freezing.until=layer3"],
    "data=folder": ["data.root=somewhere"],
    "scheduler=torch": ["scheduler._target_=torch.optim.lr_scheduler.StepLR", "+scheduler.step_size=1"],
}
# What build adds to the keys of a section.
GIVEN = {
    "callbacks": {"dirpath"},
    "head": {"num_features", "num_classes"},
    "logger": {"save_dir"},
    "model": {"construct"},
    "loss": {"num_classes", "class_counts", "label_counts", "num_samples", "scale"},
    "optimizer": {"params"},
    "scheduler": {"optimizer", "total_steps", "steps_per_epoch"},
}
VARIADIC = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
DATAMODULE = set(inspect.signature(DataModule).parameters)
CHOICES = [f"{group}={name}" for group in groups.group_names() for name in groups.group_choices(group)]
Targets = list[tuple[str, Any, dict[str, Any]]]


@cache
def composed(choice: str | int) -> Any:
    """Returns the config of an experiment, or of the choice with this number in each group that has as many."""
    by_group = {group: list(groups.group_choices(group)) for group in groups.group_names() if group != "experiment"}
    numbered = [f"{group}={names[choice]}" for group, names in by_group.items() if choice in range(len(names))]
    chosen = [choice] if isinstance(choice, str) else numbered
    needed = [override for each in chosen for override in NEEDED.get(each, [])]
    node = compose.compose_once("train", [*chosen, *needed], None)
    del node.hydra
    return OmegaConf.to_container(node)


def targets_of(choice: str) -> Targets:
    """Returns (section, target, keys) of each node that a choice puts into the config."""
    group, _, name = choice.partition("=")
    config = composed(choice if group == "experiment" else list(groups.group_choices(group)).index(name))
    found = []
    for section in config if group in groups.NO_SECTIONS else [group]:
        node = config[section]
        if not isinstance(node, dict):
            continue
        for part in [node] if "_target_" in node else node.values():
            if isinstance(part, dict) and "_target_" in part:
                keys = {key: value for key, value in part.items() if key != "_target_"}
                found.append((section, get_object(part["_target_"]), keys))
    return found


@pytest.fixture(scope="module", params=CHOICES)
def targets(request: pytest.FixtureRequest) -> Targets:
    """What each choice in turn puts into the config, composed once for all tests."""
    return targets_of(request.param)


def test_keys_fit_the_signature_that_they_reach(targets):
    for section, target, keys in targets:
        reach = set(keys)
        if section == "data":
            reach -= DATAMODULE
        if section == "scheduler" and isinstance(target, type):
            reach -= {"interval"}
            assert set(keys) - reach == {"interval"}
            continue
        if section == "optimizer":
            reach.discard("decay_norm_and_bias")  # of the groups; a closed form has no decay
        if section == "head":
            reach.discard("stages")  # of the backbone
        if section == "trainer":
            reach -= set(OWN_KEYS)
        parameters = inspect.signature(target).parameters
        assert reach <= set(parameters), f"{section}: {target}"
        named = [parameter for parameter in parameters.values() if parameter.kind not in VARIADIC]
        required = {parameter.name for parameter in named if parameter.default is parameter.empty}
        assert required <= reach | GIVEN.get(section, set()), f"{section}: {target}"


def test_a_default_in_python_is_that_of_a_choice():
    """With the exception of what depends on other choices."""
    known: dict[Any, list[dict[str, Any]]] = {}
    for choice in CHOICES:
        for _, target, keys in targets_of(choice):
            made = target.__init__ if isinstance(target, type) else target
            if getattr(made, "__module__", "").startswith("regraft."):
                fixed = {key: value for key, value in keys.items() if not str(value).startswith("${")}
                known.setdefault(target, []).append(fixed)
    for target, choices in known.items():
        parameters = inspect.signature(target).parameters.values()
        defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
        defaults = {name: list(value) if isinstance(value, tuple) else value for name, value in defaults.items()}
        assert any({name: keys.get(name, value) for name, value in defaults.items()} == defaults for keys in choices), (
            target
        )


def test_no_config_repeats_what_data_or_weights_determine(targets):
    for section, _, keys in targets:
        assert not {"num_classes", "mean", "std"} & set(keys), section


def test_the_datamodules_keys_stand_in_every_data_config():
    given_by_build = {"source", "input_spec", "augment", "seed"}
    for choice in groups.group_choices("data"):
        ((_, _, keys),) = targets_of(f"data={choice}")
        of_pixels = set() if "background" in keys else {*PIXEL_OPTIONS}
        assert DATAMODULE - given_by_build - of_pixels <= set(keys), choice
        assert of_pixels == set() or choice in ("books", "text_table", "text_folder"), choice


def test_every_choice_shows_its_exact_command():
    for choice in CHOICES:
        group, _, name = choice.partition("=")
        text = (compose.conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")
        assert "# regraft train " in text, choice
