"""A trained model that predicts classes: what `regraft.load` returns."""

import html

from regraft.core.errors import listed
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.pipeline import predict_images
from regraft.deployment.predict.results import Predicted
from regraft.deployment.predict.tta import Tta


class Classifier(TrainedNetwork):
    """A trained network that predicts the classes of images, wherever they are."""

    def predict(self, images: object, *, top_k: int = 5, tta: Tta = "none", batch_size: int = 32) -> Predicted:
        """Returns a prediction for each image, in their order: class name, probabilities, the most probable classes.

        For a file that can't be read or decoded, the prediction's `error` says why; the others are predicted.

        Args:
            images: a path (a photo, a folder, a glob or a list.txt); a PIL image; a uint8 array (height, width, 3) or
                tensor (3, height, width), gray ones with 1 channel, transparent ones with 4; or several of these.
            top_k: the number of classes in a prediction, at most.
            tta: the views whose probabilities are averaged.
            batch_size: views in a forward pass.

        Raises:
            FileNotFoundError: there is nothing at a single path.
            ValueError: an option's value isn't allowed, or something isn't an image, such as an array of floats.
        """
        return Predicted(predict_images(self, images, top_k=top_k, tta=tta, batch_size=batch_size))

    def __repr__(self) -> str:
        outputs = f"{len(self.class_names)} {self.task.nouns}: {listed(self.class_names)}"
        size, number = self.input_spec.image_size, sum(each.numel() for each in self.network.parameters())
        return f"Classifier({outputs}; {size} px; {number:,} parameters; {self.checkpoint})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"
