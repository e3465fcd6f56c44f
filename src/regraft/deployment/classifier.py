"""A trained model as it is used: a backbone with its head, what it is fed, and its classes.

Where it is read from is `build`'s business; which pictures it is asked about, and what becomes of the answers, is that
of `predicting`, `exporting` and `serving`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from regraft.core.types import Backbone, EvalView, InputSpec
from regraft.data.images.transforms.batch import eval_view_of_arrays, match_channels
from regraft.data.images.transforms.mixing import normalise

if TYPE_CHECKING:
    from regraft.deployment.predict.results import Prediction
    from regraft.deployment.predict.tta import Tta


class Network(nn.Module):
    """From normalised images to logits; its tensors have the names that they have in a run's checkpoints.

    Args:
        backbone: gives features of shape (batch, num_features).
        head: gives logits of shape (batch, num_classes) from features.
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor, depth: int = 0) -> Tensor:
        """Returns logits, (batch, num_classes).

        Args:
            images: (batch, num_channels, image_size, image_size), float, normalised by the input spec; or the
                activations at a cut, see `Backbone.forward`.
            depth: how many stages have been computed already.
        """
        logits: Tensor = self.head(self.backbone(images, depth))
        return logits


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """What a run has trained, in eval mode, on one device.

    Attributes:
        network: from normalised images to logits.
        class_names: by class index.
        input_spec: what the network is fed, mean and std included.
        eval_view: how a picture becomes that.
        temperature: that logits are divided by before they are probabilities (Guo et al., 2017); 1 if it wasn't fitted.
        checkpoint: the file that it was read from.
    """

    network: Network
    class_names: tuple[str, ...]
    input_spec: InputSpec
    eval_view: EvalView
    temperature: float
    checkpoint: Path

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self.network.parameters()).device

    @property
    def least_side(self) -> int | None:
        """Pixels that a picture's shorter side must keep when it is decoded; see `data.decoding.decode_image`."""
        return None if self.eval_view == "square" else round(self.input_spec.image_size / self.input_spec.crop_fraction)

    def view(self, picture: Tensor) -> Tensor:
        """Returns a picture as evaluation saw those of its split.

        Args:
            picture: (channels, height, width), uint8, any size; 1 channel or 3.

        Returns:
            (num_channels, image_size, image_size), uint8.
        """
        if self.eval_view == "square":
            return eval_view_of_arrays(picture[None], self.input_spec)[0]
        from regraft.data.images.transforms.image import eval_view_of_file

        return eval_view_of_file(match_channels(picture, self.input_spec.num_channels), self.input_spec)

    @torch.inference_mode()
    def logits(self, views: Tensor) -> Tensor:
        """Returns (batch, num_classes), float32, on the CPU, not divided by the temperature.

        Args:
            views: (batch, num_channels, image_size, image_size), uint8; see `view`.
        """
        images = normalise(views.to(self.device), self.input_spec)
        logits: Tensor = self.network(images.to(next(self.network.parameters()).dtype))
        return logits.float().cpu()

    def probabilities(self, views: Tensor) -> Tensor:
        """Returns (batch, num_classes), float32, rows that sum to 1; see `logits`."""
        return (self.logits(views) / self.temperature).softmax(1)

    @torch.inference_mode()
    def probabilities_above(self, rows: Tensor, depth: int) -> Tensor:
        """Returns (batch, num_classes), float32, on the CPU, rows that sum to 1.

        Args:
            rows: the activations at a cut, (batch, ...).
            depth: of the cut: how many stages have been computed already.
        """
        logits: Tensor = self.network(rows.to(self.device, next(self.network.parameters()).dtype), depth)
        return (logits.float().cpu() / self.temperature).softmax(1)

    def predict(
        self, images: object, *, top_k: int = 5, tta: "Tta" = "none", batch_size: int = 32
    ) -> "list[Prediction]":
        """Returns what it says of images, in their order: class name, probabilities, the most probable classes.

        A file that can't be read or decoded has a prediction whose `error` says why; the others are predicted.

        Args:
            images: a path (a photo, a folder, a glob or a list.txt); a PIL image; a uint8 array (height, width, 3) or
                tensor (3, height, width), gray ones with 1 channel; or any number of paths of photos, images, arrays
                and tensors.
            top_k: how many classes are named, at most.
            tta: the views whose probabilities are averaged: none, flip, five_crop or ten_crop.
            batch_size: views that the network takes at once.

        Raises:
            FileNotFoundError: a single path names nothing.
            ValueError: an option's value, or what is no image, such as an array of floats.
        """
        from regraft.deployment.predict.pipeline import predict_images

        return predict_images(self, images, top_k=top_k, tta=tta, batch_size=batch_size)
