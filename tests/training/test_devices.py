"""Every command that computes on a device keeps its tensors there, tried with one that stands in for a GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from helpers import standin_device
from regraft.features.cache import _numerics
from regraft.features.table import matrix_limit
from regraft.models.backbones import small

WIDTHS = [4, 8]
MODEL = ["model=simple_cnn", f"model.widths={WIDTHS}", "model.image_size=16"]
DATA = ["data=folder", "data.root=photos", "data.num_workers=0", "data.batch_size=4", "augment=none"]
TRAIN = [*DATA, *MODEL, "trainer.max_epochs=1", "trainer.enable_progress_bar=false", "report=off", "logger=csv"]


@pytest.fixture
def photos() -> None:
    for name, colour in (("ant", (200, 40, 40)), ("bee", (40, 200, 40))):
        Path("photos", name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (20, 20), (*colour[:2], 10 * number)).save(f"photos/{name}/{number}.png")
    stages = small.simple_cnn(widths=WIDTHS, batch_norm=True, weights=None, image_size=16, num_channels=3).stages
    torch.save(stages.state_dict(), "weights.pth")


def test_train_fill_eval_predict_and_probe_mix_no_devices(photos):
    cached = ["model.weights=weights.pth", "features.cache=on"]
    commands = [
        ["train", *TRAIN, "freezing=none", "hydra.run.dir=images"],
        ["train", *TRAIN, *cached, "freezing=linear_probe", "hydra.run.dir=closed_form"],
        ["train", *TRAIN, *cached, "freezing=linear_probe", "fitting=steps", "hydra.run.dir=epochs"],
        ["train", *TRAIN, *cached, "freezing=last_stages", "freezing.num_stages=1", "hydra.run.dir=batches"],
        ["eval", "ckpt_path=batches"],
        ["predict", "ckpt_path=epochs", "input=photos/ant", f"device={standin_device.DEVICE}", "features.cache=on"],
        ["probe", *DATA, *MODEL, "model.weights=weights.pth"],
        ["fill", *TRAIN, "model.weights=weights.pth", "fill.share=1/2", "features.dir=filled"],
        ["doctor", "checks=device,precision,compile"],
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "REGRAFT_DEBUG": "1"}
    command = [sys.executable, standin_device.__file__, json.dumps(commands)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]


def test_a_matrix_of_features_must_fit_the_device(monkeypatch):
    memory = {"cpu": 4000, "cuda": 400}
    monkeypatch.setattr("regraft.features.table.memory_bytes", lambda device: memory[device.type])
    assert matrix_limit(torch.device("cuda")) == 100
    assert matrix_limit(torch.device("cpu")) == 1000


def test_kernels_that_round_in_another_way_have_other_features(monkeypatch):
    assert _numerics(torch.device("cpu")) == "cpu"
    assert _numerics(torch.device("cuda")) == "cuda"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert _numerics(torch.device("cpu")) == "cpu matmul=high"
    assert _numerics(torch.device("cuda")) == "cuda matmul=high tf32=False"
