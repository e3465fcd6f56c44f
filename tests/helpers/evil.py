"""What a stranger could put into a config or a checkpoint: each of these, if it ran, would leave a file `canary`."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

CANARY = "canary"


class Touch:
    """Unpickled, it makes the canary."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(CANARY),)


def targets() -> list[dict[str, Any]]:
    """Returns nodes of a config; what they name lies in the current folder, see `lay`."""
    touch = f"touch {CANARY}"
    code = f"open({CANARY!r}, 'w')"
    return [
        {"_target_": "os.system", "command": touch},
        {"_target_": "subprocess.run", "args": ["touch", CANARY]},
        {"_target_": "regraft.training.fit.multi_process.subprocess.run", "args": ["touch", CANARY]},
        {"_target_": "builtins.open", "file": CANARY, "mode": "w"},
        {"_target_": "io.open", "file": CANARY, "mode": "w"},
        {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [CANARY]}},
        {"_target_": "pathlib.Path.write_text", "self": {"_target_": "pathlib.Path", "_args_": [CANARY]}, "data": ""},
        {"_target_": "torch.load", "f": "evil.pickle", "weights_only": False},
        {"_target_": "torch.serialization.load", "f": "evil.pickle", "weights_only": False},
        {"_target_": "torch.hub.load", "repo_or_dir": ".", "model": "evil", "source": "local"},
        {"_target_": "torch.utils.cpp_extension.load", "name": "evil", "sources": ["evil.cpp"]},
        {"_target_": "torch.save", "obj": 1, "f": CANARY},
        {"_target_": "torchvision.models._utils.torch.load", "f": "evil.pickle", "weights_only": False},
        {"_target_": "numpy.load", "file": "evil.pickle", "allow_pickle": True},
        {"_target_": "joblib.load", "filename": "evil.pickle"},
        {"_target_": "timm.create_model", "model_name": "resnet18", "checkpoint_path": "evil.pickle"},
        {"_target_": "pytorch_lightning.LightningModule.load_from_checkpoint", "checkpoint_path": "evil.pickle"},
        {"_target_": "pickle.loads", "data": "x"},
        {"_target_": "builtins.exec", "source": code},
        {"_target_": "builtins.eval", "source": code},
        {"_target_": "importlib.import_module", "name": "evil_module"},
        {"_target_": "runpy.run_path", "path_name": "evil_module.py"},
        {"_target_": "pydoc.locate", "path": "evil_module.anything"},
        {"_target_": "hydra.utils.get_object", "path": "evil_module.anything"},
        {"_target_": "hydra.utils.instantiate", "config": {"_target_": "evil_module.anything"}},
        {"_target_": "functools.partial", "_args_": [{"_target_": "hydra.utils.get_method", "path": "os.system"}]},
        {"_target_": "evil_module.Anything"},
        {"_target_": "torch.nn.modules.module.warnings.sys.modules"},
        {"_target_": "regraft.train", "overrides": ["trust=[evil_module]", "head._target_=evil_module.Head"]},
        {"_target_": "regraft.cli.main.main", "arguments": ["train", "trust=[evil_module]"]},
        {"_target_": "regraft.core.atomic.write_atomically", "path": CANARY, "content": "x"},
        {"_target_": "regraft.runs.provenance._git_output", "folder": ".", "_args_": ["-c", f"alias.x=!{touch}", "x"]},
        {"_target_": "regraft.models.heads.Linear", "dropout": {"_target_": "os.system", "command": touch}},
        {"_target_": "regraft.models.heads.Linear", "dropout": [{"deep": {"_target_": "evil_module.Anything"}}]},
    ]


def lay(folder: Path) -> None:
    """Lays what the targets name into a folder."""
    (folder / "evil.pickle").write_bytes(pickle.dumps(Touch()))
    (folder / "evil_module.py").write_text(f"open({CANARY!r}, 'w').close()\n")
    (folder / "hubconf.py").write_text(f"open({CANARY!r}, 'w').close()\n")


def checkpoints(content: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Writes checkpoints that would run code, each in its own way.

    Args:
        content: of a checkpoint of a run.
        folder: where they are written.
    """
    config = {**content["hyper_parameters"], "architecture": {"_target_": "os.system", "command": f"touch {CANARY}"}}
    whole = io.BytesIO()
    torch.save({**content, "extra": Touch()}, whole)
    plain = io.BytesIO()
    torch.save(content, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(folder / "swapped.ckpt", "w") as new:
        for name in old.namelist():
            new.writestr(name, pickle.dumps(Touch()) if name.endswith("data.pkl") else old.read(name))
    (folder / "pickle.ckpt").write_bytes(pickle.dumps(Touch()))
    (folder / "global.ckpt").write_bytes(whole.getvalue())
    torch.save({**content, "hyper_parameters": config}, folder / "config.ckpt")
    names = ("pickle", "global", "swapped", "config")
    return {name: folder / f"{name}.ckpt" for name in names}
