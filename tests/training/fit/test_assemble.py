"""What a training warns of and says once its parts are put together."""

import pytest

from helpers.small import assembled, without
from regraft.config import compose


@pytest.mark.parametrize(
    ("overrides", "is_warned_of"),
    [
        (["trainer.devices=2"], True),
        (["trainer.devices=1"], False),
        (["trainer.devices=2", "model.batch_norm=false"], False),
        (["trainer.devices=2", "freezing.keeps_statistics=true"], False),
    ],
)
def test_batch_norms_of_a_part_of_the_samples_are_warned_of(overrides, is_warned_of, caplog):
    words = [*without("trainer.max_epochs"), "trainer.max_epochs=2", "fitting=steps", *overrides]
    assembled(compose.plain(compose.compose_once("train", words, None)))
    said = [record.getMessage() for record in caplog.records if "BatchNorms of" in record.getMessage()]
    assert bool(said) is is_warned_of
    if said:
        assert said[0].startswith("The BatchNorms of conv1, conv2, conv3 normalise by the")
