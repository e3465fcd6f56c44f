"""Predictions of several images, as a table."""

from regraft.deployment.predict.results import Predicted, Prediction


def test_a_label_called_like_another_column_keeps_its_own():
    outputs = {"error": 0.9, "crack": 0.2}
    table = Predicted([Prediction("a.png", outputs=outputs, labels=("error",))]).table()
    assert table[0] == {"name": "a.png", "labels": ("error",), "error_": 0.9, "crack": 0.2, "error": None}
