"""The notebooks: thin, as generated, pushed by the official client, and run from an empty machine to a score."""

from __future__ import annotations

import ast
import dataclasses
import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import threading
import warnings
from pathlib import Path
from urllib.parse import urlparse

import pytest

from bcsed import bundle, cli, kaggle, predict
from bcsed._version import __version__
from bcsed.cli.app import make_parser
from bcsed.data import synthetic as sample
from bcsed.errors import ConfigError, DataError
from bcsed.kaggle import datasets, notebooks
from bcsed.scores.table import read_table

ROOT = Path(__file__).parent.parent
KINDS = ("train", "pseudolabel", "rounds", "embed", "submit")
TRAINING = ("train", "rounds")
THIN = {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While, ast.Try, ast.comprehension}


def read(folder: Path, kind: str) -> dict:
    return json.loads((folder / f"{kind}.ipynb").read_text())


def code(notebook: dict) -> list[str]:
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


# ---- as they are committed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_is_thin(kind):
    notebook = read(ROOT / "kaggle_notebooks" / kind, kind)
    cells = code(notebook)
    assert len(notebook["cells"]) <= 6
    assert sum(len(cell.splitlines()) for cell in cells if not cell.startswith("# Settings")) <= 20
    assert max(len(line) for cell in cells for line in cell.splitlines()) <= 120
    for cell in cells:
        found = {type(node) for node in ast.walk(ast.parse(cell))}
        assert not found & THIN, cell
    assert all(
        cell["outputs"] == [] and cell["execution_count"] is None for cell in notebook["cells"] if "outputs" in cell
    )
    told = "".join(notebook["cells"][0]["source"])
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert "Attach the data of the competition" in told
    assert "data set of wheels" in told.replace("\n", " ")
    # One cell is edited, and it holds nothing but names and plain values.
    (settings,) = (cell for cell in cells if cell.startswith("# Settings"))
    for line in ast.parse(settings).body:
        assert isinstance(line, ast.Assign)
        ast.literal_eval(line.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_committed_notebook_is_the_one_that_is_generated(kind, tmp_path):
    made = kaggle.kernel(kind, tmp_path / kind, "bcsed")
    for name in (f"{kind}.ipynb", notebooks.METADATA):
        committed = ROOT / "kaggle_notebooks" / kind / name
        assert (made / name).read_text() == committed.read_text(), (
            f"bcsed kaggle kernel {kind} {committed.parent} --owner bcsed --wheels none"
        )
    assert {path.name for path in (ROOT / "kaggle_notebooks" / kind).iterdir()} == {f"{kind}.ipynb", notebooks.METADATA}


def test_the_committed_data_set_is_the_one_that_is_generated():
    committed = json.loads((ROOT / "dataset-metadata.json").read_text())
    assert committed == datasets.metadata("bcsed", datasets.WHEELS_SLUG)
    assert 6 <= len(committed["title"]) <= 50
    assert 20 <= len(committed["subtitle"]) <= 80


@pytest.mark.parametrize("kind", KINDS)
def test_every_setting_is_an_argument_and_is_handed_over(kind):
    import inspect

    fields = dataclasses.fields(notebooks.NOTEBOOKS[kind].settings)
    (call,) = (
        cell for cell in code(read(ROOT / "kaggle_notebooks" / kind, kind)) if "from bcsed import kaggle" in cell
    )
    handed = dict(re.findall(r"(\w+)=(\w+)", call))
    assert handed == {field.name: field.name.upper() for field in fields} | {"log": "print"}
    # The defaults exist once: those of the notebook are those of the function.
    (cell,) = (cell for cell in code(read(ROOT / "kaggle_notebooks" / kind, kind)) if cell.startswith("# Settings"))
    namespace: dict = {}
    exec(cell, namespace)
    values = {field.name: namespace[field.name.upper()] for field in fields}
    for field in fields:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        assert values[field.name] == default
    settings_class = notebooks.NOTEBOOKS[kind].settings
    assert set(inspect.signature(getattr(kaggle, kind)).parameters) == {"settings", "root", "log"}
    assert settings_class(**values).competition == "birdclef-2026"


@pytest.mark.parametrize("kind", KINDS)
def test_metadata_says_everything_and_keeps_the_network_off(kind):
    told = json.loads((ROOT / "kaggle_notebooks" / kind / notebooks.METADATA).read_text())
    assert told["enable_internet"] is False
    assert told["is_private"] is True
    assert told["enable_tpu"] is False
    assert told["enable_gpu"] is (kind in TRAINING)
    assert told["machine_shape"] == ("NvidiaTeslaT4" if kind in TRAINING else None)
    assert told["code_file"] == f"{kind}.ipynb"
    assert (told["language"], told["kernel_type"]) == ("python", "notebook")
    assert told["dataset_sources"] == ["bcsed/bcsed-wheels"]
    assert told["competition_sources"] == ["birdclef-2026"]
    assert told["kernel_sources"] == (["bcsed/bcsed-train"] if kind in ("pseudolabel", "submit") else [])
    assert told["id"] == "bcsed/" + told["title"].replace(" ", "-")


def test_a_list_can_be_set_in_several_parts_and_a_value_once():
    settings = notebooks.NOTEBOOKS["train"].settings
    values = notebooks._read_settings(settings, ["changes=net.backbone=b1", "fold=1", "changes=fit.epochs=15"])
    assert (values["changes"], values["fold"]) == (["net.backbone=b1", "fit.epochs=15"], 1)
    with pytest.raises(ConfigError, match="the setting fold is changed twice"):
        notebooks._read_settings(settings, ["fold=1", "fold=2"])


def test_a_data_set_replaces_the_training_notebook(tmp_path):
    """It may hold the bundles; a notebook that does not exist cannot be attached."""
    for attached, kernels, expected in (
        (["me/bcsed-bundles"], None, []),
        (["me/tables"], ["me/bcsed-train"], ["me/bcsed-train"]),
        ([], None, ["me/bcsed-train"]),
    ):
        out = notebooks.kernel("submit", tmp_path / "out", "me", datasets=attached, kernels=kernels)
        assert json.loads((out / notebooks.METADATA).read_text())["kernel_sources"] == expected


# ---- settings ----------------------------------------------------------------------------------------------


def test_settings_are_written_into_the_one_cell(tmp_path):
    words = [
        "competition=birdclef-2025",
        "bundles=mine",
        'postprocess=["top=3"]',
        "budget_min=70",
        "weights=[1, 2]",
        "ensemble_mean=rank",
        "tta_shifts_s=[0, 1.5]",
    ]
    out = kaggle.kernel("submit", tmp_path / "k", "me", settings=words)
    namespace: dict = {}
    (settings,) = (cell for cell in code(read(out, "submit")) if cell.startswith("# Settings"))
    exec(settings, namespace)
    assert namespace["COMPETITION"] == "birdclef-2025"
    assert (namespace["POSTPROCESS"], namespace["BUNDLES"]) == (["top=3"], ["mine"])
    assert (namespace["BUDGET_MIN"], namespace["WEIGHTS"], namespace["ENSEMBLE_MEAN"]) == (70, [1, 2], "rank")
    assert (namespace["REHEARSE"], namespace["TTA_SHIFTS_S"], namespace["POOL"]) == (20, [0, 1.5], "bundle")
    told = json.loads((out / notebooks.METADATA).read_text())
    assert told["competition_sources"] == ["birdclef-2025"]


@pytest.mark.parametrize(
    ("kind", "words", "sentence"),
    [
        ("submit", ["speed=3"], "--set takes name=value of competition, bundles"),
        ("submit", ["rehearse"], "got 'rehearse'"),
        ("submit", ["rehearse=many"], "rehearse cannot be 'many'; its default is 20"),
        ("submit", ["rehearse=None"], "rehearse cannot be 'None'"),
        ("submit", ["bundles=[1]"], "bundles is a list of names"),
        ("train", ["hours=True"], "hours cannot be 'True'"),
        ("train", ["fold=0.5"], "fold cannot be '0.5'"),
        ("train", ["allow_mismatch=1"], "allow_mismatch cannot be '1'; its default is False"),
        ("submit", ["tta_shifts_s=1.5"], "tta_shifts_s cannot be '1.5'"),
        ("fly", [], "there is no notebook 'fly'; there are train, pseudolabel, rounds, embed, submit"),
    ],
)
def test_settings_that_make_no_sense(tmp_path, kind, words, sentence):
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        kaggle.kernel(kind, tmp_path / "k", "me", settings=words)
    assert not (tmp_path / "k").exists()


def test_a_key_map_and_a_switch_are_written_as_python(tmp_path):
    words = ['key_map={"encoder.": "backbone."}', "allow_mismatch=True", "changes=net.backbone=tf_efficientnet_b0"]
    (cell,) = (
        cell
        for cell in code(read(kaggle.kernel("train", tmp_path / "k", "me", settings=words), "train"))
        if cell.startswith("# Settings")
    )
    namespace: dict = {}
    exec(cell, namespace)
    assert json.loads(namespace["KEY_MAP"]) == {"encoder.": "backbone."}
    assert (namespace["ALLOW_MISMATCH"], namespace["CHANGES"]) == (True, ["net.backbone=tf_efficientnet_b0"])
    assert namespace["PRETRAINED"] == ""


def test_what_is_attached_has_its_form(tmp_path):
    for wrong, sentence in (
        ({"datasets": ["x"]}, "an input is written owner/slug, got 'x'"),
        ({"models": ["a/b"]}, "a model is written owner/model/framework/variation/version, got 'a/b'"),
        ({"title": "abc"}, "the title of a notebook has 5 to 50 characters"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            kaggle.kernel("train", tmp_path / "k", "me", **wrong)
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / "mine.py").write_text("precious")
    with pytest.raises(DataError, match="contains other files; name a new folder for the kernel"):
        kaggle.kernel("train", tmp_path / "k", "me")


# ---- the official client -----------------------------------------------------------------------------------


CLIENT = "from kaggle.cli import main; main()"


class Stub(http.server.BaseHTTPRequestHandler):
    """As much of Kaggle as the client asks: it takes everything, and remembers it."""

    protocol_version = "HTTP/1.1"

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, status: int, values: dict) -> None:
        told = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def do_POST(self) -> None:
        service = urlparse(self.path).path.rsplit("/", 1)[-1]
        asked = json.loads(self.body() or b"{}")
        self.server.asked.append((service, asked))
        if service == "GetDatasetStatus":
            self.answer(404, {"code": 404, "message": "not found"})
        elif service == "StartBlobUpload":
            place = f"http://127.0.0.1:{self.server.server_port}/blob/{asked['name']}"
            self.answer(200, {"token": f"token-{asked['name']}", "createUrl": place})
        elif service == "GetKernelSessionStatus":
            self.answer(200, {"status": "COMPLETE"})
        elif service == "ListKernelSessionOutput":
            url = f"http://127.0.0.1:{self.server.server_port}/output/submission.csv"
            self.answer(200, {"files": [{"url": url, "fileName": "submission.csv"}], "log": "rehearsal: 20 recordings"})
        elif service == "ListSubmissions":
            submission = {"fileName": "submission.csv", "date": "2026-01-01T00:00:00Z", "description": "first"}
            self.answer(200, {"submissions": [{**submission, "status": "COMPLETE", "publicScore": "0.9"}]})
        elif service == "SaveKernel":
            self.answer(200, {"ref": asked.get("slug", ""), "url": "https://example.org/k", "versionNumber": 1})
        else:
            self.answer(200, {"ref": "r", "url": "https://example.org/d", "status": "ok"})

    def do_GET(self) -> None:
        body = b"row_id,a\nx_5,0.5\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        self.server.blobs[urlparse(self.path).path.removeprefix("/blob/")] = self.body()
        self.answer(200, {})

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server():
    """A stub of Kaggle that records its requests."""
    stub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.asked, stub.blobs = [], {}
    thread = threading.Thread(target=stub.serve_forever, daemon=True)
    thread.start()
    yield stub
    stub.shutdown()
    thread.join()
    stub.server_close()


@pytest.fixture
def client_environment(server, tmp_path):
    """Environment variables with which the official client uses the stub."""
    pytest.importorskip("kagglesdk")
    (tmp_path / "config").mkdir()
    # Its local mode uses http://localhost, which a proxy redirects to the port of the stub.
    proxy = f"http://127.0.0.1:{server.server_port}"
    return {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "NO_PROXY": "127.0.0.1",
        "KAGGLE_USERNAME": "me",
        "KAGGLE_KEY": "0" * 32,
        "KAGGLE_CONFIG_DIR": str(tmp_path / "config"),
        "HOME": str(tmp_path),
    }


@pytest.fixture
def client(server, client_environment):
    """The official client with the stub; a call returns what was printed."""
    other = {name: value for name, value in os.environ.items() if not re.search("proxy|kaggle", name, re.IGNORECASE)}

    def call(*words: str) -> str:
        command = [sys.executable, "-c", CLIENT, *words]
        environment = other | client_environment
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    call.server = server
    return call


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_client_pushes_a_kernel(client, tmp_path, kind, capsys):
    words = ["kaggle", "kernel", kind, str(tmp_path / kind), "--owner", "me", "--wheels", "none"]
    words += ["--set", "competition=birdclef-2025"]
    assert cli.main(words) == 0
    printed = capsys.readouterr().out
    assert f"upload the notebook: kaggle kernels push -p {tmp_path / kind}" in printed
    assert 'COMPETITION = "birdclef-2025"  # slug or path' in printed
    told = client("kernels", "push", "-p", str(tmp_path / kind))
    assert "Kernel version 1 successfully pushed" in told
    assert "surprising behavior" not in told
    ((service, sent),) = client.server.asked
    assert service == "SaveKernel"
    wanted = json.loads((tmp_path / kind / notebooks.METADATA).read_text())
    assert (sent["slug"], sent["newTitle"]) == (f"me/bcsed-{kind}", f"bcsed {kind}")
    assert (sent["enableInternet"], sent["isPrivate"], sent["enableGpu"]) == (False, True, kind in TRAINING)
    assert (sent["language"], sent["kernelType"]) == ("python", "notebook")
    assert sent["datasetDataSources"] == ["me/bcsed-wheels"]
    assert sent["competitionDataSources"] == ["birdclef-2025"]
    assert sent.get("kernelDataSources", []) == wanted["kernel_sources"]
    assert sent.get("machineShape") == wanted["machine_shape"]
    assert sent["dockerImagePinningType"] == "original"
    # The client joins each cell's lines; the rest is what was written.
    source = json.loads(sent["text"])
    assert ["".join(cell["source"]) for cell in read(tmp_path / kind, kind)["cells"]] == [
        c["source"] for c in source["cells"]
    ]
    assert any('COMPETITION = "birdclef-2025"' in cell["source"] for cell in source["cells"])


@pytest.mark.slow
def test_the_client_uploads_every_file_of_a_data_set(client, tmp_path):
    from test_kaggle import write_wheel

    (tmp_path / "in").mkdir()
    tags = ("cp312-cp312", "cp313-cp313")
    openvino = [f"openvino-1.0-1-{tag}-manylinux2014_x86_64" for tag in tags]
    for name in (f"bcsed-{__version__}-py3-none-any", *openvino):
        write_wheel(tmp_path / "in" / f"{name}.whl")
    write_wheel(tmp_path / "in" / "openvino_telemetry-1.0-py3-none-any.whl")
    out = tmp_path / "out"
    assert cli.main(["kaggle", "dataset", str(out), "--owner", "me", "--wheels", str(tmp_path / "in")]) == 0
    told = client("datasets", "create", "-p", str(out))
    assert "kipping" not in told
    (created,) = (sent for service, sent in client.server.asked if service == "CreateDataset")
    assert (created["ownerSlug"], created["slug"], created["title"]) == ("me", "bcsed-wheels", "bcsed wheels")
    assert created["licenseName"] == "other"
    assert created["isPrivate"] is True
    there = {path.name for path in out.iterdir()} - {"dataset-metadata.json"}
    assert len(there) == 5
    assert {file["token"] for file in created["files"]} == {f"token-{name}" for name in there}
    assert client.server.blobs == {name: (out / name).read_bytes() for name in there}


# ---- the walk of the README ------------------------------------------------------------------------------------

WALK = ROOT / "kaggle_notebooks" / "README.md"


def walk_commands() -> str:
    return "".join(re.findall(r"```bash\n(.*?)```", WALK.read_text(), flags=re.DOTALL))


def test_the_walk_has_no_other_blocks_and_its_commands_parse():
    text = WALK.read_text()
    assert set(re.findall(r"^```(\w+)$", text, re.MULTILINE)) == {"bash"}
    lines = [line for line in walk_commands().replace("\\\n", " ").splitlines() if line.startswith("bcsed ")]
    assert len(lines) >= 7
    for line in lines:
        options = make_parser().parse_args(shlex.split(line.replace("$NAME", "me"), comments=True)[1:])
        if "kind" in options:
            notebooks._read_settings(notebooks.NOTEBOOKS[options.kind].settings, options.set)
    assert set(re.findall(r"`(budget_min|select|top_n)`", text)) <= {
        field.name for notebook in notebooks.NOTEBOOKS.values() for field in dataclasses.fields(notebook.settings)
    }


@pytest.mark.slow
def test_every_command_of_the_walk_is_executed(server, client_environment, tmp_path, tiny):
    """In a clean clone, in the order of the text, in one shell; the client uses the stub."""
    clone = tmp_path / "bcsed"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    shutil.copytree(tiny.path, clone / "bundle")
    # The packages that are installed here are not downloaded again; bcsed itself is installed from the clone.
    subprocess.run([sys.executable, "-m", "venv", str(clone / ".venv")], check=True)
    (site,) = (clone / ".venv" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in client_environment.items())
    (programs / "kaggle").write_text(f'#!/bin/bash\n{exports}exec {sys.executable} -c {shlex.quote(CLIENT)} "$@"\n')
    (programs / "kaggle").chmod(0o755)
    # This interpreter makes the virtual environment, which may not be the python3 of the machine.
    (programs / "python3").symlink_to(sys.executable)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["PATH"] = f"{programs}{os.pathsep}{environment['PATH']}"
    script = walk_commands() + 'cd / && python -c "import bcsed; print(bcsed.__file__)"\n'
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=clone, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    # The installed copy was used, and the wheel was built from the clone.
    assert str(clone / ".venv") in result.stdout.splitlines()[-1]
    assert f"building the wheel of bcsed {__version__} from {clone}" in result.stdout
    services = [service for service, _ in server.asked]
    assert services.count("SaveKernel") == 8
    assert {"CreateDataset", "CreateDatasetVersion", "CreateCodeSubmission", "ListSubmissions"} <= set(services)
    assert f"bcsed-{__version__}-py3-none-any.whl" in server.blobs and "bundle.zip" in server.blobs
    assert (clone / "rehearsal" / "submission.csv").is_file()
    (sent,) = (sent for service, sent in server.asked if service == "CreateCodeSubmission")
    assert (sent["kernelOwner"], sent["kernelSlug"], sent["fileName"]) == ("me", "bcsed-submit", "submission.csv")


# ---- from an empty machine to a score ----------------------------------------------------------------------

SETTINGS = {
    "train": [
        "experiment=tiny",
        "pretrained=none",
        'changes=["fit.epochs=1", "fit.batch_size=8", "data.min_class_count=2"]',
        "fold=None",
        "jobs=2",
    ],
    "pseudolabel": ["select=top", "top_n=5", "jobs=2"],
    "submit": ["rehearse=3", "jobs=2"],
}
# What a scoring notebook must never need.
FORBIDDEN = (
    "bcsed.train",
    "bcsed.train.dataset",
    "bcsed.train.augment",
    "bcsed.train.losses",
    "bcsed.models.pretrained",
    "bcsed.plot",
    "timm",
)
PROBE = """
import json, resource, sys
import bcsed
peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print("PROBE" + json.dumps({"modules": sorted(sys.modules), "peak_kib": peak_kib, "home": bcsed.__file__}))
"""
# Any connection to another machine is an error: Kaggle has no network.
NO_NETWORK = """
import socket
_connect = socket.socket.connect
def connect(self, address):
    if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        raise OSError(f"no network here: {address}")
    return _connect(self, address)
socket.socket.connect = connect
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A fresh virtual environment with what Kaggle's image has, without bcsed and OpenVINO; and the wheels."""
    home = tmp_path_factory.mktemp("machine")
    wheels = kaggle.dataset(
        home / "wheels", "me", python=(f"{sys.version_info.major}.{sys.version_info.minor}",), log=lambda _: None
    )
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    site = next((home / "venv").glob("lib/python*/site-packages"))
    deps = home / "image"
    deps.mkdir()
    for path in sorted(Path(sysconfig.get_path("purelib")).iterdir()):
        if not re.match(r"(?i)(__editable__\W*)?_*(bcsed|openvino)|.*\.pth$|__pycache__", path.name):
            (deps / path.name).symlink_to(path)
    (site / "image.pth").write_text(f"{deps}\nimport no_network\n")
    (site / "no_network.py").write_text(NO_NETWORK)
    interpreter = home / "venv" / "bin" / "python"
    for name in ("bcsed", "openvino"):
        assert subprocess.run(
            [interpreter, "-c", f"import {name}"], cwd=home, capture_output=True, check=False
        ).returncode, name
    spec = home / "jupyter" / "kernels" / "machine"
    spec.mkdir(parents=True)
    argv = [str(interpreter), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "machine", "language": "python"}))
    return home, wheels


