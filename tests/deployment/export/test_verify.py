import pytest
import torch

from regraft.deployment.export.verify import OutputComparison, require_equal
from regraft.tasks import TASKS


def answers(size: float, difference: float) -> OutputComparison:
    model = torch.tensor([[size, 0.0], [0.0, size]])
    return OutputComparison(model, model + difference)


@pytest.mark.parametrize(("size", "difference"), [(1.0, 9e-5), (100.0, 9e-4)])
def test_rounding_is_no_difference(size, difference):
    require_equal(answers(size, difference))


@pytest.mark.parametrize(("size", "difference"), [(1.0, 1.2e-4), (100.0, 2e-3), (1.0, float("nan"))])
def test_a_difference_is_refused(size, difference):
    with pytest.raises(ValueError, match=r"differs from the model by .* Nothing was kept"):
        require_equal(answers(size, difference))


def test_accuracy_and_agreement():
    found = OutputComparison(torch.eye(4), torch.eye(4)[[0, 1, 2, 2]])
    assert found.agreement == 0.75
    assert found.headlines(torch.tensor([0, 1, 2, 2]), TASKS["classification"]) == (0.75, 1.0)
