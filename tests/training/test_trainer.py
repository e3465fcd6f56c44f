import pytest

from regraft.config.compose import compose_once, plain
from regraft.core.errors import ConfigError
from regraft.training.trainer import build_trainer


def built(*words: str):
    return build_trainer(plain(compose_once("train", words, None), words), logger=False)


def test_hooks_are_not_profiled_unless_that_is_chosen():
    for words, expected in ([], True), (["+trainer.profiler=simple"], False):
        profiler = built("trainer=cpu", *words).profiler
        assert (profiler.profile("one") is profiler.profile("another")) is expected


@pytest.mark.parametrize(
    ("trainer", "fix"), [("gpu", "trainer=cpu"), ("ddp", "trainer.accelerator=cpu trainer.devices=NUMBER")]
)
def test_what_trains_on_the_cpu_is_named_where_there_is_no_gpu(monkeypatch, trainer, fix):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError, match=rf"trainer\.accelerator: got 'gpu'; .* For the CPU: {fix}\."):
        built(f"trainer={trainer}")
