import subprocess
import sys

import numpy as np
import pytest

from regraft.data.images.samples import ArrayImages
from regraft.data.sources import digits
from regraft.data.sources.digits import DigitsSource


def test_equals_scikit_learns_own_loader() -> None:
    from sklearn.datasets import load_digits

    expected = load_digits()
    splits = DigitsSource().splits()

    assert isinstance(splits.train, ArrayImages)
    assert splits.test is None
    assert np.array_equal(splits.train.pixels[:, 0].numpy(), np.round(expected.images * 255 / 16))
    assert np.array_equal(splits.train.labels.numpy(), expected.target)
    assert splits.class_names == tuple(str(name) for name in expected.target_names)


def test_reads_without_importing_scikit_learn() -> None:
    code = (
        "import sys; from regraft.data.sources.digits import DigitsSource; s = DigitsSource(); s.prepare(); "
        "s.splits(); "
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_scikit_learn_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda _name: None)

    with pytest.raises(FileNotFoundError, match="Run pip install scikit-learn"):
        DigitsSource().prepare()
