"""Models of transformers as stages: the library's own hidden states, whatever an architecture passes between layers."""

import copy
import logging
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from regraft.core.text_spec import TextSpec
from regraft.core.types import Backbone
from regraft.features.fingerprint import stage_fingerprints
from regraft.models.backbones.text.layers import split
from regraft.models.backbones.text.library import new_model

VOCABULARY = 50
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "use_cache": False}
BERT = SMALL | {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
LLAMA = BERT | {"num_hidden_layers": 2, "num_key_value_heads": 2}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8, "share_att_key": True}

CONFIGS = {
    "bert": transformers.BertConfig(**BERT),
    "distilbert": transformers.DistilBertConfig(**SMALL, dim=32, n_layers=3, n_heads=4, hidden_dim=48),
    "roberta": transformers.RobertaConfig(**BERT),
    "gpt2": transformers.GPT2Config(**SMALL, n_embd=32, n_layer=3, n_head=4),
    # Every third layer attends to all tokens, the others to 2 on each side.
    "modernbert": transformers.ModernBertConfig(**BERT | {"num_hidden_layers": 4}, local_attention=4, pad_token_id=0),
    "t5": transformers.T5Config(**SMALL, d_model=32, d_kv=8, d_ff=48, num_layers=3, num_heads=4),
    "deberta": transformers.DebertaV2Config(**BERT, **DEBERTA, norm_rel_ebd="layer_norm"),
    "mpnet": transformers.MPNetConfig(**BERT),
    "mistral": transformers.MistralConfig(**LLAMA, sliding_window=4),
}
CAUSAL = ("gpt2", "mistral")


@dataclass(frozen=True)
class Made:
    """A model of the library, and its stages."""

    model: nn.Module
    stages: dict[str, nn.Module]
    pool: str


@cache
def made(name: str) -> Made:
    torch.manual_seed(0)
    model = new_model(CONFIGS[name]).eval()
    stages, pool = split(copy.deepcopy(model), None, name)
    return Made(model, stages, pool)


@pytest.fixture(params=CONFIGS)
def case(request) -> Made:
    return made(request.param)


def ids_of(length: int = 12) -> Tensor:
    """Returns three texts of 12, 7 and 10 tokens, padded."""
    ids = torch.randint(5, VOCABULARY, (3, 12), generator=torch.Generator().manual_seed(0))
    ids[1, 7:], ids[2, 10:] = -1, -1
    return nn.functional.pad(ids, (0, length - 12), value=-1)


