"""Exports a folder in the layout of the Hugging Face hub's timm models; nothing is uploaded.

`timm.create_model("local-dir:FOLDER", pretrained=True)` loads it, and so does `hf-hub:` after it has been pushed.
"""

from pathlib import Path
from typing import Any

import timm
from timm.models import save_for_hf

from regraft.core.errors import ConfigError
from regraft.core.image_spec import ImageSpec
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.linear import linear_tensors
from regraft.deployment.export.metadata import ExportMetadata
from regraft.deployment.export.model_card import LITE, model_card
from regraft.deployment.export.program import Runner
from regraft.models.from_config import MEMBERS
from regraft.tasks.rescaled import Rescaled

_NAMED = ("regraft.models.backbones.timm.build", "regraft.models.backbones.torchvision.build")
_ELSE = "Use format=onnx or format=torch_export for any network, or format=safetensors for its weights."


def write(model: Classifier, metadata: ExportMetadata, folder: Path) -> None:
    """Writes the weights, config.json and model card of a model on the CPU into an empty folder.

    Raises:
        ValueError: it isn't a timm model with one linear layer as its head.
    """
    spec = model.input_spec
    assert isinstance(spec, ImageSpec), "timm's models are of images"
    converted = _timm_model(model, spec, metadata)
    save_for_hf(
        converted,
        str(folder),
        model_config={
            "label_names": list(metadata.class_names),
            "pretrained_cfg": {"tag": ""},  # not the tag of the weights that training started from
            "regraft": {
                "version": metadata.version,
                "run": metadata.run,
                "task": metadata.task,
                "unit": metadata.unit,
                "temperature": metadata.temperature,
                "thresholds": metadata.named_thresholds,
            },
        },
        safe_serialization=True,
        data_config=_data_config(spec),
    )
    # safetensors makes its files readable by their owner only.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    (folder / "README.md").write_text(model_card(metadata), encoding="utf-8")


def runner(folder: Path) -> Runner:
    """Returns a function that runs a folder's model as loaded by timm."""
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def _timm_model(model: Classifier, spec: ImageSpec, metadata: ExportMetadata) -> Any:
    name = _timm_name(metadata)
    head = model.network.head
    classifier_tensors = linear_tensors(head)
    if classifier_tensors is None:
        name_of_head = type(head.head if isinstance(head, Rescaled) else head).__name__
        reason = f"timm's models end in one linear layer, this head is {name_of_head}"
        raise ConfigError("format=hf", reason, fix=_ELSE)
    options: dict[str, Any] = {"num_classes": len(model.class_names), "in_chans": spec.num_channels}
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size and config.input_size[-1] != spec.image_size:
        options["img_size"] = spec.image_size
    converted: Any = timm.create_model(name, **options)
    classifier = converted.pretrained_cfg.get("classifier")
    # A backbone's names are stages.<stage>.<timm's name>.
    tensors = {key.split(".", 2)[2]: tensor for key, tensor in model.network.backbone.state_dict().items()}
    tensors |= {f"{classifier}.{key}": tensor for key, tensor in classifier_tensors.items()}
    try:
        converted.load_state_dict(tensors)
    except RuntimeError as error:
        reason = f"the weights aren't those of timm's {name} with a linear head"
        raise ConfigError("format=hf", reason, fix=_ELSE) from error
    return converted.eval()


def _timm_name(metadata: ExportMetadata) -> str:
    if MEMBERS in metadata.architecture:
        num = len(metadata.architecture[MEMBERS])
        raise ConfigError("format=hf", f"a folder holds one network, and this ensemble has {num}", fix=_ELSE)
    target, name = metadata.architecture["_target_"], str(metadata.architecture.get("name"))
    if target.startswith(LITE):
        return f"tf_{target.removeprefix(LITE)}"
    if target in _NAMED and timm.is_model(name.partition(".")[0]):
        return name.partition(".")[0]
    what = name if target in _NAMED else target
    raise ConfigError("format=hf", got=what, allowed="timm's models, and torchvision's if timm has them too", fix=_ELSE)


def _data_config(spec: ImageSpec) -> dict[str, Any]:
    """Returns the preprocessing as timm's data config."""
    return {
        "input_size": (spec.num_channels, spec.image_size, spec.image_size),
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "crop_pct": 1.0 if spec.eval_view == "square" else spec.crop_fraction,
        "crop_mode": "squash" if spec.eval_view == "square" else spec.crop_mode,
    }
