"""Hostile files: every loader either reads a file or raises ValueError with one line.

Every loader is given arbitrary bytes, and valid files that are cut, flipped, spliced and, where they have a
structure (JSON, safetensors, ONNX, a zip file of PyTorch), changed inside it, their checksums made right again.
While one reads, it may take a bounded time and a bounded amount of memory, open nothing but what lies in its
folder, and start, rename, remove or unpickle nothing. A loader is a row of LOADERS. The last lines count:

ISSREF_SEARCH=1 pytest tests/test_hostile.py        a thousand inputs for each loader
"""

import ast
import importlib.util
import io
import json
import os
import pickle
import resource
import signal
import sys
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import unhooked

from issref import Layout, train_ptb
from issref.data import corpus, download, glove, ptb, squad
from issref.ptb.evaluation import evaluate
from issref.ptb.settings import Settings
from issref.report.page import comparison_page, run_page
from issref.report.run import read_run
from issref.squad.settings import SquadSettings
from issref.sweep import frontier
from issref.sweep.grid import Run as Swept
from issref.sweep.status import check_same, write_sweep
from issref.sweep.task import COMMANDS
from issref.training import checkpoint
from issref.training.runs import LAST, load_run
from issref.verify import released
from issref.verify.formats import convert, flax, keras, onnx, tf1, torch
from issref.verify.formats.dialect import REFERENCE
from issref.verify.suite import conformance, scoring

SECONDS, MEMORY = 5, 2**28  # of processor time, and bytes, of one reading, beyond what the process has already
SENTENCE = 1000  # characters

# ---------------------------------------------------------------- the watch

FORBIDDEN = {
    *(
        "pickle.find_class",
        "os.system",
        "os.exec",
        "os.fork",
        "os.posix_spawn",
        "subprocess.Popen",
        "ctypes.dlopen",
    ),
    *("os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate", "shutil.rmtree"),
    "socket.connect",
}
OURS = str(Path(download.__file__).parents[1])
LIBRARIES = tuple({sys.prefix, sys.base_prefix, OURS, "/proc/", "/sys/", "/dev/"})
watched: list[str] = []  # the folder that may be read, and then whatever else was done


def watch(event, arguments):
    if watched and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(arguments[0]))
        if not path.startswith((watched[0], *LIBRARIES)):
            watched.append(f"opened {path}")
    elif watched and event in FORBIDDEN:
        watched.append(f"{event} {arguments}")


sys.addaudithook(watch)


class Hang(BaseException):
    """No loader catches it."""


@contextmanager
def watching(folder):
    def too_long(number, frame):
        raise Hang

    before, limits = signal.signal(signal.SIGPROF, too_long), resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    try:
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, limits[1]))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        watched[:] = [os.path.realpath(folder.parent)]  # where a run's text lies too
        yield
        assert watched[1:] == []
    finally:
        watched.clear()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_AS, limits)


def outcome(load, folder):
    """How the reading of a folder ended; any other end is a crash, and the test fails."""
    try:
        with watching(folder), unhooked():
            load(folder)
    except ValueError as error:
        assert watched == []
        said = str(error)
        assert said.strip()
        assert "\n" not in said
        assert len(said) <= SENTENCE
        return "refused in a sentence"
    return "read"


# ---------------------------------------------------------------- valid files


@cache
def files_of_a_run(folder: Path) -> dict[str, bytes]:
    """A folder of texts and a finished run in it."""
    text, run, words = folder / "text", folder / "run", [f"w{n % 5} w{n % 3}\n" for n in range(60)]
    text.mkdir()
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").write_text("".join(words[:8] if split == "valid" else words))
    sizes = "--preset zaremba-small --hidden-sizes 3 2 --batch 2 --steps 5 --epochs 1 --threads 1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("issref.report.draw_run", lambda *arguments: [])
        assert train_ptb.main(["--corpus", str(text), "--out", str(run), *sizes.split()]) == 0
    return {path.name: path.read_bytes() for path in [*text.iterdir(), *run.iterdir()]}


def lstm(spelling) -> dict[str, np.ndarray]:
    """An LSTM of two layers in a dialect."""
    rng, layout = np.random.default_rng(0), REFERENCE.layout([3, 4, 2])
    params = {name: rng.normal(size=layout.shape(name)).astype(np.float32) for name in layout.axes}
    return params if spelling is REFERENCE else spelling.from_reference(params)


