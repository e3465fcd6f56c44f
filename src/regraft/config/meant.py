"""Which keys people mean by other names, such as `lr`, `epochs` and `optimizer.learning_rate`; used after an error."""

from collections.abc import Collection
from functools import cache

from regraft.config.groups import group_choices, group_names, shipped_train
from regraft.config.nested import leaves
from regraft.config.safe_yaml import load
from regraft.config.shipped import conf_dir

UNCONFIGURED = ("experiment", "fitting", "sweep")
"""Groups whose choices set keys of other sections, or of a sweep."""
_SYNONYMS = {
    "augment": "aug augmentation augmentations transform transforms",
    "callbacks=early_stopping": "early_stop early_stopping earlystopping",
    "ckpt_path": "checkpoint ckpt resume_from",
    "data": "dataset datasets",
    "data.batch_size": "batch batchsize bs train_batch_size",
    "data.num_workers": "n_workers nw worker workers",
    "data.root": "data_dir data_path data_root dataroot folder photos",
    "data.test_fraction": "test_size test_split",
    "data.val_fraction": "val_size val_split valid_pct validation_split",
    "freezing": "freeze freeze_layers frozen",
    "logger": "log loggers logging",
    "logger=mlflow": "mlflow",
    "logger=wandb": "wandb",
    "loss": "criterion loss_fn",
    "loss.class_weights": "class_weight weights_per_class",
    "loss.label_smoothing": "smoothing",
    "model": "arch architecture backbone model_name net network",
    "model.drop_path": "drop_path_rate stochastic_depth",
    "model.image_size": "image_sz img_size imgsize imgsz input_size res resolution size",
    "model.weights": "pretrained",
    "optimizer": "opt optim",
    "optimizer.lr": "base_lr eta learning_rate learningrate lr0",
    "optimizer.weight_decay": "wd",
    "output_dir": "log_dir logdir out outdir output output_folder save_dir savedir",
    "scheduler": "lr_schedule lr_scheduler sched schedule",
    "scheduler.warmup_epochs": "warmup warmup_steps",
    "seed": "random_seed random_state rng",
    "trainer.accelerator": "cpu cuda device gpu",
    "trainer.accumulate_grad_batches": "accum accumulate gradient_accumulation gradient_accumulation_steps",
    "trainer.devices": "gpus num_devices num_gpus",
    "trainer.gradient_clip_val": "clip clip_grad grad_clip gradient_clip max_grad_norm",
    "trainer.matmul_precision": "float32_matmul_precision tf32",
    "trainer.max_epochs": "ep epoch epochs n_epochs num_epochs num_train_epochs",
    "trainer.max_steps": "iterations iters num_steps steps",
    "trainer.memory_format": "channels_last nhwc",
    "trainer.precision": "amp bf16 fp16 half",
}
"""What other tools and papers call a key."""
_OF_COMMANDS = {
    "allowed_hosts": "hosts",
    "format": "fmt kind",
    "input": "file files filename folder image images img imgs path paths photo photos source src",
    "models": "archs backbones",
    "output": "csv out output_file out_file save save_to",
    "robustness=corruptions": "corruption corruptions",
    "run": "checkpoint experiment job model run_dir run_id weights",
    "text": "sentence sentences string texts",
    "time": "budget hours max_time minutes seconds time_limit timeout",
    "top_k": "k topk",
}
"""The same of keys that some commands have and a training hasn't."""
_BY_SYNONYM = {word: key for key, words in _SYNONYMS.items() for word in words.split()}


def keys_meant(key: str) -> list[str]:
    """Returns the keys that end in the name that a dotted key ends in, or that it is a usual word for."""
    name = key.rpartition(".")[2].lower().replace("-", "_")
    if name in _BY_SYNONYM:
        return [_BY_SYNONYM[name]]
    return [each for each in shipped_keys() if each.rpartition(".")[2] == name and each != key]


def keys_of_command_meant(key: str, allowed: Collection[str]) -> list[str]:
    """Returns the keys of those that a command has for which a key is a usual word."""
    name = key.lower().replace("-", "_")
    own = [each for each, words in _OF_COMMANDS.items() if name in words.split()]
    return [each for each in [*own, *keys_meant(key)] if each.partition("=")[0] in allowed]


def choices_meant(word: str) -> list[str]:
    """Returns the choices of groups that have a word in their names, as `model=resnet18`."""
    return [f"{group}={choice}" for group in group_names() for choice in group_choices(group) if word in choice]


@cache
def shipped_keys() -> list[str]:
    """Returns all keys of the shipped configs of a training, sorted."""
    found = {*leaves({name: value for name, value in shipped_train().items() if name != "defaults"})}
    for group in group_names():
        if group not in UNCONFIGURED:
            for path in (conf_dir() / group).glob("*.yaml"):
                content = load(path) or {}
                found |= {*leaves(content, "" if group in content else f"{group}.")}  # of the package _global_
    return sorted(key for key in found if not key.endswith((".defaults", "._target_")))
