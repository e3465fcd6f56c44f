"""Whether an exported file says what the model says: the largest difference of their logits, on real images."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from regraft.data.images.transforms.mixing import normalise
from regraft.deployment.classifier import Classifier
from regraft.deployment.export.program import Runner

TOLERANCE = 1e-4
"""Of logits in float32."""
_RELATIVE = 1e-5
"""Of logits above 10 in size, of which float32 has but seven digits."""
_BATCH = 8


@dataclass(frozen=True)
class Answers:
    """What a model and a file say of the same pictures.

    Attributes:
        model: logits, (num_pictures, num_classes), float32.
        file: likewise.
    """

    model: Tensor
    file: Tensor

    @property
    def difference(self) -> float:
        """The largest difference of two logits; infinite if one is no number."""
        return float((self.file - self.model).abs().nan_to_num(torch.inf).max())

    @property
    def agreement(self) -> float:
        """Share of the pictures that both give the same class."""
        return float((self.file.argmax(1) == self.model.argmax(1)).float().mean())

    def accuracies(self, labels: Tensor) -> tuple[float, float]:
        """Returns the share of right answers of the model and of the file.

        Args:
            labels: (num_pictures,), int64.
        """
        model, file = (float((logits.argmax(1) == labels).float().mean()) for logits in (self.model, self.file))
        return model, file


def compare(model: Classifier, run: Runner, pictures: Iterable[Tensor], *, preprocessing: bool) -> Answers:
    """Returns what a model and a file say of pictures.

    Args:
        model: on the CPU.
        run: the file's.
        pictures: at least one; (channels, height, width), uint8, with 1 channel, or 3 if the model takes colours.
        preprocessing: whether the file takes pictures.
    """
    expected, found = [], []
    remaining = iter(pictures)
    while batch := list(islice(remaining, _BATCH)):
        views = torch.stack([model.view(picture) for picture in batch])
        expected.append(model.logits(views))
        if preprocessing:  # which are of different sizes
            found += [run(picture.expand(3, -1, -1).permute(1, 2, 0)[None].contiguous()) for picture in batch]
        else:
            found.append(run(normalise(views, model.input_spec)))
    return Answers(torch.cat(expected), torch.cat(found))


def require_parity(answers: Answers) -> None:
    """Refuses a file that doesn't say what the model says.

    Raises:
        ValueError: a logit differs by more than 1e-4, or a hundred-thousandth of the largest if that is above 10.
    """
    allowed = max(TOLERANCE, _RELATIVE * float(answers.model.abs().nan_to_num(0.0, 0.0, 0.0).max()))
    if not answers.difference <= allowed:
        raise ValueError(
            f"format: the exported file differs from the model by {answers.difference:.2g} in a logit; allowed: "
            f"{allowed:.0e}. Nothing was kept. Fix: another format, such as format=torch_export or format=safetensors."
        )
