"""Windows, Penn TreeBank and its known sizes, downloads from a local server, error messages."""

import hashlib
import itertools
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from issref.data import corpus, download, embedded, ptb
from issref.data.corpus import load, windows

untimed = settings(deadline=None)  # other processes may hold a test up
ROOT = Path(__file__).parents[1]
TINY = {"train": b"a b <unk>\nb c\n", "valid": b"a z\n", "test": b"c\n\nb"}


# windows
# -------


@st.composite
def cuts(draw):
    """A text whose ids are its positions, batch, steps and tail, long enough for one window."""
    batch, steps, tail = draw(st.integers(1, 5)), draw(st.integers(1, 7)), draw(st.booleans())
    length = draw(st.integers(batch * (2 if tail else steps + 1), 120))
    return np.arange(length, dtype=np.int32), batch, steps, tail


@untimed
@given(cuts())
def test_each_column_is_one_stretch_of_text_and_targets_are_one_word_later(cut):
    text, batch, steps, tail = cut
    length = len(text) // batch
    pairs = windows(text, batch, steps, tail=tail)
    inputs, targets = (np.concatenate(side) for side in zip(*pairs, strict=True))
    for column in range(batch):
        start = column * length
        np.testing.assert_array_equal(inputs[:, column], text[start : start + len(inputs)])
        np.testing.assert_array_equal(targets[:, column], text[start + 1 : start + 1 + len(inputs)])


