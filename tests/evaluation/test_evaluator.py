import pytest
import torch

from regraft.evaluation.evaluator import _are_outputs

LOGITS = torch.zeros(4, 3)
CLASSES, LABELS = torch.tensor([0, 1, 2, 2]), torch.zeros(4, 3)


@pytest.mark.parametrize("targets", [CLASSES, LABELS])
def test_outputs_of_cross_validation_are_taken(targets):
    assert _are_outputs({"logits": LOGITS, "targets": targets, "by": "leave-one-out"}, 3)


@pytest.mark.parametrize(
    "kept",
    [
        [LOGITS, CLASSES],
        {"logits": LOGITS},
        {"logits": LOGITS.tolist(), "targets": CLASSES},
        {"logits": LOGITS.bfloat16(), "targets": CLASSES},
        {"logits": LOGITS[:, :2], "targets": CLASSES},
        {"logits": LOGITS[0], "targets": torch.tensor(0)},
        {"logits": LOGITS, "targets": CLASSES[:3]},
        {"logits": LOGITS, "targets": CLASSES + 1},
        {"logits": LOGITS, "targets": CLASSES - 1},
        {"logits": LOGITS, "targets": CLASSES.float()},
        {"logits": LOGITS, "targets": LABELS[:, :2]},
    ],
)
def test_outputs_of_a_damaged_checkpoint_are_refused(kept):
    assert not _are_outputs(kept, 3)