def execute(home: Path, folder: Path, kind: str, root: Path, monkeypatch, *, probe: bool = False) -> tuple[str, dict]:
    """Run a notebook with a real kernel, and return what it printed and what the probe saw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of Jupyter's packages
        import nbclient
        import nbformat

        notebook = nbformat.read(folder / f"{kind}.ipynb", as_version=4)
        if probe:
            notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
        monkeypatch.setenv("JUPYTER_PATH", str(home / "jupyter"))
        monkeypatch.setenv("BCSED_KAGGLE_ROOT", str(root))
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        monkeypatch.delenv("PYTHONPATH", raising=False)
        place = {"metadata": {"path": str(root / "working")}}
        nbclient.NotebookClient(notebook, timeout=1800, kernel_name="machine", resources=place).execute()
    printed = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    told, _, seen = printed.partition("PROBE")
    return told, json.loads(seen) if seen else {}


class Kaggle:
    """A fake tree of Kaggle's, of one year, in one layout."""

    def __init__(self, root: Path, year: int, layout: dict[str, str], wheels: Path, data: Path) -> None:
        self.root, self.layout, self.slug = root, layout, f"birdclef-{year}"
        self.data = self.place("competition", self.slug)
        shutil.copytree(data, self.data, ignore=shutil.ignore_patterns("test_soundscapes", "*truth.csv"))
        (self.data / "test_soundscapes").mkdir()
        (self.data / "test_soundscapes" / "readme.txt").write_text("hidden until the rerun\n")
        shutil.copytree(wheels, self.place("dataset", "bcsed-wheels"))
        self.session()

    def place(self, kind: str, slug: str) -> Path:
        path = self.root / "input" / self.layout[kind].format(slug=slug)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def session(self) -> None:
        """Begin a session: nothing is in working."""
        shutil.rmtree(self.root / "working", ignore_errors=True)
        (self.root / "working").mkdir()

    def mount(self, slug: str) -> None:
        """End a session, and attach its output to the next."""
        shutil.move(self.root / "working", self.place("notebook", slug))
        self.session()


