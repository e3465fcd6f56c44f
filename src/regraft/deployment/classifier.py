"""A trained model that predicts classes: what `regraft.load` returns."""

import html

from regraft.core.errors import listed
from regraft.deployment.network import TrainedNetwork
from regraft.deployment.predict.pipeline import predict_inputs
from regraft.deployment.predict.results import Predicted


class Classifier(TrainedNetwork):
    """A trained network that predicts the classes of images or texts, wherever they are."""

    def predict(self, inputs: object, *, top_k: int = 5, tta: str = "none", batch_size: int = 32) -> Predicted:
        """Returns a prediction for each input, in their order: class name, probabilities, the most probable classes.

        For an input that can't be read or decoded, the prediction's `error` says why; the others are predicted.

        Args:
            inputs: of a model of images a path (a photo, a folder, a glob or a list.txt); a PIL image; a uint8 array
                (height, width, 3) or tensor (3, height, width), gray ones with 1 channel, transparent ones with 4; or
                several of these. Of a model of texts a text, str or UTF-8 bytes; several of them; or a `pathlib.Path`
                of a table, or of a file with a text a line.
            top_k: the number of classes in a prediction, at most.
            tta: the views of an image whose probabilities are averaged: none, flip, five_crop or ten_crop.
            batch_size: views in a forward pass.

        Raises:
            FileNotFoundError: there is nothing at a single path.
            ValueError: an option's value isn't allowed, or something isn't such an input, as an array of floats.
        """
        found = predict_inputs(self, inputs, top_k=top_k, tta=tta, batch_size=batch_size)
        return Predicted(found, column=self.reader.table_column)

    def __repr__(self) -> str:
        outputs = f"{len(self.class_names)} {self.task.nouns}: {listed(self.class_names)}"
        size, number = self.input_spec.size_text, sum(each.numel() for each in self.network.parameters())
        engine = "" if self.engine is None else f"; {self.engine}"
        return f"Classifier({outputs}; {size}; {number:,} parameters; {self.checkpoint}{engine})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"
