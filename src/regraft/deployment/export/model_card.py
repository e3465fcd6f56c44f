"""A model card: what an exported folder says to people."""

from huggingface_hub import ModelCardData

from regraft.data.images.validation.findings import readable
from regraft.deployment.export.metadata import Description

_MAX_CLASSES = 50


def model_card(description: Description) -> str:
    """Returns the card as Markdown, with the metadata that the Hugging Face hub reads on top."""
    spec = description.input_spec
    head = ModelCardData(
        library_name="timm", pipeline_tag="image-classification", tags=["image-classification", "timm", "regraft"]
    ).to_yaml()
    names = description.class_names
    more = f", and {len(names) - _MAX_CLASSES} more (config.json has them all)" if len(names) > _MAX_CLASSES else ""
    listed = ", ".join(f"`{_in_code(name)}`" for name in names[:_MAX_CLASSES]) + more
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(description.metrics.items()))
    measured = f"## Metrics\n\n| metric | value |\n|---|---|\n{metrics}\n\n" if metrics else ""
    view = "resized to a square" if description.eval_view == "square" else "resized, and its central square cut out"
    return f"""---
{head}
---

# `{_in_code(description.run)}`

An image classifier trained with Regraft {description.version}. {len(names)} classes: {listed}.

{measured}## Use

    import timm

    model = timm.create_model("local-dir:PATH", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    logits = model(transform(image)[None])
    probabilities = (logits / {description.temperature:.6g}).softmax(1)

A picture is {view}: {spec.image_size} x {spec.image_size} pixels, {spec.num_channels} channel(s), {spec.interpolation}.
The class of each index stands in `config.json` under `label_names`.
"""


def _in_code(text: str) -> str:
    """Returns text that stays between two backticks."""
    return readable(text).replace("`", "'")
