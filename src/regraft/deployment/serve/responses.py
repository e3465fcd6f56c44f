"""The responses of the endpoint /predict."""

from typing import Any

from pydantic import BaseModel, Field

from regraft.deployment.classifier import Classifier
from regraft.deployment.predict.results import Prediction

TOP = 5


class TopClass(BaseModel):
    """A class and its probability."""

    class_name: str
    probability: float = Field(ge=0, le=1)


class InputPrediction(BaseModel):
    """The prediction of an input, or an error; `labels` of several labels, `outputs` of these and of numbers."""

    name: str
    class_name: str | None = None
    confidence: float | None = None
    top: list[TopClass] = []
    labels: list[str] | None = None
    outputs: dict[str, float] | None = None
    error: str | None = None


class PredictResponse(BaseModel):
    """A prediction for each input, in the order in which they were sent."""

    predictions: list[InputPrediction]


def response_of(name: str, found: Prediction, model: Classifier) -> InputPrediction:
    """Returns a prediction without an error as it is sent; labels are also the classes that the page shows."""
    if found.outputs is None:
        top = [TopClass(class_name=each.class_name, probability=min(each.probability, 1.0)) for each in found.top]
        return InputPrediction(name=name, class_name=top[0].class_name, confidence=top[0].probability, top=top)
    fields: dict[str, Any] = {"outputs": found.outputs}
    if found.labels is not None:
        ranked = sorted(found.outputs.items(), key=lambda item: -item[1])
        top = [TopClass(class_name=name, probability=value) for name, value in ranked]
        fields |= {"labels": list(found.labels), "class_name": ", ".join(found.labels) or "no label", "top": top}
    else:
        unit = f" {model.unit}" if model.unit else ""
        fields["class_name"] = ", ".join(f"{name} {value:.5g}{unit}" for name, value in found.outputs.items())
    return InputPrediction(name=name, **fields)
