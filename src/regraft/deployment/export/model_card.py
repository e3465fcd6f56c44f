"""The model card of an exported folder, Markdown with the Hugging Face hub's metadata at the top."""

import re
from typing import Any, NamedTuple

import timm
import torchvision
from huggingface_hub import EvalResult, ModelCardData

from regraft.core.image_spec import ImageSpec
from regraft.data.findings import readable
from regraft.deployment.export.metadata import ExportMetadata
from regraft.tasks import task_of

LITE = "regraft.models.backbones.efficientnet_lite."
_TIMM, _TORCHVISION = ("regraft.models.backbones.timm.build", "regraft.models.backbones.torchvision.build")
_HUB_DATA = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
_METRICS = {"acc": "accuracy"}
_TASK = "image-classification"
_KINDS = {
    "classification": "An image classifier",
    "multilabel": "A classifier of images with several labels",
    "regression": "A model that predicts numbers from images",
}
_MAX_CLASSES = 50


class BaseModel(NamedTuple):
    """A model of the hub: its id, and its licence, None if it isn't known."""

    name: str
    license: str | None


def base_model(metadata: ExportMetadata) -> BaseModel | None:
    """Returns the model whose weights training started from; None if the hub doesn't have it, or they were random."""
    target, name = metadata.architecture["_target_"], str(metadata.architecture.get("name"))
    weights = metadata.weights
    if weights is None:
        return None
    if target.startswith(LITE) and weights == "imagenet":
        return _of_timm(f"tf_{target.removeprefix(LITE)}")
    if target == _TIMM and weights == "DEFAULT":
        return BaseModel(name.removeprefix("hf-hub:"), None) if name.startswith("hf-hub:") else _of_timm(name)
    if target == _TORCHVISION and name in torchvision.models.list_models():
        presets = torchvision.models.get_model_weights(name)
        tags = {"IMAGENET1K_V1": "tv_in1k", "IMAGENET1K_V2": "tv2_in1k"}
        preset = getattr(presets, weights, None)
        return None if preset is None else _of_timm(f"{name}.{tags.get(preset.name)}")
    return None


def _of_timm(name: str) -> BaseModel | None:
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # timm has no such model, or no such tag of it
        return None
    return None if config is None or not config.hf_hub_id else BaseModel(config.hf_hub_id, config.license)


def model_card(metadata: ExportMetadata) -> str:
    """Returns the model card."""
    spec, base, task = metadata.input_spec, base_model(metadata), task_of(metadata.task)
    assert isinstance(spec, ImageSpec), "timm's models are of images"
    names = metadata.class_names
    more = f", and {len(names) - _MAX_CLASSES} more (config.json has them all)" if len(names) > _MAX_CLASSES else ""
    listed = ", ".join(f"`{_in_code(name)}`" for name in names[:_MAX_CLASSES]) + more
    metrics = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metadata.metrics.items()))
    measured = f"## Metrics\n\n| metric | value |\n|---|---|\n{metrics}\n\n" if metrics else ""
    is_square = spec.eval_view == "square" or spec.crop_mode == "squash"
    view = "resized to a square" if is_square else "resized, and its central square cut out"
    origin = "random weights" if metadata.weights is None else f"the weights `{_in_code(metadata.weights)}`"
    started = f"[{base.name}](https://huggingface.co/{base.name})" if base is not None else origin
    return f"""---
{_metadata(metadata, base).to_yaml()}
---

# `{_in_code(metadata.run)}`

{_KINDS[metadata.task]} trained with Regraft {metadata.version} on `{_in_code(metadata.data)}`, from {started}.
{_license_sentence(metadata, base)}

{len(names)} {task.nouns if len(names) > 1 else task.noun}: {listed}.{_units(metadata)}

{measured}## Use

    import timm

    model = timm.create_model("local-dir:PATH", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
{_outputs(metadata)}

An image is {view}: {spec.image_size} x {spec.image_size} pixels, {spec.num_channels} channel(s), {spec.interpolation}.
The {task.noun} of each index is in `config.json` under `label_names`.
"""


def _outputs(metadata: ExportMetadata) -> str:
    """Returns the lines of Python that use the model."""
    inputs = "transform(image)[None]"
    if not task_of(metadata.task).has_confidences:
        return f"    values = model({inputs})"
    function = "softmax(1)" if task_of(metadata.task).has_classes else "sigmoid()"
    return f"    logits = model({inputs})\n    probabilities = (logits / {metadata.temperature:.6g}).{function}"


def _units(metadata: ExportMetadata) -> str:
    return f" The unit is `{_in_code(metadata.unit)}`." if metadata.unit else ""


def _metadata(metadata: ExportMetadata, base: BaseModel | None) -> ModelCardData:
    """Returns what the hub reads."""
    license_ = _license(metadata, base)
    # The hub knows the names of common licences; of any other it takes the name apart.
    named = license_.endswith("-license")
    fields: dict[str, Any] = {"license": "other", "license_name": license_} if named else {"license": license_}
    if base is not None:
        fields["base_model"] = base.name
    if (data := _hub_id(metadata.data)) is not None:
        fields["datasets"] = [data]
    results = _results(metadata)
    if results:
        fields |= {"model_name": metadata.run, "eval_results": results}
    if task_of(metadata.task).has_confidences:
        fields["pipeline_tag"] = _TASK  # the hub has none of numbers
    return ModelCardData(library_name="timm", tags=[_type(metadata), "timm", "regraft"], **fields)


def _type(metadata: ExportMetadata) -> str:
    return _TASK if task_of(metadata.task).has_confidences else "image-regression"


def _results(metadata: ExportMetadata) -> list[EvalResult]:
    """Returns the metrics in the hub's format, which has the data set of each."""
    return [
        EvalResult(
            task_type=_type(metadata),
            dataset_type=_hub_id(metadata.data) or metadata.data,
            dataset_name=metadata.data,
            dataset_split=name.partition("/")[0],
            metric_type=_METRICS.get(name.partition("/")[2], name.partition("/")[2]),
            metric_value=value,
        )
        for name, value in sorted(metadata.metrics.items())
    ]


def _hub_id(data: str) -> str | None:
    """Returns the hub's id of a data set; None if the hub doesn't have it."""
    return data if re.fullmatch(r"[\w.-]+/[\w.-]+", data) else _HUB_DATA.get(data)


def _license(metadata: ExportMetadata, base: BaseModel | None) -> str:
    return metadata.license or (None if base is None else base.license) or "unknown"


def _license_sentence(metadata: ExportMetadata, base: BaseModel | None) -> str:
    chosen = _license(metadata, base)
    if metadata.license is None and chosen != "unknown":
        return f"Licence: {chosen}, that of the weights it started from; that of the data isn't considered."
    return f"Licence: {chosen}." if chosen != "unknown" else "Licence: not known."


def _in_code(text: str) -> str:
    """Returns text that stays between two backticks."""
    return readable(text).replace("`", "'")
