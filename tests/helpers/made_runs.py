"""Run folders as training leaves them, written by hand: comparing reads files only."""

import json
from pathlib import Path

import numpy as np
import yaml

from regraft.runs.folder import Run
from regraft.runs.predictions import Predictions, write

NUM_IMAGES = 400


def made_run(name, *, lr=0.1, seed=0, acc=0.8, state="finished", kept=True, **more):
    """Returns a run in `outputs`; of a finished one the accuracy is that of predictions drawn with it.

    Args:
        name: of its folder.
        lr: its learning rate.
        seed: its seed.
        acc: how probable it is to be right.
        state: as in state.json.
        kept: whether it kept predictions.
        more: `config` to merge into the sections, `choices`, `overrides`, `seconds`, `reason`, `rows` of metrics.csv,
            `fingerprint` of its data, `num_images` of its test, seconds of `earlier` sessions.
    """
    run = Run(Path("outputs", name).resolve())
    run.path.mkdir(parents=True)
    config = {
        "data": {"_target_": "regraft.data.sources.digits.DigitsSource", "subset_seed": seed, "split_seed": 0},
        "model": {"_target_": "regraft.models.backbones.small.simple_cnn", "image_size": 16},
        "freezing": {"_target_": "regraft.models.freezing.NoFreezing"},
        "optimizer": {"_target_": "torch.optim.AdamW", "lr": lr},
        "trainer": {"max_epochs": 3},
        "callbacks": {"best": {"monitor": "val/acc", "mode": "max"}},
        "seed": seed,
        "output_dir": str(run.path.parent),
    }
    for section, node in more.get("config", {}).items():
        config[section] = {**config.get(section, {}), **node} if isinstance(node, dict) else node
    run.write_config(config)
    hydra = run.path / ".hydra"
    hydra.mkdir()
    overrides = more.get("overrides", [f"optimizer.lr={lr}", f"seed={seed}"])
    (hydra / "overrides.yaml").write_text(yaml.safe_dump(overrides))
    if "choices" in more:
        (hydra / "hydra.yaml").write_text(yaml.safe_dump({"hydra": {"runtime": {"choices": more["choices"]}}}))
    session = {"data": {"fingerprint": more.get("fingerprint", "f" * 32)}}
    sessions = [*({"seconds": seconds} for seconds in more.get("earlier", [])), session]
    (run.path / "provenance.json").write_text(json.dumps({"sessions": sessions}))
    rows = more.get("rows", [(0, 0.4), (1, 0.7), (2, 0.6)])
    lines = [f"{epoch},{10 * epoch + 9},{value},{1 - value}" for epoch, value in rows]
    (run.path / "metrics.csv").write_text("\n".join(["epoch,step,val/acc,val/loss", *lines, ""]))
    run.write_state({"status": state, "started": "2030-01-01T12:00:00+00:00", "reason": more.get("reason")})
    if state == "finished":
        predictions = drawn(acc, seed, more.get("num_images", NUM_IMAGES))
        found = float((predictions.predicted == predictions.targets).mean())
        metrics = {"test/acc": found, "test/loss": 1 - found}
        results = {"metrics": metrics, "seconds": more.get("seconds", 2.0), "num_trained_parameters": 1000}
        run.write_results(results)
        if kept:
            write(run.path, predictions)
    return run


def drawn(acc, seed, num_images=NUM_IMAGES):
    """Returns predictions that are right where the images' own difficulty and the seed's luck let them be."""
    hard = np.random.default_rng(1).uniform(size=num_images)
    luck = np.random.default_rng([seed, 7]).normal(0, 0.03, size=num_images)
    targets = np.arange(num_images) % 10
    predicted = np.where(hard + luck < acc, targets, (targets + 1) % 10)
    return Predictions("test", np.arange(num_images) * 2, targets, predicted, np.full(num_images, 0.5, np.float32))
