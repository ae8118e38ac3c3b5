"""Penn TreeBank as Mikolov prepared it: a sentence a line, 10,000 words, N for numbers, <unk> for others."""

import os
from pathlib import Path

from issref.data import download

NAMES = ("ptb/ptb.train.txt", "ptb/ptb.valid.txt", "ptb/ptb.test.txt")


def read(data_dir: Path | None = None) -> tuple[dict[str, bytes], str]:
    """The bytes of train, valid and test by file name, and one line on where they were; errors of download.find.

    $ISSREF_PTB_URL, if set, is the folder to download them from.
    """
    found = [download.find(name, data_dir, os.environ.get("ISSREF_PTB_URL")) for name in NAMES]
    sources = dict.fromkeys(source for _, source in found)  # one, unless a download was cut short before
    return {path.name: download.read(path) for path, _ in found}, ", ".join(sources)
