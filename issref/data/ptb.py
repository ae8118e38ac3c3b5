"""Penn TreeBank as prepared by Mikolov: one sentence per line, 10,000 words, N for numbers, <unk> for others."""

import os
from pathlib import Path

from issref.data import download

NAMES = ("ptb/ptb.train.txt", "ptb/ptb.valid.txt", "ptb/ptb.test.txt")


def read(data_dir: Path | None = None) -> tuple[dict[str, bytes], str]:
    """Return the bytes of train, valid and test by file name, and a line on where they were found.

    They are downloaded from the folder $ISSREF_PTB_URL, if it is set. Raises ValueError as `download.find` does.
    """
    found = [download.find(name, data_dir, os.environ.get("ISSREF_PTB_URL")) for name in NAMES]
    sources = dict.fromkeys(source for _, source in found)  # several if an earlier download was interrupted
    return {path.name: download.read(path) for path, _ in found}, ", ".join(sources)
