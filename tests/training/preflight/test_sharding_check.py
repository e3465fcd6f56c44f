"""What is refused with weights that are divided among processes."""

import pytest
import torch
from torch import nn

from regraft.config import compose
from regraft.core.errors import ConfigErrors
from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.training.preflight.sharding_check import require_shardable


def check(*overrides, scalar=False):
    config = compose.plain(compose.compose_once("train", list(overrides), None), overrides)
    stage = nn.Linear(2, 2)
    if scalar:
        stage.gate = nn.Parameter(torch.tensor(1.0))
    require_shardable(config, Backbone({"only": stage}, 2, ImageSpec(4)), nn.Linear(2, 2))


WRONG = [
    ("trainer.precision=16-mixed", r"^trainer\.precision: got '16-mixed'; .* Use trainer\.precision=bf16-mixed\.$"),
    ("trainer.memory_format=channels_last", r"^trainer\.memory_format: .* Use trainer\.memory_format=auto\.$"),
    ("callbacks=ema", r"^callbacks\.ema: .* Leave it out\. Use trainer=ddp"),
    ("penalty.l1=0.1", r"^penalty\.l1: got 0\.1; .* Use optimizer\.weight_decay\. Use trainer=ddp"),
]


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_what_needs_whole_weights_is_refused_with_a_fix(override, message):
    with pytest.raises(ConfigErrors, match=message):
        check("trainer=fsdp", override)
    check("trainer=ddp", override)


def test_what_is_wrong_is_reported_together():
    with pytest.raises(ConfigErrors) as caught:
        check("trainer=fsdp", *(override for override, _ in WRONG), scalar=True)
    assert len(caught.value.exceptions) == len(WRONG) + 1
    check("trainer=fsdp")


def test_a_parameter_that_is_a_single_number_is_named():
    with pytest.raises(ConfigErrors, match=r"^model: its parameter stages\.only\.gate is a single number"):
        check("trainer=fsdp", scalar=True)
    check("trainer=auto", scalar=True)
