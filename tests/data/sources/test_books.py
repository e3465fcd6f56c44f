import torch

from regraft.data.sources.books import BooksSource
from regraft.data.text.samples import Texts


def test_as_many_sentences_of_each_novel() -> None:
    source = BooksSource()
    source.prepare()
    splits = source.splits()
    assert len(splits.class_names) == 5
    assert torch.bincount(splits.train.labels).tolist() == [120] * 5
    assert isinstance(splits.train, Texts)
    texts = splits.train.texts()
    assert len(set(texts)) == 600
    assert all(60 <= len(text) <= 180 for text in texts)
