"""What can't be trained with weights that are divided among processes (`trainer=fsdp`)."""

from collections.abc import Iterator

from pytorch_lightning.callbacks import WeightAveraging
from torch import nn

from regraft.config.instantiate import Config, targets_subclass
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.core.types import Backbone
from regraft.training.fit.multi_process import is_sharded

_WHOLE = "Use trainer=ddp, whose processes have all weights each."


def require_shardable(config: Config, backbone: Backbone | None, head: nn.Module | None) -> None:
    """Raises ConfigErrors if a run's weights are divided among its processes, and that can't work.

    Args:
        backbone: None as long as it can't be built, as its weights aren't looked at then; the same of the head.
    """
    if is_sharded(config["trainer"]) and (found := [*_of_options(config), *_of_weights(backbone, head)]):
        raise ConfigErrors(found)


def _of_options(config: Config) -> Iterator[ConfigError]:
    trainer, lead = config["trainer"], "with trainer=fsdp"
    if str(trainer["precision"]) in ("16-mixed", "16"):
        reason = f"{lead}, Lightning doesn't scale the loss, as float16 needs it"
        yield ConfigError(
            "trainer.precision", reason, got=trainer["precision"], fix="Use trainer.precision=bf16-mixed."
        )
    if trainer.get("memory_format") == "channels_last":
        reason = f"{lead}, weights are divided along their first axis, and stay contiguous"
        yield ConfigError("trainer.memory_format", reason, got="channels_last", fix="Use trainer.memory_format=auto.")
    for name, node in config["callbacks"].items():
        if isinstance(node, dict) and targets_subclass(node, f"callbacks.{name}", WeightAveraging):
            reason = f"{lead}, there are only parts of the weights in each process, and Lightning averages whole ones"
            yield ConfigError(f"callbacks.{name}", reason, fix=f"Leave it out. {_WHOLE}")
    for key, value in config["penalty"].items():
        if isinstance(value, int | float) and value > 0:
            reason = f"{lead}, no process has all weights, which it is a sum over"
            yield ConfigError(f"penalty.{key}", reason, got=value, fix=f"Use optimizer.weight_decay. {_WHOLE}")


def _of_weights(backbone: Backbone | None, head: nn.Module | None) -> Iterator[ConfigError]:
    for key, module in (("model", backbone), ("head", head)):
        for name, parameter in () if module is None else module.named_parameters():
            if parameter.dim() == 0:
                yield ConfigError(key, f"its parameter {name} is a single number, which FSDP2 can't divide", fix=_WHOLE)
