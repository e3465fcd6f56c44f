import io
import math

import pytest
from rich.console import Console
from torch import nn

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.models.freezing import LPFT, Gradual, LinearProbe
from regraft.training.optim.parameter_groups import parameter_groups
from regraft.training.stage_table import StageRow, render, stage_rows


@pytest.fixture
def backbone():
    stages = {"stem": nn.Linear(3, 4), "pool": nn.Identity(), "top": nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2))}
    return Backbone(stages, num_features=2, input_spec=ImageSpec(8))


def rows_of(backbone, strategy, max_epochs=4):
    groups = parameter_groups(backbone, nn.Linear(2, 5), weight_decay=0.1, decay_norm_and_bias=False)
    return stage_rows(groups, backbone.stage_names, strategy, lr=0.01, max_epochs=max_epochs)


def test_rows_say_what_trains_from_when_at_what_rate(backbone):
    assert rows_of(backbone, Gradual(epochs_per_stage=1)) == [
        StageRow("stem", num_parameters=16, num_decayed=12, weight_decay=0.1, lr_by_epoch=((3, 0.01),)),
        StageRow("pool", num_parameters=0, num_decayed=0, weight_decay=0.0, lr_by_epoch=()),
        StageRow("top", num_parameters=14, num_decayed=8, weight_decay=0.1, lr_by_epoch=((1, 0.01),)),
        StageRow("head", num_parameters=15, num_decayed=10, weight_decay=0.1, lr_by_epoch=((0, 0.01),)),
    ]


def test_rows_follow_a_rate_that_changes_on_the_way(backbone):
    stem, _, _, head = rows_of(backbone, LPFT(None, finetune_factor=0.5, keeps_statistics=False))
    assert stem.lr_by_epoch == ((2, 0.005),)
    assert head.lr_by_epoch == ((0, 0.01), (2, 0.005))
    assert (stem.trains_from_epoch, head.trains_from_epoch) == (2, 0)


def test_an_optimizer_without_a_rate_shows_none(backbone):
    groups = parameter_groups(backbone, nn.Linear(2, 5), weight_decay=0.1, decay_norm_and_bias=False)
    rows = stage_rows(groups, backbone.stage_names, LinearProbe(), lr=math.nan, max_epochs=1)
    console = Console(file=io.StringIO(), width=200)
    console.print(render(rows))
    head = console.file.getvalue().splitlines()[-2]
    assert [cell.strip() for cell in head.strip("│").split("│")] == ["head", "15", "0", "-", "-"]


def test_the_table_shows_never_and_both_rates(backbone):
    console = Console(width=120, file=io.StringIO())
    console.print(render(rows_of(backbone, LinearProbe())))
    console.print(render(rows_of(backbone, LPFT(None, finetune_factor=0.5, keeps_statistics=False))))
    text = console.file.getvalue()
    assert "never" in text
    assert "0.01, 0.005 from 2" in text
    assert "0.1 on 66.7 %" in text