def outputs(stages: dict[str, nn.Module], ids: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    for stage in stages.values():
        found.append(stage(found[-1] if found else ids))
    return found


def hidden_of(model: Any, ids: Tensor) -> Tensor:
    """Returns the library's own hidden states of a padded batch."""
    padding = model.config.pad_token_id
    padding = padding if padding is not None and 0 <= padding < VOCABULARY else 0
    mask = ids >= 0
    return model(input_ids=ids.masked_fill(~mask, padding), attention_mask=mask.long()).last_hidden_state


@torch.no_grad()
def test_features_are_the_librarys_pooled_by_hand(case):
    ids = ids_of()
    hidden, mask = hidden_of(case.model, ids), ids >= 0
    mean = torch.stack([states[own].mean(0) for states, own in zip(hidden, mask, strict=True)])
    expected = hidden[range(3), mask.sum(1) - 1] if case.pool == "last" else mean
    torch.testing.assert_close(outputs(case.stages, ids)[-1], expected, rtol=0, atol=1e-5)


def test_causal_models_are_pooled_by_the_last_token():
    assert {name for name in CONFIGS if made(name).pool == "last"} == set(CAUSAL)


def test_stages_are_embeddings_each_layer_and_the_pooling(case):
    num_layers = case.model.config.num_hidden_layers  # type: ignore[union-attr]
    assert list(case.stages) == ["embeddings", *(f"layer{index}" for index in range(num_layers)), "pool"]


@torch.no_grad()
def test_hidden_states_are_zero_at_padding_and_only_there(case):
    ids = ids_of()
    for hidden in outputs(case.stages, ids)[:-1]:
        assert torch.equal(hidden.any(-1), ids >= 0)


@torch.no_grad()
@pytest.mark.parametrize("length", [32, 64])
def test_features_do_not_depend_on_the_padding(case, length):
    expected = outputs(case.stages, ids_of())[-1]
    torch.testing.assert_close(outputs(case.stages, ids_of(length))[-1], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_features_do_not_depend_on_other_texts(case):
    ids = ids_of()
    alone = torch.cat([outputs(case.stages, text[text >= 0][None])[-1] for text in ids])
    torch.testing.assert_close(alone, outputs(case.stages, ids)[-1], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_text_without_tokens_has_features(case):
    ids = torch.full((2, 8), -1)
    ids[1] = 7
    assert outputs(case.stages, ids)[-1].isfinite().all()


def test_every_tensor_is_in_one_stage_under_the_librarys_name(case):
    owned = [id(each) for stage in case.stages.values() for each in (*stage.parameters(), *stage.buffers())]
    assert len(owned) == len(set(owned))
    names = {name.removeprefix("model.") for stage in case.stages.values() for name, _ in stage.named_parameters()}
    assert names == {name for name, _ in case.model.named_parameters()}


def test_all_parameters_learn_and_those_of_frozen_stages_do_not(case):
    stages = copy.deepcopy(nn.ModuleDict(case.stages)).train()
    frozen = ["embeddings", "layer0"]
    for name in frozen:
        stages[name].eval().requires_grad_(False)
    outputs(dict(stages.items()), ids_of())[-1].square().sum().backward()
    for name, stage in stages.items():
        assert all((each.grad is None) == (name in frozen) for each in stage.parameters()), name


def test_dropout_is_that_of_training(case):
    stages = copy.deepcopy(nn.ModuleDict(case.stages))
    for name, stage in list(stages.items())[:-1]:
        inputs = ids_of() if name == "embeddings" else outputs(case.stages, ids_of())[0]
        if not any(isinstance(each, nn.Dropout) and each.p for each in stage.modules()):
            assert type(case.model).__name__.startswith(("ModernBert", "Mistral"))
            continue
        assert torch.equal(stage.eval()(inputs), stage(inputs)), name
        assert not torch.equal(stage.train()(inputs), stage(inputs)), name


@torch.no_grad()
def test_a_copy_is_equal_and_independent(case):
    stages, ids = copy.deepcopy(nn.ModuleDict(case.stages)), ids_of()
    expected = outputs(case.stages, ids)[-1]
    assert torch.equal(outputs(dict(stages.items()), ids)[-1], expected)
    for parameter in stages.parameters():
        parameter.zero_()
    assert torch.equal(outputs(case.stages, ids)[-1], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "deberta"])  # it reads positions' values
def test_shapes_are_found_without_computing(name):
    stages = copy.deepcopy(nn.ModuleDict(made(name).stages)).to("meta")
    shapes = [
        tuple(each.shape)
        for each in outputs(dict(stages.items()), torch.zeros(2, 16, dtype=torch.int64, device="meta"))
    ]
    assert shapes == [(2, 16, 32)] * (len(stages) - 1) + [(2, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "gpt2", "t5"])
@torch.no_grad()
def test_a_program_of_any_batch_and_length_is_exact(name):
    backbone = Backbone(made(name).stages, 32, TextSpec(64))
    sizes = {0: torch.export.Dim("batch", min=1, max=64), 1: torch.export.Dim("length", min=2, max=64)}
    program = torch.export.export(backbone, (ids_of(),), dynamic_shapes=(sizes,), strict=False).module()
    whole = torch.full((2, 7), 9)
    for ids in (ids_of(), ids_of(20)[:2], whole):
        torch.testing.assert_close(program(ids), backbone(ids), rtol=0, atol=1e-6)


def test_fingerprints_are_those_of_what_a_stage_computes_with():
    case = made("t5")
    before = stage_fingerprints(case.stages)
    changed = copy.deepcopy(nn.ModuleDict(case.stages))
    assert stage_fingerprints(dict(changed.items())) == before
    with torch.no_grad():  # which later layers use, too
        next(each for name, each in changed["layer0"].named_parameters() if "relative_attention_bias" in name).add_(1)
    same = [one == other for one, other in zip(stage_fingerprints(dict(changed.items())), before, strict=True)]
    assert same == [True, False, False, False, True]


@torch.no_grad()
def test_positions_are_exact_in_bfloat16():
    stages = nn.ModuleDict(copy.deepcopy(made("mistral").stages)).bfloat16()
    rotary: Any = next(each for each in stages["layer1"].modules() if hasattr(each, "inv_freq"))
    assert rotary.inv_freq.dtype == torch.float32


def test_a_model_of_shared_layers_is_one_stage(caplog):
    config = transformers.AlbertConfig(**BERT, embedding_size=16)
    torch.manual_seed(0)
    model = new_model(config).eval()
    with caplog.at_level(logging.WARNING):
        stages, pool = split(model, None, "albert")
    assert list(stages) == ["backbone"]
    assert "albert can't be split into layers" in caplog.text
    assert pool == "mean"
    ids = ids_of()
    with torch.no_grad():
        torch.testing.assert_close(stages["backbone"](ids)[0], hidden_of(model, ids)[0].mean(0))
