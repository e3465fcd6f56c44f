"""Training with weights, gradients and optimizer state divided among the devices: torch's FSDP2, through Lightning."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning.strategies import ModelParallelStrategy, ParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from regraft.core.sharded import part_of, whole
from regraft.core.torch_internals import is_view
from regraft.training.divergence import require_finite_weights
from regraft.training.module import TransferModule


class ShardedStrategy(ModelParallelStrategy):
    """Lightning's `ModelParallelStrategy` over one dimension, with the checkpoints of the other strategies.

    They hold whole tensors under the same keys, are written by the first process and by `CheckpointIO`, and are
    restored where those of the other strategies are: before optimizers and schedules are made.

    Args:
        num_processes: of all nodes.
        timeout: how long the processes wait for one of them; None for torch's default.
    """

    def __init__(self, num_processes: int, timeout: timedelta | None) -> None:
        options: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        super().__init__(num_processes, 1, save_distributed_checkpoint=False, **options)

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """Whether a checkpoint is restored after optimizers and schedules are made."""
        return False

    @property
    def lightning_restore_optimizer(self) -> bool:
        """Whether Lightning calls `load_optimizer_state_dict`."""
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the module's state in the first process, on the CPU, and nothing in the others; a collective call."""
        assert self.lightning_module is not None, "a trainer has connected its module"
        return self._collected(self.lightning_module.state_dict())

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Returns an optimizer's state in the first process, and nothing in the others; a collective call."""
        return self._collected(ParallelStrategy.optimizer_state(self, optimizer))

    def _collected(self, state: dict[str, Any]) -> dict[str, Any]:
        """Returns a state with whole tensors in the first process, which are collected one by one."""
        collected = {name: apply_to_collection(value, DTensor, self._tensor) for name, value in state.items()}
        return collected if self.is_global_zero else {}

    def _tensor(self, shard: Tensor) -> Tensor | None:
        tensor = whole(shard)
        return tensor.cpu() if self.is_global_zero else None

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Writes a checkpoint in the first process."""
        ParallelStrategy.save_checkpoint(self, checkpoint, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Returns a checkpoint of whole tensors, on the CPU."""
        return ParallelStrategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Restores a module's own shards of whole tensors."""
        module = self.lightning_module
        assert module is not None, "a trainer has connected its module"
        own = module.state_dict()
        shards = {name: part_of(each, own.get(name)) for name, each in checkpoint["state_dict"].items()}
        module.load_state_dict(shards, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Restores the optimizers' own shards of whole tensors."""
        states = [
            state | {"state": _parts_of_states(optimizer, state["state"])}
            for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)
        ]
        ParallelStrategy.load_optimizer_state_dict(self, {"optimizer_states": states})


class ShardedModule(TransferModule):
    """A `TransferModule` whose stages and head are divided among the processes, each by itself.

    Parameters are whole only while their stage computes. What isn't a parameter of a stage or the head, such as
    BatchNorms' statistics, is whole in each process.

    Args:
        sync_batchnorm: whether BatchNorms that train take the statistics of all processes' samples.
    """

    def __init__(self, *args: Any, sync_batchnorm: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sync_batchnorm = sync_batchnorm

    def configure_model(self) -> None:
        """Divides the parameters, which the optimizer is then made of; a second time, as of a test, does nothing."""
        if isinstance(self.backbone, FSDPModule):
            return
        assert self.device_mesh is not None, "the strategy has made it"
        mesh = self.device_mesh["data_parallel"]
        if self._sync_batchnorm:
            nn.SyncBatchNorm.convert_sync_batchnorm(self.backbone)  # in place, as the backbone itself isn't one
            self.head = nn.SyncBatchNorm.convert_sync_batchnorm(self.head)
        for part in (*self.backbone.stages.values(), self.head):
            part.to(self.trainer.strategy.root_device)
            _copy_from_first(part)
            part.register_forward_hook(_own_outputs)
            # Without it the last one to compute would stay whole, and its weights couldn't be frozen or saved.
            fully_shard(part, mesh=mesh, reshard_after_forward=True)
        # Has no parameters of its own; it lets a stage's weights be collected while the one before computes.
        fully_shard(self.backbone, mesh=mesh)

    def on_validation_start(self) -> None:
        """Gives all processes the statistics of the first one, as DDP does."""
        self._share_statistics()

    def on_test_start(self) -> None:
        """Gives all processes the statistics of the first one, as DDP does."""
        self._share_statistics()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Checks the weights in all processes, as the first one alone has them whole."""
        require_finite_weights(self, self.state_dict())
        super().on_save_checkpoint(checkpoint)

    def _share_statistics(self) -> None:
        for buffer in (*self.backbone.buffers(), *self.head.buffers()):
            torch.distributed.broadcast(buffer, 0)


def _copy_from_first(part: nn.Module) -> None:
    """Gives all processes the weights of the first one, whose last bits may differ on another machine."""
    for tensor in (*part.parameters(), *part.buffers()):
        torch.distributed.broadcast(tensor.detach(), 0)


def _own_outputs(part: nn.Module, inputs: Any, outputs: Any) -> Any:
    """Copies outputs that are views, as an operation in place on one would lose what FSDP2 does at its gradient."""
    return apply_to_collection(outputs, Tensor, lambda each: each.clone() if is_view(each) else each)


def _parts_of_states(optimizer: Optimizer, states: Mapping[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """Returns this process's part of an optimizer's state, by the number of the parameter, as torch counts them."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return {
        number: {
            name: part_of(value, parameters[number]) if isinstance(value, Tensor) else value
            for name, value in state.items()
        }
        for number, state in states.items()
    }
