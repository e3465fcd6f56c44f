import pytest
import torch

from regraft.core.errors import ConfigError
from regraft.training.closed_form.scaling import fit_scaling


def test_a_stage_has_mean_0_and_mean_squared_length_1_whatever_its_width():
    features = {"narrow": torch.randn(50, 3) * 7 + 2, "wide": torch.randn(50, 40) * 0.1 - 5}
    scaling = fit_scaling(features, clip=torch.inf)
    for stage, rows in features.items():
        scaled = scaling(stage, rows)
        assert scaled.dtype == torch.float64
        torch.testing.assert_close(scaled.mean(0), torch.zeros(rows.shape[1], dtype=torch.float64), rtol=0, atol=1e-9)
        assert scaled.square().sum(1).mean().item() == pytest.approx(1)


def test_a_constant_feature_becomes_0():
    rows = torch.cat([torch.full((6, 1), 0.1), torch.randn(6, 1)], dim=1)
    scaled = fit_scaling({"block0": rows})("block0", torch.cat([rows, torch.tensor([[9.0, 0.0]])]))
    assert (scaled[:, 0] == 0).all()
    assert scaled.isfinite().all()


def test_outliers_are_cut_back():
    rows = torch.randn(100, 4)
    scaled = fit_scaling({"stem": rows}, clip=2.0)("stem", rows * 1e6)
    assert scaled.abs().max().item() == pytest.approx(2.0 / 2)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_features_that_are_not_finite_are_named_by_stage(bad):
    broken = torch.randn(5, 3)
    broken[[1, 3], 2] = bad
    with pytest.raises(ConfigError, match="stage block1 are NaN or infinite for 2 of 5 samples"):
        fit_scaling({"block0": torch.randn(5, 3), "block1": broken})