@untimed
@given(cuts())
def test_windows_have_their_shape_and_number(cut):
    text, batch, steps, tail = cut
    whole, rest = divmod(len(text) // batch - 1, steps)
    expected = [(steps, batch)] * whole + [(rest, batch)] * (tail and rest > 0)
    pairs = windows(text, batch, steps, tail=tail)
    assert [x.shape for x, _ in pairs] == [y.shape for _, y in pairs] == expected


@untimed
@given(st.integers(2, 60), st.integers(1, 70))
def test_with_the_tail_every_word_but_the_first_is_predicted_once(length, steps):
    text = np.arange(length)
    by_window = np.concatenate([y[:, 0] for _, y in windows(text, 1, steps, tail=True)])
    by_word = np.concatenate([y[:, 0] for _, y in windows(text, 1, 1)])
    np.testing.assert_array_equal(by_window, text[1:])
    np.testing.assert_array_equal(by_word, text[1:])


@pytest.mark.parametrize(
    ("length", "batch", "steps", "tail", "needed"),
    [
        (11, 3, 3, False, "expected 12 words for 3 x 3 steps, got 11"),
        (5, 3, 9, True, "expected 6 words for 3 x 9 steps, got 5"),
        (0, 1, 1, True, "expected 2 words for 1 x 1 steps, got 0"),
        (9, 0, 1, False, "expected batch and steps of at least 1, got 0 and 1"),
    ],
)
def test_too_short_a_text_is_told(length, batch, steps, tail, needed):
    with pytest.raises(ValueError, match=f"^windows: {needed}$"):
        windows(np.arange(length), batch, steps, tail=tail)


# folders, caches, servers, all small
# -----------------------------------


@pytest.fixture(autouse=True)
def isolated(tmp_path, monkeypatch):
    """Isolate tests from the user's cache, folders, proxies and network."""
    for variable in ("ISSREF_DATA", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ISSREF_PTB_URL", "http://127.0.0.1:9")  # nobody listens
    monkeypatch.setattr(download, "cache", lambda: tmp_path / "cache")
    monkeypatch.setattr(download, "RETRIES", 0)


def write(folder, texts=TINY, name="{}.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in texts.items():
        (folder / name.format(split)).write_bytes(text)
    return folder


@pytest.fixture
def tiny_ptb(monkeypatch):
    """Register the tiny texts as Penn TreeBank."""
    for split, text in TINY.items():
        name = f"ptb/ptb.{split}.txt"
        monkeypatch.setitem(download.REGISTRY, name, hashlib.sha256(text).hexdigest())


class Server(HTTPServer):
    """Serve files by name from a thread, each `promised` bytes short; `asked` lists the requests."""

    def __init__(self, files, promised=0):
        super().__init__(("127.0.0.1", 0), Answer)
        self.files, self.promised, self.asked = files, promised, []
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


class Answer(BaseHTTPRequestHandler):
    """One answer of the server."""

    server: Server

    def do_GET(self):
        name = self.path.strip("/")
        self.server.asked.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        text = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(text) + self.server.promised))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts a server of Penn TreeBank's files and sets its URL."""
    servers = []

    def start(texts=TINY, **broken):
        files = {f"ptb.{split}.txt": text for split, text in texts.items()}
        servers.append(Server(files, **broken).__enter__())
        monkeypatch.setenv("ISSREF_PTB_URL", servers[-1].url)
        return servers[-1]

    yield start
    for server in servers:
        server.__exit__()


def cached(tmp_path):
    return sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*.*"))


def refuse(message):
    raise AssertionError(message)


# where Penn TreeBank is found
# ----------------------------


@pytest.mark.parametrize("inside", ["", "ptb"])
@pytest.mark.parametrize("named", ["data-dir", "ISSREF_DATA"])
def test_a_named_folder_is_read_with_or_without_subfolder(tmp_path, monkeypatch, tiny_ptb, inside, named):
    write(tmp_path / "data" / inside, name="ptb.{}.txt")
    monkeypatch.setenv("ISSREF_DATA", str(tmp_path / ("data" if named == "ISSREF_DATA" else "nowhere")))
    text = load("auto", tmp_path / "data" if named == "data-dir" else None, log=refuse)
    assert (text.name, text.source) == ("Penn TreeBank", f"{named} {tmp_path / 'data' / inside}")
    assert text.sha256 == hashlib.sha256(b"".join(TINY.values())).hexdigest()


def test_the_cache_is_read_without_the_network(tmp_path, tiny_ptb):
    folder = write(tmp_path / "cache" / "ptb", name="ptb.{}.txt")
    assert load("ptb", log=refuse).source == f"cache {folder}"


@pytest.mark.parametrize("choice", ["auto", "ptb"])
@pytest.mark.parametrize("named", ["data-dir", "ISSREF_DATA"])
def test_a_named_folder_without_it_is_an_error(tmp_path, monkeypatch, serve, tiny_ptb, choice, named):
    server = serve()
    (tmp_path / "other.txt").touch()
    monkeypatch.setenv("ISSREF_DATA", str(tmp_path) if named == "ISSREF_DATA" else "")
    found = rf"^{named} {re.escape(str(tmp_path))}: expected ptb/ptb\.train\.txt, got other\.txt$"
    with pytest.raises(ValueError, match=found):
        load(choice, tmp_path if named == "data-dir" else None, log=refuse)
    with pytest.raises(ValueError, match=r"expected ptb/ptb\.train\.txt, got No such file or directory$"):
        load(choice, tmp_path / "nowhere", log=refuse)
    assert server.asked == []


@pytest.mark.parametrize("choice", ["auto", "ptb"])
@pytest.mark.parametrize("place", ["data", "cache"])
def test_a_local_file_with_other_contents_is_an_error(tmp_path, tiny_ptb, serve, choice, place):
    server = serve()
    folder = write(tmp_path / place / "ptb", {**TINY, "valid": b"a\n"}, name="ptb.{}.txt")
    with pytest.raises(ValueError, match=r"ptb\.valid\.txt: expected sha256 \w{64}, got \w{64} \("):
        load(choice, tmp_path / "data" if place == "data" else None, log=refuse)
    assert (folder / "ptb.valid.txt").read_bytes() == b"a\n"
    assert server.asked == []


def test_a_file_that_cannot_be_read_is_an_error_not_a_download(tmp_path, tiny_ptb):
    (tmp_path / "ptb.train.txt").mkdir()
    with pytest.raises(
        ValueError,
        match=r"train\.txt: expected a readable file, got (a folder, a pipe or a device|Permission)",
    ):
        load("auto", tmp_path, log=refuse)


# the download
# ------------


def test_a_download_is_made_once_and_kept(tmp_path, serve, tiny_ptb, capsys):
    server = serve()
    first, second = load("auto", log=refuse), load("auto", log=refuse)
    assert server.asked == ["ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"]
    assert first.source == f"download from {server.url}"
    assert second.source == f"cache {tmp_path / 'cache' / 'ptb'}"
    assert first.sha256 == second.sha256
    assert capsys.readouterr().out == ""


def test_a_download_goes_on_where_it_was_cut_short(tmp_path, serve, tiny_ptb):
    write(tmp_path / "cache" / "ptb", {"train": TINY["train"]}, name="ptb.{}.txt")
    server = serve()
    source = load("auto", log=refuse).source
    assert source == f"cache {tmp_path / 'cache' / 'ptb'}, download from {server.url}"
    assert server.asked == ["ptb.valid.txt", "ptb.test.txt"]


def test_a_download_that_breaks_off_is_tried_again(serve, tiny_ptb, monkeypatch):
    server = serve(promised=1000)
    monkeypatch.setattr(download, "RETRIES", 1)
    monkeypatch.setattr("time.sleep", lambda seconds: setattr(server, "promised", 0))  # pooch waits between tries
    assert load("ptb", log=refuse).source == f"download from {server.url}"
    assert server.asked == ["ptb.train.txt", "ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"]


@pytest.mark.parametrize("choice", ["auto", "ptb"])
def test_a_download_with_other_contents_is_an_error_and_not_kept(tmp_path, serve, tiny_ptb, choice):
    serve({**TINY, "valid": b"<html>Please log in</html>"})
    with pytest.raises(ValueError, match=r"valid\.txt: expected sha256 \w{64}, got other bytes") as error:
        load(choice, log=refuse)
    assert not isinstance(error.value, download.NotDownloaded)
    assert cached(tmp_path) == ["ptb/ptb.train.txt"]


@pytest.mark.parametrize(
    ("trouble", "found"),
    [
        ("absent", "ConnectionError"),
        ("interrupted", "ChunkedEncodingError"),
        ("missing", "HTTPError"),
        ("unwritable", "(NotADirectory|FileExists)Error"),
    ],
)
def test_without_a_download_auto_says_one_line_and_is_embedded_and_ptb_is_an_error(
    tmp_path, serve, tiny_ptb, monkeypatch, capsys, trouble, found
):
    if trouble == "interrupted":
        serve(promised=1000)
    if trouble == "missing":
        serve({})
    if trouble == "unwritable":
        (tmp_path / "cache").write_text("a file where the folder should be")
    monkeypatch.setattr(corpus, "_embedded", lambda: "embedded")
    said = []
    assert load("auto", log=said.append) == "embedded"
    need = r"expected a download into \S+ \(or --data-dir with ptb/ptb\.\w+\.txt\)"
    line = rf"No Penn TreeBank \(http://\S+ {need}, got {found}\): using the text .*"
    assert len(said) == 1
    assert re.fullmatch(line, said[0])
    with pytest.raises(ValueError, match=rf"{need}, got {found}$"):
        load("ptb", log=refuse)
    assert cached(tmp_path) == []
    assert capsys.readouterr() == ("", "")


def test_the_cache_is_the_users():
    code = "from issref.data import download; print(download.cache())"
    assert "issref" in Path(python(code).strip()).parts


# Penn TreeBank itself
# --------------------


def real_data():
    """The folder with the real Penn TreeBank, if this machine has one."""
    named = [Path(os.environ["ISSREF_DATA"])] if os.environ.get("ISSREF_DATA") else []
    return next(
        (
            folder
            for folder in [*named, ROOT.parent / "shared/data"]
            if all((folder / name).exists() for name in ptb.NAMES)
        ),
        None,
    )


REAL = real_data()


@pytest.fixture(scope="module")
def penn():
    if REAL is None:
        pytest.skip("Penn TreeBank is not on this machine; ISSREF_DATA can name its folder")
    return load("ptb", REAL)


def test_penn_treebank_has_its_known_numbers(penn):
    assert (len(penn.train), len(penn.valid), len(penn.test)) == (929_589, 73_760, 82_430)
    assert len(penn.words) == 10_000
    eos = penn.words.index("<eos>")
    assert [(split == eos).sum() for split in (penn.train, penn.valid, penn.test)] == [42_068, 3_370, 3_761]
    assert len(windows(penn.train, 20, 35)) == 1327  # the paper's windows of one epoch
    assert len(windows(penn.valid, 20, 35)) == 105


def test_penn_treebank_reads_back_as_its_text(penn):
    text = " ".join(penn.words[number] for number in penn.valid).replace("<eos>", "\n").split()
    assert text == (REAL / "ptb/ptb.valid.txt").read_text().split()


def test_penn_treebank_downloads(penn, serve):
    serve({split: (REAL / f"ptb/ptb.{split}.txt").read_bytes() for split in TINY})
    assert load("auto", log=refuse).sha256 == penn.sha256


# one's own text
# --------------


def test_a_folder_is_read_line_by_line_with_eos_and_unk(tmp_path):
    text = load(str(write(tmp_path / "mine")))
    assert (text.name, text.source) == ("mine", f"folder {tmp_path / 'mine'}")
    assert text.words == ("<eos>", "b", "<unk>", "a", "c")
    assert text.train.dtype == np.int32
    read = [" ".join(text.words[number] for number in split) for split in (text.train, text.valid, text.test)]
    assert read == ["a b <unk> <eos> b c <eos>", "a <unk> <eos>", "c <eos> <eos> b <eos>"]


lines = st.lists(st.lists(st.text("abcdé", min_size=1, max_size=2), max_size=4), min_size=1, max_size=9)


@untimed
@given(lines.filter(any), st.sampled_from(["\n", "\r\n"]))
def test_ids_fall_by_count_then_spelling_and_read_back(tmp_path_factory, text, ending):
    data = "".join(" ".join(line) + ending for line in text).encode()
    own = load(str(write(tmp_path_factory.mktemp("own"), dict.fromkeys(TINY, data))))
    words = [word for line in text for word in [*line, "<eos>"]]
    counts = Counter(words)
    assert [own.words[number] for number in own.test] == words
    assert set(own.words) == set(words)
    keys = [(-counts[word], word) for word in own.words]
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        (
            "valid",
            b"a b\nb q c\n",
            r"valid\.txt: expected words of the training text, which has no <unk>, got 'q' in line 2",
        ),
        ("train", b" \n\n", r"train\.txt: expected at least one word, got none in 3 bytes"),
        ("test", b"", r"test\.txt: expected at least one word, got none in 0 bytes"),
        ("test", b"caf\xc3\xa9 a\ncaf\xe9", r"test\.txt: expected UTF-8, got 0xe9 at byte offset 11"),
        ("valid", None, r"valid\.txt: expected a readable file, got No such file or directory"),
    ],
)
def test_a_wrong_file_is_told_in_a_sentence(tmp_path, file, text, sentence):
    texts = {"train": b"a b c\n", "valid": b"a\n", "test": b"a\n", file: text}
    write(tmp_path, {split: text for split, text in texts.items() if text is not None})
    with pytest.raises(ValueError, match=re.escape(str(tmp_path)) + "." + sentence + "$"):
        load(str(tmp_path))


