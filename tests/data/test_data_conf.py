import inspect
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from regraft.data.datamodule import DataModule
from regraft.data.images.transforms.augment import Augment
from regraft.data.inputs import PIXEL_OPTIONS

CONF = Path(__file__).parents[2] / "conf"
BUILT = {"source", "input_spec", "augment", "seed"}


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def load(group: str, choice: str) -> dict[str, object]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(f"{group}/{choice}", overrides=["+seed=0"])
    result = OmegaConf.to_container(config[group], resolve=False)
    assert isinstance(result, dict)
    return result


@pytest.mark.parametrize("choice", choices("data"))
def test_every_data_key_is_a_parameter_and_every_parameter_a_key(choice: str) -> None:
    config = load("data", choice)
    source = get_method(str(config.pop("_target_")))
    of_datamodule = inspect.signature(DataModule).parameters.keys() - BUILT
    of_source = {name for name in inspect.signature(source).parameters if name != "self"}

    of_pixels = set() if "background" in config else set(PIXEL_OPTIONS)  # which data of texts lacks
    assert set(config) == (of_datamodule | of_source) - of_pixels
    assert not of_datamodule & of_source


@pytest.mark.parametrize("choice", choices("augment"))
def test_every_augmentation_is_built(choice: str) -> None:
    augment = instantiate(load("augment", choice))

    assert isinstance(augment, Augment)
    assert (augment.policy == choice) == (choice in ("trivialaugment", "randaugment"))
    assert (augment.crop is None) == (choice in ("none", "flip"))


@pytest.mark.parametrize(
    ("group", "choice"), [(group, name) for group in ("data", "augment") for name in choices(group)]
)
def test_header_says_what_it_is_and_the_command(group: str, choice: str) -> None:
    lines = (CONF / group / f"{choice}.yaml").read_text().splitlines()

    assert lines[0].startswith("# ")
    assert lines[1].startswith("# regraft train ")
    assert f"{group}={choice}" in lines[1]
