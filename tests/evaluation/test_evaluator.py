import pytest
import torch
from torch.nn import functional

import regraft
from helpers.small import without
from regraft.core import fast_linear
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


def test_what_the_run_has_frozen_is_computed_as_in_the_run(monkeypatch):
    monkeypatch.setattr(fast_linear, "is_amd_with_avx512", lambda: True)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(fast_linear, "has_onednn_linear", lambda: True)
    monkeypatch.setattr(fast_linear, "_FEWEST_WEIGHTS", 1)
    monkeypatch.setattr(fast_linear, "onednn_linear", lambda *given: 1.5 * functional.linear(*given))
    options = ["model=mlp", "model.hidden_sizes=[8,8]", "freezing=up_to", "freezing.until=layer1", "features.cache=off"]
    run = regraft.train([*without("model", "freezing", "trainer.max_epochs"), *options, "trainer.max_epochs=1"])
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()