def test_a_corpus_of_no_such_name_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"^corpus: expected .*, got '\S+nowhere"):
        load(str(tmp_path / "nowhere"))


# the embedded text
# -----------------


def python(code):
    """Run code in a new Python, with another hash seed and warnings as errors, and return its output."""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, text=True, capture_output=True, check=True
    ).stdout


@pytest.fixture(scope="session")
def built():
    return load("embedded")


def test_the_embedded_text_is_large_enough_and_named_by_its_python(built):
    assert 350_000 < len(built.train) < 600_000
    assert all(0.04 < len(split) / len(built.train) < 0.08 for split in (built.valid, built.test))
    assert 6_000 < len(built.words) < 9_000
    assert ".".join(map(str, sys.version_info[:3])) in built.name


def test_the_embedded_text_is_the_same_in_another_process(built):
    code = "from issref.data.corpus import load; print(load('embedded').sha256)"
    assert python(code).strip() == built.sha256


def test_embedded_words_are_those_that_train_has_twice(built):
    counts = np.bincount(built.train, minlength=len(built.words))
    unknown = built.words.index("<unk>")
    assert len(counts) == len(built.words)
    assert np.delete(counts, unknown).min() == 2
    for split in (built.valid, built.test):
        assert split.max() < len(built.words)
        assert 0.01 < (split == unknown).mean() < 0.05


