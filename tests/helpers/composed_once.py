"""The shipped configs composed once for each choice of groups, which is most of composing: no test changes them."""

import copy
from dataclasses import astuple, replace
from typing import Any

import pytest
from hydra._internal import config_loader_impl
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from omegaconf import DictConfig

from regraft.config.shipped import conf_dir

COMPOSE = config_loader_impl.ConfigLoaderImpl._compose_config_from_defaults_list
"""As Hydra has it."""
SHIPPED = {str(conf_dir()), "hydra.conf", ""}
"""Where Hydra looks if it isn't told of another folder; its schemas have an empty path."""


def compose_shipped_once(patch: pytest.MonkeyPatch) -> None:
    """Has Hydra copy what it composed for the same choices before, and then set the other keys as always."""
    lists: dict[tuple[Any, ...], DefaultsList] = {}
    configs: dict[tuple[Any, ...], DictConfig] = {}

    def is_shipped(repo: Any) -> bool:
        return {source.path for source in repo.get_sources()} <= SHIPPED

    def defaults_of(repo: Any, config_name: str | None, overrides_list: Any, **options: Any) -> DefaultsList:
        if not is_shipped(repo):
            return create_defaults_list(repo, config_name, overrides_list, **options)
        keys = Overrides(repo=repo, overrides_list=overrides_list).config_overrides
        choices = [each for each in overrides_list if all(each is not key for key in keys)]
        made_of = (config_name, *sorted(options.items()), *(each.input_line for each in choices))
        if made_of not in lists:
            lists[made_of] = create_defaults_list(repo, config_name, choices, **options)
        return replace(lists[made_of], config_overrides=keys)

    def composed_of(self: Any, defaults: Any, repo: Any) -> DictConfig:
        if not is_shipped(repo):
            return COMPOSE(self, defaults, repo)
        made_of = tuple(map(astuple, defaults))
        if made_of not in configs:
            configs[made_of] = COMPOSE(self, defaults, repo)
        return copy.deepcopy(configs[made_of])

    patch.setattr(config_loader_impl, "create_defaults_list", defaults_of)
    patch.setattr(config_loader_impl.ConfigLoaderImpl, "_compose_config_from_defaults_list", composed_of)
