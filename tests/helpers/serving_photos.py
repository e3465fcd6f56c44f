"""A model that is made in no time, and photos for it."""

import io
import time
from pathlib import Path

import torch
from PIL import Image

from regraft.core.image_spec import ImageSpec
from regraft.core.types import Backbone
from regraft.deployment.classifier import Classifier
from regraft.deployment.network import Network
from regraft.deployment.serve.limits import Limits

LIMITS = Limits(
    max_megabytes=0.2, max_photos=3, max_megapixels=0.01, max_waiting=2, upload_seconds=5, decode_seconds=30
)


def colour_model() -> Classifier:
    """Returns a model that answers with a image's strongest colour."""

    class Mean(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3))

    head = torch.nn.Linear(3, 3, bias=False)
    head.weight.data = 20 * torch.eye(3)
    spec = ImageSpec(8, 3, (0.5,) * 3, (0.5,) * 3, eval_view="center_crop")
    network = Network(Backbone({"mean": Mean()}, 3, spec), head).eval()
    return Classifier(network, ("red", "green", "blue"), spec, 2.0, Path("best.ckpt"))


def photo(colour: str = "red", size: tuple[int, int] = (20, 10), kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, kind)
    return buffer.getvalue()


def hang(*_: object) -> None:
    """Runs for ever, in the place of what a process is started for."""
    time.sleep(600)
