"""The model card of an exported folder of a model of texts, with a snippet that loads it."""

from huggingface_hub import ModelCardData

from regraft.core.text_spec import TextSpec
from regraft.data.findings import readable
from regraft.deployment.export.metadata import ExportMetadata
from regraft.tasks import task_of

_POOLED = {
    "mean": "(hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)",
    "cls": "hidden[:, 0]",
    "last": "hidden[range(len(hidden)), mask.sum(1) - 1]",
}
_MAX_NAMES = 50
_TASK = "text-classification"


def text_card(metadata: ExportMetadata, pool: str) -> str:
    """Returns the model card.

    Args:
        pool: mean, cls or last.
    """
    spec, names, task = metadata.input_spec, metadata.class_names, task_of(metadata.task)
    assert isinstance(spec, TextSpec), "another modality has another card"
    noun = task.nouns if len(names) > 1 else task.noun
    more = f", and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    listed = ", ".join(f"`{_in_code(name)}`" for name in names[:_MAX_NAMES]) + more
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metadata.metrics.items()))
    measured = f"## Metrics\n\n| metric | value |\n|---|---|\n{metrics}\n\n" if metrics else ""
    card = ModelCardData(
        license=metadata.license or "unknown",
        library_name="transformers",
        pipeline_tag="feature-extraction",
        tags=[_TASK, "sentence-transformers", "regraft"],
    )
    outputs = {
        "classification": f"(logits / {metadata.temperature:.6g}).softmax(1)",
        "multilabel": f"(logits / {metadata.temperature:.6g}).sigmoid()",
        "regression": "logits",
    }[metadata.task]
    return f"""---
{card.to_yaml()}
---

# `{_in_code(metadata.run)}`

A model of texts trained with Regraft {metadata.version} on `{_in_code(metadata.data)}`, of {len(names)} {noun}:
{listed}.

{measured}## Use

    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained("PATH"), AutoModel.from_pretrained("PATH").eval()
    head = load_file("PATH/head.safetensors")
    batch = tokenizer(["a text"], padding=True, truncation=True, max_length={spec.max_length}, return_tensors="pt")
    mask = batch["attention_mask"]
    with torch.inference_mode():
        hidden = model(input_ids=batch["input_ids"], attention_mask=mask).last_hidden_state
        logits = ({_POOLED[pool]}) @ head["weight"].T + head["bias"]
    outputs = {outputs}

The names of the outputs are `model.config.id2label`. The features alone are those of
`sentence_transformers.SentenceTransformer("PATH").encode(["a text"])`.
"""


def _in_code(text: str) -> str:
    return readable(text).replace("`", "'")
