from regraft.config.compose import compose_once, plain
from regraft.training.trainer import build_trainer


def test_hooks_are_not_profiled_unless_that_is_chosen():
    for words, expected in ([], True), (["+trainer.profiler=simple"], False):
        words = ["trainer=cpu", *words]
        profiler = build_trainer(plain(compose_once("train", words, None), words), logger=False).profiler
        assert (profiler.profile("one") is profiler.profile("another")) is expected