@untimed
@given(st.integers(0, 3000))
def test_the_splits_are_disjoint_blocks_that_cover_the_text(count):
    splits = embedded._split([[str(number)] for number in range(count)])
    numbers = {split: [int(line[0]) for line in lines] for split, lines in splits.items()}
    assert sorted(itertools.chain(*numbers.values())) == list(range(count))
    for split, block in (("valid", 18), ("test", 19)):
        assert numbers[split] == [number for number in range(count) if number // 20 % 20 == block]


def test_a_sentence_is_words_and_marks_in_lower_case():
    text = "Don't call ``os.walk`` 3.11 times...  See 1,000\n other\n\nlines"
    assert [" ".join(words) for words in embedded.sentences(text)] == [
        "don't call ` os . walk ` N times .",
        "see N other",
        "lines",
    ]


def test_docstrings_are_those_of_modules_classes_and_functions_outside_tests(tmp_path):
    source = "'{0}'\nif True:\n    class A:\n        '{0}.A'\n        def f(self):\n            '{0}.A.f'\n"
    for file in ("b/c.py", "a.py", "b/test/test_c.py", "site-packages/d.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source.format(file) + "odd = '\\d'\n")  # Python warns of such escapes
    found = [text for text in embedded._docstrings(tmp_path) if text]
    assert found == ["a.py", "a.py.A", "a.py.A.f", "b/c.py", "b/c.py.A", "b/c.py.A.f"]


def test_a_python_without_its_sources_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded.sysconfig, "get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(ValueError, match=r"^embedded text: expected 200,000 words of .*, got \d+,\d{3} "):
        load("embedded")
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ValueError, match=r"^embedded text: expected pydoc_data\.topics, got"):
        load("embedded")


def test_importing_the_data_package_loads_no_downloader():
    code = "import sys, issref.data.corpus; print(*sys.modules.keys() & {'pooch', 'tqdm', 'requests'})"
    assert python(code).strip() == ""
