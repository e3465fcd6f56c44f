"""The model card of an exported folder of a model of texts, with a snippet that loads it."""

from huggingface_hub import ModelCardData

from regraft.core.text_spec import TextSpec
from regraft.data.findings import readable
from regraft.deployment.export.metadata import ExportMetadata
from regraft.tasks import task_of

_MAX_NAMES = 50
_TASK = "text-classification"


def text_card(metadata: ExportMetadata) -> str:
    """Returns the model card."""
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
        "classification": "the probabilities of the classes",
        "multilabel": "the probabilities of the labels",
        "regression": "the values",
    }[metadata.task]
    return f"""---
{card.to_yaml()}
---

# `{_in_code(metadata.run)}`

A model of texts trained with Regraft {metadata.version} on `{_in_code(metadata.data)}`, of {len(names)} {noun}:
{listed}.

{measured}## Use

    import sys

    sys.path.insert(0, "PATH")
    from classify import Classifier

    model = Classifier("PATH")
    outputs = model(["a text"])

`outputs` are {outputs}, (num_texts, {len(names)}), in the order of `model.names`; `python classify.py "a text"` prints
them. The code in `classify.py` needs torch, transformers and safetensors alone: it runs `AutoModel` and applies the
head in `head.safetensors` to the pooled outputs of its layers. No class of transformers has such a head:
`AutoModelForSequenceClassification` would begin with a random one.

`AutoModel` and `AutoTokenizer` load the backbone alone; its features are those of
`sentence_transformers.SentenceTransformer("PATH").encode(["a text"])`.
"""


def _in_code(text: str) -> str:
    return readable(text).replace("`", "'")
