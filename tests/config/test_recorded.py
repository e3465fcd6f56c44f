"""Commands that a folder keeps: what of them has to be typed again."""

from pathlib import Path

import pytest

from regraft.config.recorded import require_harmless_command, typed_again


def test_what_has_to_be_typed_again_makes_the_command_harmless(tmp_path):
    file = Path(tmp_path / "multirun.yaml")
    recorded = [
        *("data=digits", "optimizer.lr=1e-3,1e-2", "trust=[my_models]", "features.dir=/elsewhere"),
        *("model._target_=my_models.net", "+callbacks.mine={_target_:my_models.Own}"),
    ]
    again = typed_again(recorded, file)
    assert again == recorded[2:]
    require_harmless_command([each for each in recorded if each not in again], again, file)
    with pytest.raises(ValueError, match=r"given on the command line only.*add features.dir=/elsewhere"):
        require_harmless_command(recorded, ["trust=[my_models]"], file)
    assert typed_again(recorded[:2], file) == []