def safetensors_of(spelling, run) -> bytes:
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(values) for name, values in lstm(spelling).items()})


def hdf5_of(run) -> bytes:
    import h5py

    with h5py.File(content := io.BytesIO(), "w") as file:
        for name, values in lstm(keras.SPELLING).items():
            file[name] = values
    return content.getvalue()


def written(module, suffix, run) -> bytes:
    path = run / f"lstm{suffix}"
    module.write(path, lstm(module.SPELLING))
    return path.read_bytes()


def group_file(run) -> bytes:
    return released.write_groups(released.rhn_variables(4, 2, 7), ["width"]).encode()


def outputs(run) -> bytes:
    from safetensors.numpy import save

    return save(conformance.load().expected["float64"])


def squad_file(run) -> bytes:
    asked = {"id": "1", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}]}
    paragraphs = [{"context": "Ada wrote it.", "qas": [asked, {**asked, "id": "2"}]}]
    return json.dumps({"version": "1.1", "data": [{"title": "A", "paragraphs": paragraphs}]}).encode()


def glove_zip(run) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.6B.2d.txt", GLOVE)
    return buffer.getvalue()


GLOVE = b"the 0.5 -1.25\nof 1e-3 2\n"


def of_run(name, run) -> bytes:
    return files_of_a_run(run)[name]


# ---------------------------------------------------------------- mutations


def spoilt(valid: bytes) -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, and the valid ones cut off, with bytes flipped, with a stretch replaced."""
    place, junk = st.integers(0, len(valid)), st.binary(max_size=20)
    flips = st.dictionaries(st.integers(0, max(0, len(valid) - 1)), st.integers(1, 255), min_size=1, max_size=6)
    return st.one_of(
        st.binary(max_size=200),
        place.map(lambda stop: valid[:stop]),
        flips.map(lambda found: bytes(byte ^ found.get(n, 0) for n, byte in enumerate(valid))),
        st.tuples(place, place, junk).map(lambda cut: valid[: cut[0]] + cut[2] + valid[cut[1] :]),
    )


DEEP, LONG = "<deep>", "<long>"
JUNK = [None, True, False, -1, 0, 1, 2, 7, 2**31, 2**62, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, float("nan")]
JUNK += [float("inf"), "", "a", "~", "\0", "../../../../etc/passwd", "é" * 300, DEEP, LONG, [], {}, [[]], [{}]]
JUNK += [{"": None}, [2**40, 2**40], [0, 2**62], "I64", "BF16", "F8_E4M3", "BOOL"]


def places_in(tree, path=()) -> Iterator[tuple]:
    yield path
    for key, part in tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ():
        yield from places_in(part, (*path, key))


def changed(tree, path, value):
    """The tree with another value at one place; KeyError stands for none, the place left out."""
    if not path:
        return None if value is KeyError else value
    copy, (key, *rest) = tree.copy(), path
    if rest:
        copy[key] = changed(tree[key], rest, value)
    elif value is KeyError:
        del copy[key]
    else:
        copy[key] = value
    return copy


@st.composite
def changed_json(draw, valid: bytes) -> bytes:
    """One to three values somewhere in the JSON replaced, left out, or taken from elsewhere in it."""
    tree = json.loads(valid)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places_in(tree))
        elsewhere = tree
        for key in draw(st.sampled_from(paths)):
            elsewhere = elsewhere[key]
        value = draw(st.sampled_from([*JUNK, KeyError, elsewhere]))
        tree = changed(tree, draw(st.sampled_from(paths)), value)
    text = json.dumps(tree, separators=(",", ":")).replace(f'"{DEEP}"', "[" * 20_000 + "]" * 20_000)
    return text.replace(f'"{LONG}"', "9" * 5000).encode()


def head(content: bytes) -> tuple[bytes, bytes]:
    stop = 8 + int.from_bytes(content[:8], "little")
    return content[8:stop], content[stop:]


def headed(header: bytes, body: bytes) -> bytes:
    """A safetensors file of these parts, with its checksum right if it has one."""
    content = len(header).to_bytes(8, "little") + header + body
    before, found, after = content.partition(b'"sha256":"')
    if not found or len(after) < 64:
        return content
    content = before + found + checkpoint.UNKNOWN.encode() + after[64:]
    return before + found + checkpoint._checksum(content, checkpoint.UNKNOWN).encode() + after[64:]


@st.composite
def changed_metadata(draw, valid: bytes) -> bytes:
    """The JSON inside one of the metadata's values changed."""
    header, body = head(valid)
    tree = json.loads(header)
    if said := sorted(tree.get("__metadata__", {}).keys() - {"format", "sha256"}):
        key = draw(st.sampled_from(said))
        tree["__metadata__"][key] = draw(changed_json(tree["__metadata__"][key].encode())).decode()
    return headed(json.dumps(tree, separators=(",", ":")).encode(), body)


