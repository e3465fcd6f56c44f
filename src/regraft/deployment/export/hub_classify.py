"""Predicts with the model in this file's folder.

On the command line: python classify.py "a text" "another one"

From Python: `Classifier(FOLDER)(["a text"])`. Needs torch, transformers and safetensors, nothing else.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging


class Classifier:
    """A model of transformers with a linear head on the pooled outputs of one or more of its layers.

    Args:
        folder: holds config.json, model.safetensors, tokenizer.json and head.safetensors.
    """

    def __init__(self, folder: str | Path) -> None:
        self.model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        with safe_open(Path(folder) / "head.safetensors", "pt") as file:
            self.fields = file.metadata()
            self.head = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict
        self.names = [self.model.config.id2label[index] for index in sorted(self.model.config.id2label)]

    @torch.inference_mode()
    def logits(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns (batch, num_outputs) of token ids and their mask, (batch, length), with padding on the right."""
        stages, outputs, hooks = json.loads(self.fields["stages"]), {}, []
        layers = self.model.get_submodule(self.fields["layers"]) if self.fields["layers"] else []

        def keep(name: str, values: Any) -> None:
            outputs[name] = values[0] if isinstance(values, tuple) else values

        for index, layer in enumerate(layers):
            hooks.append(layer.register_forward_hook(lambda _, __, out, name=f"layer{index}": keep(name, out)))
            if index == 0:
                hooks.append(
                    layer.register_forward_pre_hook(
                        lambda _, args, options: keep("embeddings", args[0] if args else options["hidden_states"]),
                        with_kwargs=True,
                    )
                )
        try:
            last = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()
        pooled = [
            _moments(outputs[stage], attention_mask) if stage in outputs else self._pooled(last, attention_mask)
            for stage in stages
        ]
        features = torch.cat(pooled, dim=1)
        if "mean" in self.head:
            limit = self.head["limit"]
            features = ((features - self.head["mean"]) * self.head["scale"]).clamp(-limit, limit)
        return features @ self.head["weight"].T + self.head["bias"]

    def __call__(self, texts: list[str]) -> Tensor:
        """Returns probabilities, or the values of a regression, (num_texts, num_outputs), in the order of `names`."""
        length = int(self.fields["max_length"])
        batch = self.tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
        logits = self.logits(batch["input_ids"], batch["attention_mask"])
        task, temperature = json.loads(self.fields["task"]), json.loads(self.fields["temperature"])
        if task == "regression":
            return logits
        return (logits / temperature).softmax(1) if task == "classification" else (logits / temperature).sigmoid()

    def _pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Returns the features of the last hidden states."""
        if self.fields["pool"] == "cls":
            return hidden[:, 0]
        if self.fields["pool"] == "last":
            return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
        return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _moments(hidden: Tensor, mask: Tensor) -> Tensor:
    """Returns the means and standard deviations over the tokens of each text."""
    hidden, count = hidden * mask[..., None], mask.sum(1, keepdim=True)
    mean = hidden.sum(1) / count
    variance = hidden.square().sum(1) / count - mean.square()
    return torch.cat([mean, variance.clamp_min(1e-12).sqrt()], dim=1)


def table(model: Any, texts: list[str]) -> str:
    """Returns texts with their five highest outputs, without control characters, which could change a terminal."""
    lines = []
    for text, outputs in zip(texts, model(texts), strict=True):
        ranked = sorted(zip(model.names, outputs.tolist(), strict=True), key=lambda each: -each[1])
        lines += [text, *(f"  {name}: {value:.4f}" for name, value in ranked[:5])]
    return "".join(f"{''.join(letter if letter.isprintable() else '?' for letter in line)}\n" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    # The head stands apart, and a pooler that the library misses has no part in it.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.stdout.write(table(Classifier(Path(__file__).parent), sys.argv[1:]))
