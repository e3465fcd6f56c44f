import pickle
import urllib.error
from pathlib import Path

import pytest
import torch

from regraft.data.images.samples import ArrayImages
from regraft.data.sources import tree
from regraft.data.sources.cifar import CIFAR10Source, CIFAR100Source


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(tree, "urlopen", refuse)


def test_cifar10_pixels_labels_and_names(cifar10_root: Path) -> None:
    source = CIFAR10Source(root=str(cifar10_root), verify=False)
    source.prepare()
    splits = source.splits()
    entry = pickle.loads((cifar10_root / "cifar-10-batches-py/data_batch_2").read_bytes())

    assert isinstance(splits.train, ArrayImages)
    assert isinstance(splits.test, ArrayImages)
    assert splits.val is None
    assert splits.class_names == tuple(f"thing{i}" for i in range(10))
    assert splits.train.pixels.shape == (100, 3, 32, 32)
    assert splits.test.pixels.shape == (10, 3, 32, 32)
    assert torch.equal(splits.train.pixels[20:40].flatten(1), torch.from_numpy(entry["data"]))
    assert splits.train.labels[20:40].tolist() == entry["labels"]


@pytest.mark.parametrize(("labels", "num_classes"), [("fine", 100), ("coarse", 20)])
def test_cifar100_labels(cifar100_root: Path, labels: str, num_classes: int) -> None:
    splits = CIFAR100Source(root=str(cifar100_root), verify=False, labels=labels).splits()
    step = 100 // num_classes

    assert splits.class_names == tuple(f"{labels}{i}" for i in range(num_classes))
    assert splits.train.labels.tolist() == [(i % 100) // step for i in range(200)]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [i // step for i in range(100)]


@pytest.mark.parametrize("verify", [True, False])
def test_root_that_is_a_file(tmp_path: Path, verify: bool) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"^data\.root: got .*cifar-10-python\.tar\.gz, which is a file\. Use "):
        CIFAR10Source(root=str(tmp_path / "cifar-10-python.tar.gz"), verify=verify).prepare()


def test_unknown_labels_of_cifar100() -> None:
    with pytest.raises(ValueError, match=r"data\.labels: got 'medium'; allowed: fine, coarse"):
        CIFAR100Source(root="data", verify=True, labels="medium")


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_unverified_folder_with_a_missing_file_names_it(cifar10_root: Path, name: str) -> None:
    (cifar10_root / "cifar-10-batches-py" / name).unlink()

    with pytest.raises(FileNotFoundError, match=rf"lacks {name}, and with data\.verify=false"):
        CIFAR10Source(root=str(cifar10_root), verify=False).prepare()


@pytest.mark.usefixtures("no_network")
def test_other_checksums_are_refused_and_nothing_is_overwritten(cifar10_root: Path) -> None:
    before = {path: path.read_bytes() for path in (cifar10_root / "cifar-10-batches-py").iterdir()}

    with pytest.raises(ValueError, match=r"checksums don't fit data_batch_1.*Use data\.verify=false"):
        CIFAR10Source(root=str(cifar10_root), verify=True).prepare()

    assert {path: path.read_bytes() for path in (cifar10_root / "cifar-10-batches-py").iterdir()} == before


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_offline_choices_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"no route to host.*data=digits.*data\.root=PATH data\.verify=false"
    ) as it:
        CIFAR100Source(root=str(tmp_path), verify=True, labels="fine").prepare()
    assert "\n" not in str(it.value)
