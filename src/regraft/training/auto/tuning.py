"""Whether a search fine-tunes the backbone of its best candidate: what that takes, and whether it has been worth it."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from regraft.core.input_spec import InputSpec
from regraft.training.auto.choice import Choice
from regraft.training.auto.decisions import CLOSING_SECONDS, SAFETY
from regraft.training.auto.scores import NUM_ERRORS, Score

MOST_TRAINED = 0.4
"""Of the operations of a pass, the most that the last stages have that are trained alone."""
HELD_OUT = 0.2
"""Share of the images on which a trial is measured, and which neither head has seen."""
FEWEST_EPOCHS, MOST_EPOCHS = 4, 12
LAST_EPOCHS = 8
"""The most of the last stages alone. Those of EfficientNet-Lite0, 1 and 2 at 160 and 96 px gained 0.4 points on
the mean of eight sets of 350 to 480 images; 4 epochs of everything, which take more than twice as long, gained 0.8."""
BATCH_SIZE = 32
MAX_TRIALS = 5
_FORWARD_PASSES = 5.0
"""A training step takes as long as so many passes that compute features, measured on EfficientNet-Lite."""
_LAST_PASSES = 3.0
"""The same of the last stages alone, in passes through these by their operations, for which small maps take longer."""
_PLAIN_PASSES = 1.5
"""A pass of evaluation takes as long as so many that compute features, which have their BatchNorms folded."""


@dataclass(frozen=True)
class Cut:
    """The place in a backbone below which outputs are stored, and above which a fine-tuning trains.

    Attributes:
        until: the last stage below.
        share: of the operations of a pass that are below.
    """

    until: str
    share: float


@dataclass(frozen=True)
class Leader:
    """The best candidate of a search.

    Attributes:
        fraction: share of the training images on which its head is fitted.
        score: of the head in closed form on all of them.
        num_images: on which the head is fitted.
        seconds_per_image: for its features.
        run_seconds: of a run whose features are stored.
        cut: see `Candidate`.
    """

    choice: Choice
    fraction: float
    score: Score
    num_images: int
    num_test: int
    seconds_per_image: float
    run_seconds: float
    cut: Cut | None

    @property
    def overrides(self) -> list[str]:
        """What `regraft train` takes for it, beside the overrides of the search."""
        return [*self.choice.overrides, *([f"data.fraction={self.fraction:g}"] if self.fraction < 1 else [])]


@dataclass(frozen=True)
class TuningPlan:
    """What a fine-tuning takes.

    Attributes:
        until: the last stage that isn't trained; None if everything is.
        trial_seconds: of one on the images that aren't held out, measured on those that are.
        final_seconds: of one on all images, with its test.
        test_seconds: of that test.
    """

    until: str | None
    num_epochs: int
    trial_seconds: float
    final_seconds: float
    test_seconds: float

    @property
    def seconds(self) -> float:
        """What one trial and the final training take."""
        return self.trial_seconds + self.final_seconds


def plan_tuning(leader: Leader, seconds_left: float, num_fits: int) -> TuningPlan | str:
    """Returns what is planned, or why nothing is.

    Args:
        num_fits: of the final training: two if it has validation images, which are trained on in the second one.
    """
    if leader.score.loss < NUM_ERRORS * leader.score.loss_error:
        return f"its {leader.score.task.loss_title} is within its own noise, so that no gain could be told from chance"
    available = (seconds_left - CLOSING_SECONDS) / SAFETY

    most = MOST_EPOCHS if leader.cut is None else LAST_EPOCHS
    plans = [_planned(leader, num_epochs, num_fits) for num_epochs in range(FEWEST_EPOCHS, most + 1)]
    if plans[0].seconds > available:
        return f"a trial of {FEWEST_EPOCHS} epochs and the training would take about {plans[0].seconds:.0f} s"
    return max((plan for plan in plans if plan.seconds <= available), key=lambda plan: plan.num_epochs)


def _planned(leader: Leader, num_epochs: int, num_fits: int) -> TuningPlan:
    """Returns what a fine-tuning takes: of what is above the cut, or of everything where there is none."""
    cut = leader.cut
    images, tests = (number * leader.seconds_per_image for number in (leader.num_images, leader.num_test))
    stored, epoch, held_out, test = 0.0, _FORWARD_PASSES * images, _PLAIN_PASSES * images, _PLAIN_PASSES * tests
    if cut is not None:
        above = (1 - cut.share) * images
        # Of each image and its mirror image, once for all trials and the final training.
        stored, epoch, held_out, test = 2 * cut.share * images, _LAST_PASSES * above, _PLAIN_PASSES * above, tests
    held_out *= HELD_OUT
    trial = stored + num_epochs * ((1 - HELD_OUT) * epoch + held_out) + held_out + 3 * leader.run_seconds
    final = num_fits * num_epochs * epoch + test + 2 * leader.run_seconds
    return TuningPlan(None if cut is None else cut.until, num_epochs, trial, final, test)


@dataclass(frozen=True)
class Trial:
    """What fine-tuning gained on images that neither head has seen.

    Attributes:
        images: (num_held_out,), int64, their indices in the source.
        gains: (num_held_out,), float64, of each the log loss of the head in closed form less that after fine-tuning.
        accuracies: on these images, of the head and after fine-tuning.
        seconds: what the trial took.
        storing_seconds: of these, for what another trial finds stored.
    """

    images: Tensor
    gains: Tensor
    accuracies: tuple[float, float]
    seconds: float
    storing_seconds: float


@dataclass(frozen=True)
class Verdict:
    """What trials say together.

    Attributes:
        gain: mean of the log loss.
        error: its standard error; images of several trials count once.
    """

    gain: float
    error: float

    @property
    def is_better(self) -> bool:
        """Whether the gain is more than its standard error."""
        return self.gain > self.error

    @property
    def is_open(self) -> bool:
        """Whether another trial may tell."""
        return self.gain > 0 and not self.is_better

    def __str__(self) -> str:
        return f"{self.gain:+.3f} ± {self.error:.3f}"


def verdict(trials: list[Trial]) -> Verdict:
    """Returns what one or more trials, which may have images in common, say together."""
    images, index = torch.cat([trial.images for trial in trials]).unique(return_inverse=True)
    gains = torch.cat([trial.gains for trial in trials])
    sums = torch.zeros(len(images), dtype=torch.float64).index_add(0, index, gains)
    means = sums / torch.bincount(index, minlength=len(images))
    error = float(means.std() / len(means) ** 0.5) if len(means) > 1 else math.inf
    return Verdict(float(means.mean()), error)


def tuning_overrides(plan: TuningPlan, num_images: int, head_from: str, spec: type[InputSpec]) -> list[str]:
    """Returns what `regraft train` takes to fine-tune what is planned, from a head in closed form on.

    What is kept is the moving average of the weights, in which those at the start have a share of about a third: it is
    as good as averaging the probabilities of both models, and a single model.

    Args:
        num_images: that are trained on.
        head_from: quoted folder of the head's run.
        spec: the class of the inputs' spec.
    """
    # A trial has fewer images than the final training, and a batch has to be filled in both.
    batch_size = min(BATCH_SIZE, max(1, int((1 - HELD_OUT) * num_images)))
    num_steps = plan.num_epochs * math.ceil(num_images / batch_size)
    trained = ["freezing=none", "optimizer.lr=1e-4"]
    if plan.until is not None:
        # What is stored has been computed for the head, too, whose precision is enough.
        trained = ["freezing=up_to", f"freezing.until={plan.until}", "optimizer.lr=3e-4", "features.precision=float32"]
        trained.append("trainer.memory_format=channels_last")  # too few steps to try which one is faster
    return [
        *("fitting=steps", "head=mix", f"head_from={head_from}", *trained, "freezing.keeps_statistics=true"),
        *("scheduler.warmup_epochs=0.5", f"augment={spec.usual_augment}", f"data.batch_size={batch_size}"),
        *("callbacks=ema", f"callbacks.ema.decay={1 - 1 / num_steps:.5f}", f"trainer.max_epochs={plan.num_epochs}"),
    ]
