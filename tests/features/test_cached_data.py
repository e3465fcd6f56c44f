"""Which loader a phase is given."""

from types import SimpleNamespace

import pytest
import torch

from regraft.features.cut import CutPhase
from regraft.features.datamodule import FeatureDataModule
from regraft.features.loaders import FeatureBatches, FeatureEpochs
from regraft.features.record import RecordLayout, StoredFeatures
from regraft.features.store.memory import InMemoryEntry
from regraft.features.table import FeatureTable


class Images:
    """A datamodule of images that only says which loader it was asked for."""

    draw_seed = choose_views = None

    def train_batches(self):
        return [object()] * 3

    def train_dataloader(self):
        return "images"


def data(**options) -> FeatureDataModule:
    features = StoredFeatures(InMemoryEntry((4,), torch.float32), RecordLayout(2, (4,), {}), [slice(0, 4)], (4,))
    table = FeatureTable(2, [features.gather], (4,), torch.arange(5), torch.zeros(5))
    plan = [CutPhase(0, 2, 2, 2), CutPhase(2, 2, 0, 0)]
    made = FeatureDataModule(
        Images(),
        {("train", 2): table},
        plan,
        0,
        num_stages=2,
        **{"one_batch_per_epoch": True, "is_full_batch": False} | options,
    )
    made.trainer = trainer(epoch=0)
    return made


def trainer(*, epoch: int, world_size: int = 1) -> SimpleNamespace:
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    module = SimpleNamespace(backbone=SimpleNamespace(feature_widths={"a": 1, "b": 1, "c": 2}))
    return SimpleNamespace(current_epoch=epoch, world_size=world_size, strategy=strategy, lightning_module=module)


def test_an_epoch_of_the_head_alone_is_one_batch():
    loader = data().train_dataloader()
    assert isinstance(loader, FeatureEpochs)
    assert (len(loader), loader.steps_per_batch) == (1, 3)
    assert data(is_full_batch=True).train_dataloader().steps_per_batch == 1


@pytest.mark.parametrize(("options", "world_size"), [({}, 2), ({"one_batch_per_epoch": False}, 1)])
def test_gradients_of_several_processes_are_averaged_step_by_step(options, world_size):
    made = data(**options)
    made.trainer = trainer(epoch=0, world_size=world_size)
    assert isinstance(made.train_dataloader(), FeatureBatches)


def test_a_phase_without_a_cut_is_given_images():
    made = data()
    made.trainer = trainer(epoch=2)
    assert made.train_dataloader() == "images"


def test_features_that_memory_cant_hold_are_read_batch_by_batch(monkeypatch):
    monkeypatch.setattr("regraft.features.datamodule.matrix_limit", lambda device: 79.0)
    assert isinstance(data().train_dataloader(), FeatureBatches)
    at_once = r"optimizer: it works on all training features at once, .* Use head.stages=\[b,c\], optimizer=adamw, or"
    with pytest.raises(ValueError, match=at_once):
        data(is_full_batch=True).train_dataloader()
    monkeypatch.setattr("regraft.features.datamodule.matrix_limit", lambda device: 39.0)
    with pytest.raises(ValueError, match=r" Use optimizer=adamw, or a smaller data.fraction\."):
        data(is_full_batch=True).train_dataloader()
    monkeypatch.setattr("regraft.features.datamodule.matrix_limit", lambda device: 80.0)
    assert isinstance(data().train_dataloader(), FeatureEpochs)