def safetensors(valid: bytes) -> st.SearchStrategy[bytes]:
    header, body = head(valid)
    return st.one_of(
        spoilt(valid),
        changed_json(header).map(partial(headed, body=body)),
        spoilt(body).map(partial(headed, header)),
        changed_metadata(valid),
    )


def json_text(valid: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt(valid), changed_json(valid), changed_json(valid))


@st.composite
def zipped(draw, valid: bytes) -> bytes:
    """The members of a zip file spoilt, one or two of them, with their checksums right; deflated or not."""
    with zipfile.ZipFile(io.BytesIO(valid)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in draw(st.lists(st.sampled_from([*members]), min_size=1, max_size=2)):
        members[name] = draw(spoilt(members[name]))
    buffer, packed = io.BytesIO(), draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(buffer, "w", packed) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def archived(valid: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt(valid), zipped(valid))


class Runs:
    """What a pickle can ask for."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@cache
def strange_states() -> list[bytes]:
    """Files of torch.save that a program may write and no LSTM needs."""
    import torch

    name, ring, doubled = "lstm.weight_ih_l0", {}, {"w": torch.zeros(1)}
    ring["ring"] = ring
    for _ in range(64):
        doubled = {"a": doubled, "b": doubled}
    warnings.simplefilter("ignore")  # of what torch itself finds strange
    zeros = torch.zeros
    trees = [
        ring, doubled, [zeros(2)], zeros(2), {}, 7, {name: 7}, {7: zeros(2)}, {(1,): zeros(1)},
        {name: zeros(1).expand(2**40, 4)}, {name: zeros(1).expand(2**20, 2**20)},
        {name: zeros(2, dtype=torch.bfloat16).as_strided((2**20, 2**16), (0, 0))},
        {name: torch.sparse_coo_tensor([[0], [0]], [1.0], (2**30, 2**30))},
        {name: torch.quantize_per_tensor(zeros(4), 0.1, 0, torch.qint8)}, {name: zeros(4, 4, device="meta")},
        {name: torch.nn.Parameter(zeros(8, 2))}, {name: zeros(4, dtype=torch.float8_e4m3fn)},
        {name: zeros(4).to(torch.complex64)}, {name: zeros(8, 3), "lstm.weight_hh_l0": zeros(())},
        {name: Runs("ran")}, Runs("ran"),
    ]  # fmt: skip
    found = [pickle.dumps(Runs("ran"), protocol=2), pickle.dumps({name: Runs("ran")}, protocol=4)]
    for tree in trees:
        for zipping in (True, False):
            buffer = io.BytesIO()
            try:
                torch.save(tree, buffer, _use_new_zipfile_serialization=zipping)
            except (RuntimeError, NotImplementedError):  # what this format lacks
                continue
            found.append(buffer.getvalue())
    return found


def torch_files(valid: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(archived(valid), st.sampled_from(strange_states()))


@st.composite
def onnx_models(draw, valid: bytes) -> bytes:
    """A model with some of its parts changed: names, dimensions, types, where the weights lie."""
    import onnx

    model = onnx.ModelProto.FromString(valid)
    graph, number = model.graph, st.sampled_from([-1, 0, 1, 2, 3, 16, 2**31, 2**62])
    text = st.sampled_from(["", "x", "lstm0/W", "lstm0/hidden", "lstm1/hidden", "lstm0/y", "z"])
    elsewhere = st.sampled_from(["../../../../etc/passwd", "/etc/passwd", "lstm.onnx", ".", "", "\0"])
    for _ in range(draw(st.integers(1, 4))):
        node, tensor = draw(st.sampled_from(graph.node)), draw(st.sampled_from(graph.initializer))
        match draw(st.integers(0, 11)):
            case 0 if node.input:
                node.input[draw(st.integers(0, len(node.input) - 1))] = draw(text)
            case 1 if node.output:
                node.output[draw(st.integers(0, len(node.output) - 1))] = draw(text)
            case 2:
                del (node.input if draw(st.booleans()) else node.output)[draw(st.integers(0, 3)) :]
            case 3:
                node.op_type = draw(st.sampled_from(["LSTM", "Squeeze", "Constant", "Identity", "Scan", ""]))
            case 4:
                tensor.dims[:] = draw(st.lists(number, max_size=4))
            case 5:
                tensor.data_type = draw(st.integers(-1, 30))
            case 6:
                tensor.data_location = onnx.TensorProto.EXTERNAL
                keys = {"location": draw(elsewhere), "offset": str(draw(number)), "length": str(draw(number))}
                for key, value in list(keys.items())[: draw(st.integers(0, 3))]:
                    tensor.external_data.add(key=key, value=value)
            case 7:
                tensor.name = draw(text)
            case 8:
                tensor.raw_data = draw(st.binary(max_size=40))
            case 9:
                tensor.ClearField("raw_data")
                tensor.float_data[:] = draw(st.lists(st.floats(width=32), max_size=8))
            case 10 if node.attribute:
                attribute = draw(st.sampled_from(node.attribute))
                attribute.name, attribute.type = draw(text), draw(st.integers(0, 14))
            case 11:
                graph.node.add(op_type=draw(st.sampled_from(["Constant", "LSTM", "Squeeze"])), output=[draw(text)])
    return model.SerializeToString()


def onnx_files(valid: bytes) -> st.SearchStrategy[bytes]:
    return st.one_of(spoilt(valid), onnx_models(valid), onnx_models(valid))


# ---------------------------------------------------------------- the table


class Loader(NamedTuple):
    """valid(folder of a finished run) is the content of the file `name`, beside `others` of that run; mutations
    are drawn from it; load(folder) reads it. `needs` is a package that reads it, if not one of issref's own."""

    valid: Callable[[Path], bytes]
    name: str
    mutations: Callable[[bytes], st.SearchStrategy[bytes]]
    load: Callable[[Path], object]
    others: tuple[str, ...] = ()
    needs: str = "numpy"


def read_port_outputs(folder):
    suite = conformance.load()
    return scoring.score(suite, conformance.outputs_in(folder), {})


def resume(folder):
    with ExitStack() as held:
        settings = Settings.read(folder / "config.json")
        return train_ptb.resume(train_ptb.Command(settings=settings, resume=folder), held)


@np.errstate(all="ignore")  # weights of any size are weights
def evaluated(folder):
    return evaluate(folder, Settings.read(folder / "config.json"), "valid")


def read_layout(folder):
    layout = Layout.from_json((folder / "layout.json").read_bytes().decode(errors="replace"))
    layout.parameters()
    return [(layout.shape(array), layout.spell(array)) for array in layout.axes]


def read_groups(folder):
    shapes = {name: released.rhn_variables(4, 2, 7).shape(name) for name in released.rhn_variables(4, 2, 7).axes}
    return released.read_groups((folder / "groups.json").read_bytes().decode(errors="replace"), shapes)


def reported(folder):
    run_page(run := read_run(folder))
    comparison_page({"a": run})


def tabled(folder):
    """The report without its figures, in which there is nothing of config.json."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("issref.report.page.inline", lambda figure, name, alt: "")
        reported(folder)


def swept(folder):
    """The table and the figure of a sweep of one run; a damaged run is one of them, with the reason."""
    (row,) = (sweep := record(folder))["runs"]
    frontier.markdown(sweep)
    if row["result"]:
        frontier.frontier_figure(sweep)
    elif row["reason"]:
        raise ValueError(row["reason"])


def record(folder):
    """What sweep.json says; nothing is written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("issref.sweep.status.write_json", lambda path, content: None)
        return write_sweep(folder, COMMANDS["ptb"], [], SWEPT)


def sweep_file(run) -> bytes:
    return json.dumps(record(run / "none")).encode()


def converted(name):
    return lambda folder: convert.load(folder / name)


def layout_file(run) -> bytes:
    return REFERENCE.layout([3, 4, 2]).to_json().encode()


SWEPT = [Swept("run", [], Settings())]
OF_A_REPORT = {
    "config.json": json_text, "metrics.jsonl": json_text, "result.json": json_text,
    "model.safetensors": safetensors,
}  # fmt: skip
CORPUS = ("train.txt", "valid.txt", "test.txt")
LOADERS = {
    "corpus": Loader(partial(of_run, "train.txt"), "train.txt", spoilt, lambda f: corpus.load(str(f)), CORPUS),
    "corpus, test": Loader(partial(of_run, "test.txt"), "test.txt", spoilt, lambda f: corpus.load(str(f)), CORPUS),
    "Penn TreeBank": Loader(partial(of_run, "train.txt"), "ptb.train.txt", spoilt, ptb.read),
    "settings": Loader(
        partial(of_run, "config.json"), "config.json", json_text, lambda f: Settings.read(f / "config.json")
    ),
    **{
        f"report, {name}": Loader(
            partial(of_run, name),
            name,
            mutations,
            tabled if name == "config.json" else reported,
            tuple(OF_A_REPORT.keys() - {name}),
        )
        for name, mutations in OF_A_REPORT.items()
    },
    **{
        f"sweep, {name}": Loader(
            partial(of_run, name),
            f"run/{name}",
            mutations,
            swept,
            tuple(f"run/{one}" for one in OF_A_REPORT.keys() - {name}),
        )
        for name, mutations in OF_A_REPORT.items()
        if name != "model.safetensors"
    },
    "sweep": Loader(sweep_file, "sweep.json", json_text, lambda f: check_same(f, COMMANDS["ptb"], SWEPT)),
    "settings, squad": Loader(
        lambda run: json.dumps(SquadSettings().to_dict()).encode(),
        "config.json",
        json_text,
        lambda f: SquadSettings.read(f / "config.json"),
    ),
    "layout": Loader(layout_file, "layout.json", json_text, read_layout),
    "group file": Loader(group_file, "groups.json", json_text, read_groups),
    "checkpoint": Loader(partial(of_run, LAST), LAST, safetensors, lambda f: load_run(f / LAST)),
    "resume": Loader(partial(of_run, LAST), LAST, safetensors, resume, ("config.json",)),
    "model": Loader(
        partial(of_run, "model.safetensors"),
        "model.safetensors",
        safetensors,
        evaluated,
        ("config.json",),
    ),
    "manifest of vectors": Loader(
        lambda run: (conformance.VECTORS / "2" / "manifest.json").read_bytes(),
        "manifest.json",
        json_text,
        lambda f: conformance.load(conformance.version_in(f)),
    ),
    "outputs of a port": Loader(outputs, "float64.outputs.safetensors", safetensors, read_port_outputs),
    "PyTorch": Loader(
        partial(written, torch, ".pt"), "lstm.pt", torch_files, converted("lstm.pt"), needs="torch"
    ),
    "ONNX": Loader(
        partial(written, onnx, ".onnx"), "lstm.onnx", onnx_files, converted("lstm.onnx"), needs="onnx"
    ),
    "Keras' .h5": Loader(hdf5_of, "lstm.h5", spoilt, converted("lstm.h5"), needs="h5py"),
    **{
        f"safetensors, {name}": Loader(
            partial(safetensors_of, spelling), "lstm.safetensors", safetensors, converted("lstm.safetensors")
        )
        for name, spelling in {
            "issref": REFERENCE, "PyTorch": torch.SPELLING, "Flax": flax.SPELLING,
            "Keras": keras.SPELLING, "TensorFlow 1": tf1.SPELLING,
        }.items()
    },
    "SQuAD": Loader(
        squad_file, "dev.json", json_text, lambda f: squad.read("dev.json", download.read(f / "dev.json"))
    ),
    "GloVe": Loader(lambda run: GLOVE, "g.txt", spoilt, lambda f: glove.read(f / "g.txt", ["the", "of"], 2)),
    "GloVe, zipped": Loader(glove_zip, "g.zip", archived, lambda f: glove.read(f / "g.zip", ["the", "of"], 2)),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def tally(request):
    """Inputs by loader and outcome, shown at the end."""
    counts = Counter()
    yield counts
    total = Counter()
    if not counts:
        return
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print()
        for name in dict.fromkeys(name for name, _ in counts):
            each = {way: counts[name, way] for way in ("fuzzed", "read", "refused in a sentence")}
            each["crashed"] = each["fuzzed"] - each["read"] - each["refused in a sentence"]
            total.update(each)
            print(f"hostile, {name}:", ", ".join(f"{count} {way}" for way, count in each.items()))
        names = {name for name, _ in counts}
        print(f"hostile, {len(names)} loaders:", ", ".join(f"{count} {way}" for way, count in total.items()))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as on Linux")
@pytest.mark.parametrize("name", LOADERS)
def test_a_file_is_read_or_refused_in_a_sentence(name, run, tmp_path, tally):
    loader = LOADERS[name]
    if not importlib.util.find_spec(loader.needs):
        pytest.skip(f"needs {loader.needs}")
    valid = loader.valid(run)
    for other in (*loader.others, loader.name):
        (tmp_path / other).parent.mkdir(exist_ok=True)
    for other in loader.others:
        (tmp_path / other).write_bytes(files_of_a_run(run)[Path(other).name])
    (tmp_path / loader.name).write_bytes(valid)
    if loader.load is not ptb.read:  # whose hashes no small file has
        loader.load(tmp_path)  # what is imported late is here now
    outside = sorted(tmp_path.parent.iterdir())

    @given(loader.mutations(valid))
    def reads(content):
        (tmp_path / loader.name).write_bytes(content)
        tally[name, "fuzzed"] += 1
        tally[name, outcome(loader.load, tmp_path)] += 1

    reads()
    assert sorted(tmp_path.parent.iterdir()) == outside  # nothing was written there


# ---------------------------------------------------------------- by name


def packed(name, megabytes) -> bytes:
    """A zip file of a member of zeros: a thousandth of its size."""
    buffer = io.BytesIO()
    archive = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open(name, "w") as file:
        for _ in range(megabytes):
            file.write(bytes(2**20))
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "member"), [("PyTorch", "lstm/data.pkl"), ("GloVe, zipped", "glove.6B.2d.txt")])
def test_a_small_file_that_unpacks_to_a_large_one_is_refused(name, member, tmp_path, tally):
    loader = LOADERS[name]
    pytest.importorskip(loader.needs)
    (tmp_path / loader.name).write_bytes(packed(member, 2 * MEMORY // 2**20))
    assert (tmp_path / loader.name).stat().st_size < MEMORY / 50
    assert outcome(loader.load, tmp_path) == "refused in a sentence"


@pytest.mark.parametrize(
    "name", ["weight_ih_l" + "1" * 100_000 + "-", "lstm/" * 20_000 + "weight_ih_l0", "/" * 100_000]
)
def test_a_long_name_takes_no_long_time(name, tmp_path):
    from safetensors.numpy import save

    (tmp_path / "lstm.safetensors").write_bytes(save({name: np.zeros((8, 2))}))
    assert outcome(converted("lstm.safetensors"), tmp_path) == "refused in a sentence"


def test_a_folder_or_a_pipe_in_the_place_of_a_file_is_refused(tmp_path):
    for split in ("train", "valid", "test"):
        os.mkfifo(tmp_path / f"{split}.txt")
    os.mkfifo(tmp_path / LAST)
    (tmp_path / "lstm.safetensors").mkdir()
    for load in (LOADERS["corpus"].load, LOADERS["checkpoint"].load, converted("lstm.safetensors")):
        assert outcome(load, tmp_path) == "refused in a sentence"


def test_what_is_downloaded_comes_over_https_and_has_a_hash():
    assert download.URLS.keys() <= download.REGISTRY.keys()
    assert all(url.startswith("https://") for url in download.URLS.values())
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in download.REGISTRY.values())


def calls(path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a source file, by the name that is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def test_no_source_unpickles_evaluates_or_unpacks_into_a_folder():
    """torch.load with weights_only=True is all there is of pickles; the commands' own code is run by none."""
    refused = {"eval", "exec", "compile", "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.loads"}
    refused |= {"np.load", "os.system", "os.popen", "yaml.load"}
    for path in Path(download.__file__).parents[1].rglob("*.py"):
        for name, call in calls(path):
            assert name not in refused, f"{path.name}, line {call.lineno}: {name}"
            assert not name.endswith((".extractall", ".extract")), f"{path.name}, line {call.lineno}: {name}"
            if name == "torch.load":
                assert {"weights_only": "True"}.items() <= {
                    k.arg: ast.unparse(k.value) for k in call.keywords
                }.items()
