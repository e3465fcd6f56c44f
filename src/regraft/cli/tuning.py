"""Fine-tuning in a search: trials on images that are held out, and the run that comes of them."""

import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regraft.cli.candidates import UNTESTED
from regraft.cli.commands.train import train_once
from regraft.config.hydra_messages import MISTAKES, mistakes_in
from regraft.config.quoting import key_of, quoted
from regraft.data.from_config import build_datamodule
from regraft.evaluation.evaluator import Evaluator
from regraft.runs.checkpoint import read
from regraft.runs.folder import Run
from regraft.training.auto.decisions import CLOSING_SECONDS, SAFETY
from regraft.training.auto.record import Record
from regraft.training.auto.scores import Score, score_of
from regraft.training.auto.tuning import (
    HELD_OUT,
    MAX_TRIALS,
    Leader,
    Trial,
    TuningPlan,
    plan_tuning,
    tuning_overrides,
    verdict,
)

_OF_SPLITS = ("data.refit", "data.val_fraction")


@dataclass
class Tuner:
    """Fine-tunes the backbone of a search's best candidate, if trials say that it is worth it.

    Args:
        shared: overrides of the search that a training takes.
        data: its datamodule.
        left: returns the seconds that are left.
    """

    record: Record
    shared: Sequence[str]
    config_dir: str | None
    data: Any
    tell: Callable[[str], None]
    left: Callable[[], float]

    def plan(self, leader: Leader) -> TuningPlan | None:
        """Returns what is planned, None if there isn't the time for it or nothing to gain; says so."""
        found = plan_tuning(leader, self.left(), 2 if self.data.has_own_split("val") else 1)
        if isinstance(found, str):
            self.tell(f"No fine-tuning: {found}.")
            return None
        known = self.record.tuning_of(leader.choice.name, leader.fraction, self.data.fingerprint, found.until)
        if known is not None and known["num_epochs"] >= found.num_epochs and not known["is_better"]:
            self.tell(f"No fine-tuning: an earlier search found that {known['num_epochs']} epochs gain nothing.")
            return None
        return found

    def run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        """Makes a fine-tuned run, and returns its overrides; None if that isn't better, or the time is over."""
        try:
            return self._run(leader, plan)
        except MISTAKES as error:
            self.tell(f"Fine-tuning isn't kept: {' '.join(each.text for each in mistakes_in(error))}")
            return None
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _run(self, leader: Leader, plan: TuningPlan) -> list[str] | None:
        known = self.record.tuning_of(leader.choice.name, leader.fraction, self.data.fingerprint, plan.until) or {}
        # Trials that were better have no overrides if there was no time for the training that followed them.
        if "overrides" in known and known["num_epochs"] >= plan.num_epochs:
            made = self.record.take_again(_name(leader, plan), leader.fraction, self.data.fingerprint, is_tested=True)
            if made is not None:
                self.tell(f"{_name(leader, plan)}, of an earlier search")
                return list(known["overrides"])
        trials = self._trials(leader, plan)
        if not trials:
            self.tell("No fine-tuning: a trial took longer than expected.")
            return None
        found = verdict(trials)
        self.record.tuning.append(
            {
                "candidate": leader.choice.name,
                "fraction": leader.fraction,
                "fingerprint": self.data.fingerprint,
                "until": plan.until,
                "num_epochs": plan.num_epochs,
                "num_trials": len(trials),
                "num_images": len({*(image for trial in trials for image in trial.images.tolist())}),
                "gain": found.gain,
                "error": found.error,
                "is_better": found.is_better,
                "accuracies": [sum(each.accuracies[index] for each in trials) / len(trials) for index in (0, 1)],
                "seconds": sum(trial.seconds for trial in trials),
            }
        )
        if not found.is_better:
            of_loss = f"of {leader.score.task.loss_title}, {found},"
            self.tell(f"Fine-tuning isn't kept: its gain {of_loss} isn't more than its standard error.")
            return None
        gain, nouns = f"{found} of {leader.score.task.loss_title}", leader.choice.spec.nouns
        self.tell(f"Fine-tuning gains {gain}; now on all {nouns}.")
        return self._final(leader, plan, found.gain)

    def _trials(self, leader: Leader, plan: TuningPlan) -> list[Trial]:
        """Returns trials on different images, until they tell, or another one and the final training take too long."""
        trials: list[Trial] = []
        has_own_splits = self.data.has_own_split("test") and not self.data.has_own_split("val")
        for number in range(MAX_TRIALS if has_own_splits else 1):
            if trials:
                again = trials[-1].seconds - trials[-1].storing_seconds
                if SAFETY * (again + plan.final_seconds) + CLOSING_SECONDS > self.left():
                    break
            share = f"{1 - HELD_OUT:.0%} of the {leader.choice.spec.nouns}"
            part = "" if plan.until is None else f" of the stages above {plan.until}"
            self.tell(f"Fine-tuning{part}: trial {number + 1}, {plan.num_epochs} epochs on {share}")
            trial = self._trial(leader, plan, number)
            if trial is None:
                break
            trials.append(trial)
            if not verdict(trials).is_open:
                break
        return trials

    def _trial(self, leader: Leader, plan: TuningPlan, number: int) -> Trial | None:
        started = time.perf_counter()
        shutil.rmtree(self._scratch, ignore_errors=True)
        kept = [each for each in self.shared if key_of(each) not in _OF_SPLITS]
        words = [*kept, *leader.overrides, "data.refit=false", f"data.val_fraction={HELD_OUT}"]
        if number:
            words.append(f"data.split_seed={leader.choice.composed()['data']['split_seed'] + number}")
        head = self._trained([*words, "fitting=closed_form", *UNTESTED], "head")
        num_train = head.results["num_images"]["train"]
        words += tuning_overrides(plan, num_train, quoted(head.path), leader.choice.spec)
        available = self.left() - SAFETY * plan.final_seconds - CLOSING_SECONDS
        tuned = self._trained([*words, *UNTESTED, *_at_most(available)], "tuned")
        if "limit" in tuned.results:
            return None
        trust = leader.choice.composed()["trust"]
        (images, before), (_, after) = _held_out(head, trust), _held_out(tuned, trust)
        accuracies = before.headline, after.headline
        storing = tuned.results["seconds_of"][f"{leader.choice.spec.nouns} and features"]
        return Trial(images, before.losses - after.losses, accuracies, time.perf_counter() - started, storing)

    def _final(self, leader: Leader, plan: TuningPlan, gain: float) -> list[str] | None:
        head = self.record.find(leader.choice.name, leader.fraction, self.data.fingerprint, is_tested=False)
        assert head is not None, "the run of the head in closed form has been made"
        start = quoted(head.path)
        shared = list(self.shared)
        if leader.choice.composed()["data"]["refit"]:
            kept = [each for each in shared if key_of(each) not in _OF_SPLITS]
            # Only a validation split of the data is left for a first fit, which no trial has had.
            shared = [*kept, "data.refit=true", "data.val_fraction=0"]
        words = [*shared, *leader.overrides, *tuning_overrides(plan, leader.num_images, start, leader.choice.spec)]
        available = self.left() - SAFETY * plan.test_seconds - leader.run_seconds - CLOSING_SECONDS
        # In a hidden folder until it is whole, so that run=last isn't half of a fine-tuning.
        tuned = self._trained([*words, *_at_most(available)], "final")
        if "limit" in tuned.results:
            self.tell(f"Fine-tuning isn't kept: on all {leader.choice.spec.nouns} it took longer than expected.")
            return None
        made = Run(self.record.new_folder(f"{leader.choice.name}-tuned"))
        tuned.path.rename(made.path)
        loss = head.results["cross_validation"].get("val/loss")
        self.record.add(
            made,
            _name(leader, plan),
            leader.fraction,
            self.data.fingerprint,
            is_tested=True,
            loss=None if loss is None else loss - gain,
            head_from=head.path.name,
        )
        self.record.tuning[-1]["overrides"] = words
        return words

    @property
    def _scratch(self) -> Path:
        return self.record.folder / ".trials"

    def _trained(self, words: Sequence[str], name: str) -> Run:
        own = [f"hydra.run.dir={quoted(self._scratch / name)}", "trainer.enable_progress_bar=false"]
        return train_once([*words, *own], self.config_dir, is_printed=False)


def _name(leader: Leader, plan: TuningPlan) -> str:
    return f"{leader.choice.name}, fine-tuned{'' if plan.until is None else f' above {plan.until}'}"


def _held_out(run: Run, trust: Sequence[str]) -> tuple[Tensor, Score]:
    """Returns the images that a run has held out, by their indices in the source, and their score."""
    checkpoint = read(run.last_ckpt, trust)
    _, logits = Evaluator(checkpoint.config, checkpoint, "val", calibrates=False, needs_features=False).split("val")
    images = build_datamodule(checkpoint.config, None, checkpoint).indices("val")
    task, summary = checkpoint.task, checkpoint.targets
    outputs, targets = (torch.from_numpy(each) for each in (logits.values, logits.targets))
    outputs = task.standardised(outputs, summary)
    return images, score_of(outputs, task.standardised(targets, summary), [], task)


def _at_most(seconds: float) -> list[str]:
    """Returns the override that stops a training after some time; it isn't kept then."""
    if math.isinf(seconds):
        return []
    whole = max(1, int(seconds))
    days, rest = divmod(whole, 86400)
    return [f"+trainer.max_time='{days:02}:{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}'"]
