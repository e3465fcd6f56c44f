"""Six hundred sentences of five novels, which come with the package: real texts without a network."""

from pathlib import Path

from regraft.data.sources.text_table import TextTableSource

_TABLE = Path(__file__).with_name("books.csv")


class BooksSource(TextTableSource):
    """120 sentences of 60 to 180 letters each of five novels, whose class is the novel; without an official split.

    The novels are in the public domain (Project Gutenberg's texts): Pride and Prejudice (Austen, 1813), Moby-Dick
    (Melville, 1851), A Tale of Two Cities (Dickens, 1859), Alice in Wonderland (Carroll, 1865) and the Adventures of
    Sherlock Holmes (Doyle, 1892). The sentences lie at equal distances from the start of a novel to its end.
    """

    name = "books"

    def __init__(self) -> None:
        super().__init__(path=str(_TABLE))
