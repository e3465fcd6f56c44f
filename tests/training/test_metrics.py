import pytest
import torch

from regraft.tasks import TASKS
from regraft.training.metrics import MeanLoss, logged_metrics


def test_values_match_the_definitions_by_hand():
    metrics = logged_metrics(TASKS["classification"], 3)
    predicted = torch.tensor([0, 0, 1, 1, 0, 1])
    targets = torch.tensor([0, 0, 0, 1, 1, 2])
    for batch in (slice(0, 2), slice(2, 6)):
        metrics.update(torch.nn.functional.one_hot(predicted[batch], 3).float(), targets[batch])
    values = {name: value.item() for name, value in metrics.compute().items()}
    precision = [2 / 3, 1 / 3, 0.0]
    recall = [2 / 3, 1 / 2, 0.0]
    f1 = [2 / 3, 0.4, 0.0]
    assert values == pytest.approx(
        {"acc": 3 / 6, "precision": sum(precision) / 3, "recall": sum(recall) / 3, "f1": sum(f1) / 3}
    )


def test_a_class_that_never_turns_up_is_left_out_of_macro_means():
    metrics = logged_metrics(TASKS["classification"], 4)
    metrics.update(torch.eye(4)[[0, 1]], torch.tensor([0, 1]))
    assert metrics.compute()["f1"].item() == 1.0


def test_two_classes_count_as_multi_class():
    metrics = logged_metrics(TASKS["classification"], 2)
    metrics.update(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
    assert set(metrics.keys()) == {"acc", "precision", "recall", "f1"}
    assert metrics.compute()["recall"].item() == 0.5


@pytest.mark.parametrize(("num_classes", "has_top5"), [(5, False), (6, True)])
def test_top5_needs_more_than_five_classes(num_classes, has_top5):
    assert ("top5" in logged_metrics(TASKS["classification"], num_classes)) is has_top5


def test_acc_and_top5_part_after_a_first_batch_in_which_they_agree():
    metrics = logged_metrics(TASKS["classification"], 7).clone(prefix="val/")
    metrics.update(torch.eye(7), torch.arange(7))
    ranked = torch.tensor([[6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]]).repeat(7, 1)
    metrics.update(ranked, torch.arange(7))
    values = metrics.compute()
    assert values["val/acc"].item() == pytest.approx(8 / 14)
    assert values["val/top5"].item() == pytest.approx(12 / 14)


def test_reset_starts_over():
    metrics = logged_metrics(TASKS["classification"], 6)
    metrics.update(torch.eye(6), torch.zeros(6, dtype=torch.int64))
    metrics.reset()
    metrics.update(torch.eye(6), torch.arange(6))
    assert all(value.item() == 1.0 for value in metrics.compute().values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_mean_loss_of_many_samples_is_exact_in_a_module_of_half_precision(dtype):
    loss = MeanLoss()
    torch.nn.ModuleList([loss]).to(dtype=dtype)
    for _ in range(2):
        loss.reset()
        for _ in range(2100):  # samples beyond what float16 counts to
            loss.update(torch.tensor(32 * 1.5, dtype=dtype), torch.tensor(32.0, dtype=dtype))
        assert loss.compute().item() == 1.5
