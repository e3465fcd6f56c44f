"""Activation checkpointing of a whole run."""

import logging

import pytest
import torch

import regraft
from helpers.small import without
from regraft.config.compose import compose_once, plain
from regraft.core.errors import ConfigError
from regraft.training.preflight import resources
from regraft.training.trainer import build_trainer

OPTIONS = [*without("trainer.max_epochs"), "head.dropout=0.3", "scheduler=constant"]


def test_a_run_has_the_same_bits_and_resumes_without_it(monkeypatch, caplog):
    straight = regraft.train([*OPTIONS, "trainer.max_epochs=2", "trainer.checkpoint_activations=false"])
    monkeypatch.setattr(resources, "activation_bytes", lambda backbone, phases: 2**60)
    monkeypatch.setattr(resources, "checkpointed_bytes", lambda backbone, phases: 0)
    with caplog.at_level(logging.INFO, "regraft"):
        first = regraft.train([*OPTIONS, "trainer.max_epochs=1"])
    assert "computes activations again" in caplog.text
    monkeypatch.undo()
    resumed = regraft.train([f"ckpt_path={first.path}", "trainer.max_epochs=2", "trainer.checkpoint_activations=false"])
    weights = [torch.load(run.last_ckpt, weights_only=True)["state_dict"] for run in (straight, resumed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


def test_compiled_stages_are_not_checkpointed(monkeypatch):
    monkeypatch.setattr("regraft.training.trainer.cpp_compiler", lambda: "/usr/bin/g++")
    words = ["trainer=cpu", "trainer.compile=true", "trainer.checkpoint_activations=true"]
    with pytest.raises(ConfigError, match=r"^trainer.checkpoint_activations: got true; .*trainer.compile=false"):
        build_trainer(plain(compose_once("train", words, None), words))
