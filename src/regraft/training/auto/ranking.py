"""Candidates in the order of their leave-one-out loss on all training images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from regraft.core.input_spec import InputSpec
from regraft.training.auto.candidates import Candidate
from regraft.training.auto.scores import Score, score
from regraft.training.closed_form.baselines import nearest_neighbours, nearest_rows


@dataclass(frozen=True)
class Ranked:
    """A candidate's place.

    Attributes:
        model: its name.
        spec: of its inputs.
        neighbours: leave-one-out headline metric of the nearest neighbours by the features of the last stage.
        seconds_per_image: what the features of an image took.
        is_beaten: whether the first one is better by more than chance.
    """

    model: str
    spec: InputSpec
    score: Score
    neighbours: float
    seconds_per_image: float | None
    is_beaten: bool = False


def measured(model: str, candidate: Candidate) -> Ranked:
    """Computes all features of a candidate, and returns what a head on them is worth."""
    everything = torch.arange(len(candidate))
    candidate.compute(everything)
    candidate.release()
    features, labels = candidate.features(everything), candidate.labels
    task, last = candidate.task, features[[*features][-1]]
    found = score(
        features,
        labels,
        candidate.num_classes,
        task,
        sample_weight=candidate.weights,
        groups=candidate.groups,
        last_stage_solvers=candidate.last_stage_solvers,
    )
    if task.has_classes:
        votes = nearest_neighbours(last, labels, candidate.num_classes, everything, candidate.groups)
    else:
        votes = nearest_rows(last, labels, everything, candidate.groups)
    neighbours = float(task.pseudovalues(votes, labels).double().mean())
    return Ranked(model, candidate.input_spec, found, neighbours, candidate.seconds_per_image)


def ranked(candidates: Sequence[Ranked]) -> list[Ranked]:
    """Returns the candidates, the one of the lowest loss first, compared with it on the same images."""
    in_order = sorted(candidates, key=lambda each: each.score.loss)
    return [replace(each, is_beaten=each.score.is_beaten_by(in_order[0].score)) for each in in_order]
