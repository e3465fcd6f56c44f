"""Every command and every Python block of README and docs works, in the order of its page."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.documentation import PAGES, ROOT, Block, Reader, blocks_of, smaller
from regraft.tasks.metrics import REGISTRY

BLOCKS = {path.relative_to(ROOT).as_posix(): blocks_of(path) for path in PAGES}
RUN = {page: [block for block in blocks if block.is_run] for page, blocks in BLOCKS.items()}
NOT_RUN = {
    "README.md": [
        "make quickstart    # sets everything up, then trains on handwritten digits, offline",
        "python3 -m venv .venv",
        "regraft train data=text_table data.path=reviews.csv model=minilm",
    ],
    "docs/how-to/auto.md": [
        "regraft auto data=folder data.root=photos time=60 "
        "'models=[efficientnet_lite0,outputs/birds/2026-11-29_18-05-54-90057d]'"
    ],
    "docs/how-to/export.md": ["pip install 'regraft[onnx]'"],
    "docs/how-to/filling.md": [
        "torchrun --nproc-per-node=8 -m regraft fill data=folder data.root=photos model=resnet50",
        "regraft fill -m data=folder data.root=photos model=resnet50 fill.share=1/4,2/4,3/4,4/4 \\",
    ],
    "docs/how-to/install.md": ["python3 -m venv .venv", 'eval "$(regraft -sc install=bash)"'],
    "docs/how-to/predict.md": ["pip install 'regraft[onnx]'"],
    "docs/how-to/search.md": ["pip install 'regraft[optuna]'"],
    "docs/how-to/serve.md": [
        "pip install 'regraft[serve]'",
        "regraft serve run=last",
        "curl -F photos=@one.jpg -F photos=@two.jpg http://127.0.0.1:8000/predict",
    ],
    "docs/how-to/shards.md": [
        "pip install 'regraft[webdataset]'",
        "regraft train data=webdataset 'data.urls=pipe:aws s3 cp s3://bucket/photos-{000000..000127}.tar -'",
    ],
    "docs/how-to/several_machines.md": [
        "torchrun --nnodes=2 --nproc-per-node=4 --rdzv-backend=c10d --rdzv-endpoint=FIRST_MACHINE:29500 \\",
        "sbatch several_machines.sh",
        "regraft train data=folder data.root=photos model=vit_b_16 freezing=gradual trainer=fsdp "
        "trainer.precision=bf16-mixed",
        "torchrun --nnodes=1 --nproc-per-node=4 -m regraft resume run=last output_dir=/shared/outputs",
    ],
    "docs/how-to/slurm.md": [
        "sbatch train.sh",
        "pip install 'regraft[submitit]'",
        "regraft train -m seed=1,2,3 hydra/launcher=submitit_slurm hydra.launcher.partition=gpu \\",
        "pip install 'regraft[joblib]'",
        "pip install 'regraft[ray]'",
        "regraft train -m seed=1,2,3 hydra/launcher=ray hydra.launcher.ray.init.address=auto",
    ],
    "docs/how-to/tables.md": [
        "regraft train data=table 'data.path={train: labelled.csv, test: public.csv}' data.root=photos",
        "pip install 'regraft[hf]'",
    ],
    "docs/how-to/evaluate.md": ["regraft eval run=last calibrate=threshold data.positive=bees"],
    "docs/how-to/tasks.md": ["regraft eval run=last calibrate=thresholds"],
    "docs/how-to/texts.md": [
        "regraft train data=books model=transformers model.name=distilroberta-base",
        "regraft train data=text_folder data.root=reviews model=minilm",
        "regraft train data=hf data.name=OWNER/NAME data.text=review model=minilm",
        'texts = [("Where is my card?", "card"), ("I was charged twice.", "payment"), ...]',
        'regraft predict run=last text="Where is my card?"',
        "from pathlib import Path",
        "regraft export run=last format=hf output=my_model",
    ],
    "docs/how-to/use_a_gpu.md": [
        "regraft train data=folder data.root=photos model=resnet18 trainer=gpu",
        "regraft doctor gpu",
    ],
    "docs/tutorials/first_run.md": ["python3 -m venv .venv"],
}
"""Of each page the first lines of the blocks that the tests don't run; the reason stands above each block."""

LONG_PAGES = {
    f"docs/{page}.md"
    for page in (
        *("tutorials/first_run", "tutorials/own_photos", "how-to/use_from_python", "how-to/add_metric"),
        *("how-to/add_strategy", "how-to/add_head", "how-to/add_command", "how-to/add_data"),
    )
}
"""Pages whose quick blocks together take long."""


@pytest.fixture
def reader() -> Iterator[Reader]:
    modules, path, registered = set(sys.modules), sys.path[:], dict(REGISTRY)
    yield Reader()
    sys.path[:] = path
    REGISTRY.clear()
    REGISTRY.update(registered)
    here = str(Path.cwd())
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(here):
            del sys.modules[name]
    for module in list(sys.modules.values()):
        if isinstance(places := vars(module).get("__path__"), list):
            places[:] = [place for place in places if not place.startswith(here)]


def is_slow(block: Block) -> bool:
    return block.mark == "slow"


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if page in LONG_PAGES else [])
        for page, blocks in RUN.items()
        if not all(map(is_slow, blocks))
    ],
)
def test_the_quick_blocks_of_a_page_work(page, reader):
    for block in RUN[page]:
        if not is_slow(block):
            reader.follow(block)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page, blocks in RUN.items() if any(map(is_slow, blocks))])
def test_all_blocks_of_a_page_work(page, reader):
    for block in RUN[page]:
        reader.follow(block)


def test_what_is_not_run_is_known():
    found = {page: [block.first_line for block in blocks if block.not_run] for page, blocks in BLOCKS.items()}
    assert {page: lines for page, lines in found.items() if lines} == NOT_RUN


def test_no_command_hides_in_a_block_that_is_not_run():
    hidden = [
        f"{block.page}:{block.line}"
        for blocks in BLOCKS.values()
        for block in blocks
        if not block.is_run and block.first_line.startswith(("regraft ", "$ ", "pip ", "make "))
    ]
    assert not hidden


def test_the_readme_names_the_two_commands_that_set_everything_up():
    text = (ROOT / "README.md").read_text()
    assert "make quickstart" in text
    assert "make test" in text


def test_a_training_is_made_small_only_where_its_page_leaves_that_open():
    words = smaller(["train", "model=resnet18", "trainer.max_epochs=5"])
    assert "trainer.max_epochs=2" not in words
    assert "model.weights=null" in words
    assert smaller(["runs"]) == ["runs"]
