import pytest
import torch

from regraft.training.hardware import precision


@pytest.mark.parametrize("wanted", [None, "medium"])
def test_products_have_the_precision_inside_the_block_only(wanted):
    before = torch.get_float32_matmul_precision()
    with precision.matmul_precision({"trainer": {"matmul_precision": wanted}}):
        assert torch.get_float32_matmul_precision() == (wanted or before)
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(
    ("chosen", "device", "has_bfloat16", "is_emulated", "would_be_faster"),
    [
        ("bf16-mixed", "cpu", False, True, False),
        ("bf16-true", "cpu", False, True, False),
        ("bf16-mixed", "cpu", True, False, False),
        ("bf16-mixed", "cpu", None, False, False),
        ("bf16-mixed", "cuda", False, False, False),
        ("32-true", "cpu", False, False, False),
        ("32-true", "cpu", None, False, False),
        ("32-true", "cpu", True, False, True),
        (32, "cpu", True, False, True),
        ("32-true", "cuda", True, False, False),
        ("64-true", "cpu", True, False, False),
    ],
)
def test_notes_on_bfloat16(chosen, device, has_bfloat16, is_emulated, would_be_faster, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_bfloat16)
    given = {"trainer": {"precision": chosen}}, torch.device(device)
    assert (precision.emulation_note(*given) is not None) is is_emulated
    assert (precision.bfloat16_note(*given) is not None) is would_be_faster
