"""What tests share: small runs that are made once, and Hydra's state put back after each test."""

import ctypes
import gc
import logging
import os
from collections.abc import Iterator

import pytest
import torch

import regraft
from helpers.composed_once import compose_shipped_once
from helpers.small import SMALL
from regraft.runs.folder import Run

# Tiny models: threads cost more than they bring, and tests share the machine.
torch.set_num_threads(1)
# Starts autograd's threads, of which there are none without a GPU. Fake tensors, as in torch.export, add a stand-in for
# one, and once a first backward pass has started its thread, no forked process can compute gradients.
torch.ones(1, requires_grad=True).sum().backward()
# How long a loader process that reported an error is waited for when its loader is thrown away.
torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL = 0.2


def pytest_collection_finish() -> None:
    """Keeps the half a million objects that imports made out of each garbage collection to come."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _shipped_configs_are_composed_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        compose_shipped_once(patch)
        yield


@pytest.fixture(scope="module", autouse=True)
def _memory_is_given_back() -> Iterator[None]:
    """Returns what a file's models took to the system, which glibc keeps in pieces between what is still used."""
    yield
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGRAFT_CACHE", str(tmp_path / "cache"))
    # Files are to outlive a process that is killed, which they do without it; no test cuts the power.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    root = logging.getLogger()
    handlers = root.handlers[:]
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:] = handlers


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> Run:
    """A finished run of two epochs."""
    folder = tmp_path_factory.mktemp("small")
    return regraft.train([*SMALL, f"output_dir={folder}"])
