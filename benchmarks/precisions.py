"""What coarser features cost: three backbones, each precision of the computation and dtype of the store.

    python benchmarks/precisions.py --cifar PATH_OF_CIFAR10

Besides EfficientNet-Lite0, whose ImageNet weights come with the install, two networks that are first trained here on
CIFAR-10: a CIFAR-ResNet and a plain CNN. Each is probed on CIFAR-10; of the features the error is the Euclidean norm of
the difference from float32's, over that of float32's.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch

import regraft
from regraft.config import compose
from regraft.features.extractor import FeatureExtractor
from regraft.runs.folder import Run
from regraft.training.fit.assemble import assemble
from regraft.training.plan import checked_job

CHOICES = [("float32", "float32"), ("float32", "float16"), ("float32", "bfloat16"), ("bfloat16", "bfloat16")]
SEEDS = (0, 1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = ["data=cifar10", f"data.root={arguments.cifar}", "data.verify=false", "trainer=cpu"]
        data += ["trainer.enable_progress_bar=false", f"output_dir={folder}/outputs", f"features.dir={folder}/store"]
        for name, model in backbones(data).items():
            errors = {precision: error_of(precision, [*data, *model]) for precision in ("float32", "bfloat16")}
            for precision, dtype in CHOICES:
                shutil.rmtree(Path(folder, "store"), ignore_errors=True)
                options = [f"features.precision={precision}", f"features.dtype={dtype}", "features.cache=on"]
                options += ["optimizer.lr=1e-3", "optimizer.weight_decay=0.01"]
                runs = [regraft.train([*data, *model, *options, f"seed={seed}"]) for seed in SEEDS]
                accuracies = [100 * run.metrics["test/acc"] for run in runs]
                error = errors["bfloat16"] if precision == "bfloat16" else errors["float32"]
                print(
                    f"MEASURED {name}: computed in {precision} (error {100 * error:.3g} %), stored as {dtype}: "
                    f"test {', '.join(f'{accuracy:.2f}' for accuracy in accuracies)} %",
                    flush=True,
                )


def backbones(data: list[str]) -> dict[str, list[str]]:
    """Returns the overrides of each backbone, the two that need it trained."""
    trained = {}
    for name, model in {
        "cifar_resnet": ["model=cifar_resnet", "model.depth=8"],
        "simple_cnn": ["model=simple_cnn"],
    }.items():
        options = ["freezing=none", "augment=crop_flip", "trainer.max_epochs=5", "data.fraction=0.5"]
        run = regraft.train([*data, *model, *options])
        trained[name] = ["model=checkpoint", f"model.path={run.path}"]
    return {"efficientnet_lite0": ["model=efficientnet_lite0", "model.image_size=96", "data.fraction=0.3"], **trained}


def error_of(precision: str, overrides: list[str]) -> float:
    """Returns the relative error of 256 images' features."""
    config = compose.plain(compose.compose_once("train", overrides, None))
    job = checked_job(config, Run(Path("no_run")))
    job.require_sound()
    parts: Any = assemble(job.checked, job.checkpoint)
    backbone = parts.module.backbone.eval()
    (view,) = parts.data.inputs.views("val", 0, 0)
    images = torch.cat(list(view.batches(torch.arange(min(256, len(view))), 64, torch.device("cpu"))))
    stages = dict(backbone.stages)
    extractor = FeatureExtractor(stages, images[:2], getattr(torch, precision), "cpu")
    found = extractor(images, 0, [len(stages)])[len(stages)].float()
    with torch.no_grad():
        exact = backbone(images)
    return float((found - exact).norm() / exact.norm())


if __name__ == "__main__":
    main()
