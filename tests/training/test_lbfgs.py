"""L-BFGS on stored features is regularised logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

import regraft
from regraft.models.backbones.small import simple_cnn
from regraft.training.optim import LBFGS, parameter_groups

OPTIONS = [
    *("data=digits", "data.fraction=0.2", "model=efficientnet_lite0", "model.image_size=32", "trainer=cpu"),
    *(
        "trainer.max_epochs=3",
        "trainer.enable_progress_bar=false",
        "logger=csv",
        "optimizer=lbfgs",
        "scheduler=constant",
    ),
]


def test_it_converges_to_logistic_regression():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(90, 6, generator=generator)
    targets = (features @ torch.randn(6, 3, generator=generator)).argmax(1)
    head, decay = nn.Linear(6, 3), 0.02
    backbone = simple_cnn(widths=[4], batch_norm=False, weights=None, image_size=16, num_channels=3)
    groups = parameter_groups(backbone, head, decay, decay_norm_and_bias=False)
    optimizer = LBFGS(groups, 1.0, 100, 10, "strong_wolfe", decay)

    def closure() -> torch.Tensor:
        head.zero_grad()
        loss = functional.cross_entropy(head(features), targets)
        loss.backward()
        return loss.detach()

    for _ in range(5):
        optimizer.step(closure)
    reference = LogisticRegression(C=1 / (len(features) * decay), max_iter=5000, tol=1e-8).fit(features, targets)
    expected = reference.predict_proba(features)
    assert np.abs(head(features).softmax(1).detach().numpy() - expected).max() < 1e-3


def test_a_run_takes_one_step_an_epoch_and_can_be_measured_again():
    run = regraft.train([*OPTIONS, "optimizer.weight_decay=1e-3"])
    assert run.results["num_steps"] == 3
    losses = [row["train/loss"] for row in run.history(10**9) if "train/loss" in row]
    assert losses[0] > losses[-1]
    assert losses[-1] < 0.2
    assert regraft.evaluate([f"ckpt_path={run.path}"]).items() >= run.metrics.items()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["freezing=lp_ft"], "use freezing=linear_probe"),
        (["augment=flip"], "use augment=none"),
        (["data.sampler=balanced"], "use data.sampler=shuffle"),
        (["head.dropout=0.1"], "use head.dropout=0"),
        (["penalty.l2=0.1"], r"use optimizer\.weight_decay"),
        (["trainer.gradient_clip_val=1.0"], "no meaning for it"),
        (["trainer.precision=bf16-mixed"], r"use trainer\.precision=32-true"),
        (["features.cache=off"], "LBFGS works on stored features"),
        (["optimizer.max_iter=0"], r"optimizer\.max_iter: got 0; allowed: 1, 2, 3"),
        (["optimizer.line_search_fn=armijo"], r"optimizer\.line_search_fn: got 'armijo'"),
    ],
)
def test_what_it_cant_do_is_one_sentence(overrides, message):
    with pytest.raises(ValueError, match=message):
        regraft.train([*OPTIONS, *overrides])
