"""What a run comes to, in sentences: how good it is, how sure that is, and what its curves say."""

from collections.abc import Sequence

from regraft.report.run.errors import Errors
from regraft.report.run.record import Record, Row

_RISE = 1.1
"""Times its lowest from which the validation loss is said to have risen; a few per cent are noise."""
_FALL = 0.95
"""Times that of the epoch before, below which the last epoch's validation loss is said to be falling still."""


def verdict(record: Record, errors: Errors | None) -> list[str]:
    """Returns one sentence on the result, and others where the curves say more."""
    return [_result(record, errors), *_curves(record.epochs, has_ended=record.state == "finished")]


def _result(record: Record, errors: Errors | None) -> str:
    if errors is None or record.predictions is None:
        if record.results:
            return "There are no predictions to judge it by: it was neither tested nor validated after its training."
        return f"The run hasn't ended ({record.state}), so it wasn't tested."
    low, high = errors.interval
    commonest, share = errors.chance
    split = {"test": "test", "val": "validation"}[record.predictions.split]
    sentence = (
        f"{100 * errors.accuracy:.1f} % of {errors.num_images:,} {split} images are told rightly (95 % interval "
        f"{100 * low:.1f} to {100 * high:.1f} %); always answering {record.class_names[commonest]!r}, the commonest "
        f"class, would get {100 * share:.1f} %."
    )
    if low <= share <= high:
        sentence += " That is no better than chance can explain."
    elif high < share:
        sentence += " That is worse than always giving the same answer."
    if split == "validation":
        sentence += " These images also chose the checkpoint, so the figure is too kind; a test split would tell."
    return sentence


def _curves(epochs: Sequence[Row], *, has_ended: bool) -> list[str]:
    validated = [row for row in epochs if "val/loss" in row]
    if len(validated) < 2:
        return []
    losses = [row["val/loss"] for row in validated]
    lowest = min(range(len(losses)), key=losses.__getitem__)
    trained = [row["train/loss"] for row in validated[lowest:] if "train/loss" in row]
    if losses[-1] > _RISE * losses[lowest] and len(trained) > 1 and trained[-1] < trained[0]:
        return [
            f"It overfits: the validation loss rose from {losses[lowest]:.3g} in epoch "
            f"{int(validated[lowest]['epoch'])} to {losses[-1]:.3g} in the last one, while the training loss fell. "
            "More data, augmentation (augment=basic) or callbacks=early_stopping may help."
        ]
    if has_ended and lowest == len(losses) - 1 and losses[-1] < _FALL * losses[-2]:
        return [
            f"It was still learning: the validation loss fell from {losses[-2]:.3g} to {losses[-1]:.3g} in the last "
            "epoch. A higher trainer.max_epochs may help."
        ]
    return []
