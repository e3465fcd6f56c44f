"""The ants and bees photos of PyTorch's transfer-learning tutorial: a folder data set, downloaded from a URL."""

import zipfile
from pathlib import Path

from torchvision.datasets.utils import download_url

from regraft.core.atomic import temporary_folder
from regraft.core.errors import ConfigError
from regraft.data.sources.base import Splits
from regraft.data.sources.folder import FolderSource
from regraft.data.sources.tree import Tree, check_reachable, refuse_file

FOLDER = "hymenoptera_data"
NUM_TRAIN = 244
NUM_VAL = 153


class AntsBeesSource:
    """244 training and 153 validation photos of 2 classes; the latter are used as the test split (see FolderSource).

    Args:
        root: a folder that has `train` and `val`, or that holds or will hold `hymenoptera_data`.
        url: address of the archive.
        md5: the archive's. PyTorch doesn't publish it, so None checks the unpacked classes and numbers of images.
    """

    def __init__(self, *, root: str, url: str, md5: str | None) -> None:
        self._root = Path(root).expanduser()
        self._url = url
        self._md5 = md5

    def is_here(self) -> bool:
        """Whether `prepare` would download nothing."""
        return self._root.is_file() or self._folder() is not None

    def prepare(self) -> None:
        """Downloads the photos, unless they are there."""
        refuse_file(self._root)
        if self._folder() is not None:
            return
        check_reachable(
            self._url,
            f"{self._root} holds neither train and val nor {FOLDER}",
            "data=digits, or data=ants_bees data.root=PATH for a copy that you have",
        )
        self._root.mkdir(parents=True, exist_ok=True)
        # Moved into place only when complete, so that an interrupted download is never mistaken for the data set.
        with temporary_folder(self._root / FOLDER) as folder:
            download_url(self._url, folder, "archive.zip", self._md5)
            unpack(folder / "archive.zip", folder)
            check_content(folder / FOLDER)
            (folder / FOLDER).replace(self._root / FOLDER)

    def splits(self) -> Splits:
        """Returns the splits of the folder."""
        return self._source().splits()

    def tree(self) -> Tree:
        """Returns the content of the folder, including its problems."""
        return self._source().tree()

    def _source(self) -> FolderSource:
        folder = self._folder()
        assert folder is not None, "prepare() comes first"
        return FolderSource(root=str(folder), on_error="raise", splits={})

    def _folder(self) -> Path | None:
        folders = (self._root, self._root / FOLDER)
        return next((each for each in folders if (each / "train").is_dir() and (each / "val").is_dir()), None)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks a zip file; its members can't leave the folder (`ZipFile.extract`). ValueError if it isn't a zip file."""
    if not zipfile.is_zipfile(archive):
        raise ConfigError("data.url", "the downloaded file is not a zip file. Check data.url, or try again.")
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)


def check_content(folder: Path) -> None:
    """Raises ValueError if a downloaded folder doesn't have the tutorial's classes and numbers of images."""
    splits = FolderSource(root=str(folder), on_error="raise", splits={}).splits()
    num_test = 0 if splits.test is None else len(splits.test)
    if (splits.class_names, len(splits.train), num_test) != (("ants", "bees"), NUM_TRAIN, NUM_VAL):
        raise ConfigError(
            "data.url",
            f"the downloaded archive has classes {', '.join(splits.class_names)}, {len(splits.train)} train and "
            f"{num_test} val images; expected ants, bees, {NUM_TRAIN} and {NUM_VAL}. Check data.url.",
        )
