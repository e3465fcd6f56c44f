"""Whether a config's head and optimizer are a closed form, and fit each other."""

from regraft.config.instantiate import Config, target_of, targets_subclass
from regraft.core.errors import ConfigError, ConfigErrors
from regraft.models.freezing import LPFT
from regraft.models.heads import Linear, Standardised
from regraft.tasks import task_of
from regraft.training.closed_form.optimizer import HEADS, ClosedForm
from regraft.training.losses.default import DEFAULTS
from regraft.training.optim.schedulers import constant


def is_closed_form(config: Config) -> bool:
    """Whether the optimizer fits the head in closed form."""
    return targets_subclass(config["optimizer"], "optimizer", ClosedForm)


def require_suitable_head(config: Config) -> None:
    """Checks that a run's head and optimizer fit each other, and that nothing else that is set would be ignored.

    Raises:
        ConfigErrors: they don't fit.
    """
    head, loss = target_of(config["head"], "head"), config["loss"]
    if not is_closed_form(config):
        is_found = config.get("head_from") is not None or target_of(config["freezing"], "freezing") is LPFT
        if head is Linear and config["head"].get("stages", "last") != "last" and not is_found:
            raise ConfigError(
                "head.stages",
                "a linear head on several stages is found in closed form",
                fix="Use head=mix, or optimizer=ridge, logistic or mix; head=mlp and cosine are trained on them.",
            )
        if head is Standardised and not is_found:
            raise ConfigError(
                "optimizer",
                "only optimizer=mix, ridge and logistic find the standardisation that this head needs",
                fix="Use one of them or freezing=lp_ft, or start from a head that they have fitted: head_from=RUN.",
            )
        return
    task, weights = task_of(config["task"]["name"]), loss.get("class_weights")
    weights = list(weights.values()) if isinstance(weights, dict) else weights
    wrong = [
        (head not in HEADS, "head", "it has to be one linear layer; use head=mix or head=linear"),
        (config.get("head_from") is not None, "head_from", "no other head is its start; leave head_from out"),
        (target_of(loss, "loss") is not DEFAULTS[task.name][0], "loss", f"use loss={task.losses[0]}"),
        (loss.get("pos_weight") is not None, "loss.pos_weight", "leave it out"),
        (loss.get("label_smoothing", 0) != 0, "loss.label_smoothing", "it has no labels to smooth; leave it out"),
        (isinstance(weights, list) and 0 in weights, "loss.class_weights", "each class has to weigh more than 0"),
        (
            target_of(config["scheduler"], "scheduler") is not constant,
            "scheduler",
            "it has no learning rate; leave it out",
        ),
        (config["trainer"].get("max_epochs", 1) != 1, "trainer.max_epochs", "it takes one step; leave it out"),
    ]
    errors = [
        ConfigError(key, f"the head is found in closed form: {text}, or train it in steps with fitting=steps")
        for is_wrong, key, text in wrong
        if is_wrong
    ]
    if errors:
        raise ConfigErrors(errors)
