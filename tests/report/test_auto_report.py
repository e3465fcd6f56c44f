import io
from types import SimpleNamespace
from typing import Any

from regraft.core.console import Console
from regraft.report.auto_report import show_compared
from regraft.tasks import task_of


def candidate(name: str, reason: str | None) -> Any:
    spec = SimpleNamespace(nouns="images", one="image")
    score = SimpleNamespace(
        task=task_of("classification"), headline=0.9, headline_error=0.01, loss=0.3, loss_error=0.02
    )
    choice = SimpleNamespace(name=name, spec=spec)
    rates = {"seconds_per_image": 0.0124, "seconds": 20.4}
    return SimpleNamespace(choice=choice, num_images=1_024, score=score, reason=reason, **rates)


def test_figures_and_reasons_are_whole_on_a_narrow_terminal() -> None:
    reason = "its log loss is higher by more than two standard errors on 128 images"
    console = Console(width=80)
    console.file = io.StringIO()
    show_compared([candidate("efficientnet_lite0 at 224 px", None), candidate("resnet50 at 224 px", reason)], console)
    shown = console.file.getvalue()
    assert "…" not in shown
    assert shown.count("90.0 ± 1.0") == shown.count("0.300 ± 0.020") == 2
    assert f"\nresnet50 at 224 px: {reason}.\n" in shown
