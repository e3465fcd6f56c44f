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
    ("chosen", "device", "has_bfloat16", "is_noted"),
    [
        ("bf16-mixed", "cpu", False, True),
        ("bf16-true", "cpu", False, True),
        ("bf16-mixed", "cpu", True, False),
        ("bf16-mixed", "cpu", None, False),
        ("bf16-mixed", "cuda", False, False),
        ("32-true", "cpu", False, False),
    ],
)
def test_emulated_bfloat16_is_noted(chosen, device, has_bfloat16, is_noted, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_bfloat16)
    note = precision.emulation_note({"trainer": {"precision": chosen}}, torch.device(device))
    assert (note is not None) is is_noted


@pytest.mark.parametrize(
    ("chosen", "device", "has_bfloat16", "is_noted"),
    [
        ("32-true", "cpu", True, True),
        (32, "cpu", True, True),
        ("32-true", "cpu", False, False),
        ("32-true", "cpu", None, False),
        ("32-true", "cuda", True, False),
        ("bf16-mixed", "cpu", True, False),
        ("64-true", "cpu", True, False),
    ],
)
def test_bfloat16_in_hardware_is_noted(chosen, device, has_bfloat16, is_noted, monkeypatch):
    monkeypatch.setattr(precision, "has_bfloat16", lambda: has_bfloat16)
    note = precision.bfloat16_note({"trainer": {"precision": chosen}}, torch.device(device))
    assert (note is not None) is is_noted