LEGACY = {"competition": "{slug}", "dataset": "{slug}", "notebook": "{slug}"}
NEW = {"competition": "competitions/{slug}", "dataset": "datasets/me/{slug}", "notebook": "notebooks/me/{slug}"}


@pytest.mark.slow
@pytest.mark.parametrize(("year", "layout"), [(2025, LEGACY), (2026, NEW)], ids=["2025", "2026"])
def test_from_an_empty_machine_to_a_submission(machine, tmp_path, monkeypatch, year, layout):
    home, wheels = machine
    data = sample.write(tmp_path / "sample", year=year, scale=0.2)
    site = Kaggle(tmp_path / "kaggle", year, layout, wheels, data)
    folders = {}
    for kind in SETTINGS:
        settings = (f"competition=birdclef-{year}", *SETTINGS[kind])
        words = [word for text in settings for word in ("--set", text)] + ["--wheels", str(wheels)]
        assert cli.main(["kaggle", "kernel", kind, str(tmp_path / kind), "--owner", "me", *words]) == 0
        folders[kind] = tmp_path / kind

    told, _ = execute(home, folders["train"], "train", site.root, monkeypatch)
    assert f"competition: {site.data}" in told
    assert "no run to resume among the inputs, so the training starts from the beginning" in told
    assert "exported" in told
    site.mount("bcsed-train")

    told, _ = execute(home, folders["pseudolabel"], "pseudolabel", site.root, monkeypatch)
    assert (site.root / "working" / "pseudolabels.parquet").is_file(), told
    site.mount("bcsed-pseudolabel")

    template = list(read_table(data / "sample_submission.csv").columns)
    # test_kaggle.py rehearses in the older layout too.
    if year == 2026:
        told, seen = execute(home, folders["submit"], "submit", site.root, monkeypatch, probe=True)
        assert "rehearsal: 3 recordings" in told
        rehearsed = read_table(site.root / "working" / "submission.csv")
        assert (len(rehearsed), list(rehearsed.columns)) == (36, template)
        # The wheel's bcsed ran, and nothing of training with it.
        assert str(home / "venv") in seen["home"]
        assert not [name for name in seen["modules"] if name.startswith(FORBIDDEN)]
        site.session()

    for path in (data / "test_soundscapes").iterdir():
        (site.data / "test_soundscapes" / path.name).symlink_to(path)
    monkeypatch.setenv("KAGGLE_IS_COMPETITION_RERUN", "1")
    told, _ = execute(home, folders["submit"], "submit", site.root, monkeypatch)
    scores = read_table(site.root / "working" / "submission.csv")
    assert list(scores.columns) == template
    # On the empty machine, in three sessions, the same scores as by one call here. test_demo.py judges what is learned.
    (manifest,) = site.root.rglob("bundle.json")
    mine = predict.predict([bundle.load(manifest.parent)], [data / "test_soundscapes"]).scores
    assert sorted(scores.index) == sorted(mine.index)
    assert (scores - mine.loc[scores.index, template]).abs().to_numpy().max() < 1e-5


@pytest.mark.slow
def test_a_hundred_soundscapes_stay_below_four_gigabytes(machine, tmp_path, monkeypatch):
    home, wheels = machine
    from test_kaggle import sealed_as

    data = sample.write(tmp_path / "sample", year=2026, scale=0.1)
    site = Kaggle(tmp_path / "kaggle", 2026, NEW, wheels, data)
    paths = sorted((data / "test_soundscapes").iterdir())
    for number in range(100):
        name = f"BC2026_Test_{number:04d}_S05_20250227_010002.ogg"
        (site.data / "test_soundscapes" / name).symlink_to(paths[number % len(paths)])
    classes = tuple(read_table(data / "sample_submission.csv").columns)
    sealed_as(site.place("notebook", "bcsed-train") / "bundle", classes)
    kaggle.kernel("submit", tmp_path / "submit", "me", settings=["jobs=2"], wheels=wheels)
    _, seen = execute(home, tmp_path / "submit", "submit", site.root, monkeypatch, probe=True)
    assert len(read_table(site.root / "working" / "submission.csv")) == 1200
    print(f"peak memory {seen['peak_kib'] / 2**20:.2f} GiB")
    assert seen["peak_kib"] < 4 * 2**20
