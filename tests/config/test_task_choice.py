import pytest

from regraft.config.task_choice import found_task


@pytest.fixture
def table(tmp_path):
    def write(text: str) -> list[str]:
        (tmp_path / "labels.csv").write_text(text)
        return ["data=table", f"data.path={tmp_path / 'labels.csv'}"]

    return write


def test_the_task_is_that_of_the_labels(table):
    numbers = table("file,target\n" + "".join(f"{number}.png,{number / 7}\n" for number in range(30)))
    assert found_task(numbers, None)[0] == "regression"
    labels = table("file,label\na.png,cat|dog\nb.png,dog\nc.png,cat|bird\nd.png,bird|dog\n")
    assert found_task(labels, None)[0] == "multilabel"
    assert found_task([*labels, "grid.lr=[1e-3]", "optimizer.lr=1"], None)[0] == "multilabel"
    axes = ["-m", "data.folds=5", "data.fold=range(0,5)", "data.fraction=0.5,1.0", "optimizer.lr=1,2"]
    assert found_task([*labels, *axes], None)[0] == "multilabel"


def test_classes_a_named_task_and_data_that_isnt_there_choose_nothing(table):
    assert found_task(table("file,label\na.png,cat\nb.png,dog\n"), None) is None
    labels = table("file,label\na.png,cat|dog\nb.png,dog\nc.png,cat|bird\nd.png,bird|dog\n")
    assert found_task([*labels, "task=classification"], None) is None
    assert found_task(["data=table", "data.path=none.csv"], None) is None
    assert found_task(["data=digits"], None) is None
    assert found_task([], None) is None
