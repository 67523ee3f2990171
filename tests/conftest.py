"""Signals, small networks and a small competition, made here; nothing is downloaded."""

from __future__ import annotations

import csv
import gc
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

# One thread a process: two workers share two cores. Before torch is imported, which reads it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from bcsed.config.contract import TINY_128, Contract, Frontend, Net
from bcsed.files import sha256
from bcsed.models import backends
from bcsed.models.export import export
from bcsed.models.network import SedNet

# As in bcsed.__main__: the objects of imported packages are not searched for garbage again and again.
gc.set_threshold(50_000, 20, 100)
RATE = 32_000
# The aim is five seconds on a quiet core; a machine that others share needs up to ten times that.
LIMIT_S = 60.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Fail a test that takes too long without the mark `slow`; processor time, so that a busy machine matters less."""
    began = time.process_time()
    result = yield
    took = time.process_time() - began
    if took > LIMIT_S and not item.get_closest_marker("slow") and not os.environ.get("BCSED_NO_LIMIT"):
        pytest.fail(f"takes {took:.1f} s of processor time: mark it slow, or make it smaller")
    return result


@pytest.fixture(scope="session", autouse=True)
def compiled_graphs():
    """Compile the same graph with the same options once for all tests: it takes half of the time of a prediction."""
    compiled, read_graph, compile_graph = {}, backends.read_graph, backends.compile_graph

    def read(bundle):
        graph = read_graph(bundle)
        graph.key = [sha256(bundle.path / name) for name in ("model.xml", "model.bin")]
        return graph

    def compile_once(graph, frontend, **options):
        if options["cache"] is not None:
            return compile_graph(graph, frontend, **options)
        key = str((graph.key, frontend, options))
        # The last ones used, of which there are few at a time.
        model = compiled[key] = compiled.pop(key, None) or compile_graph(graph, frontend, **options)
        if len(compiled) > 8:
            compiled.pop(next(iter(compiled)), None)
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "read_graph", read)
        patch.setattr(backends, "compile_graph", compile_once)
        yield


class Loudness(torch.nn.Module):
    """The oracle: it reports how loud each step is, and how quiet, instead of birds."""

    steps = 8

    def forward(self, db: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        B, F, T = db.shape
        loud = db.reshape(B, F, self.steps, T // self.steps).mean((1, 3))[..., None] / 20.0
        logits = torch.cat((loud, -loud), 2)
        return logits, torch.zeros_like(logits)


def seal(network: torch.nn.Module, folder: Path, classes: tuple[str, ...], net: Net, frontend: Frontend = TINY_128):
    contract = Contract(frontend=frontend, net=net, classes=classes)
    # The oracle has no weights to keep, and no parameter to ask for its device.
    network.register_parameter("unused", torch.nn.Parameter(torch.zeros(1)))
    priors = np.linspace(0.1, 0.4, len(classes)).astype("float32")
    return export(network, folder, contract=contract, priors=priors)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def oracle(tmp_path_factory):
    """A bundle whose scores can be worked out by hand."""
    return seal(Loudness(), tmp_path_factory.mktemp("oracle") / "bundle", ("loud", "quiet"), Net(backbone="oracle"))


@pytest.fixture(scope="session")
def oracle_logit(tmp_path_factory):
    net = Net(backbone="oracle", pool="logit")
    return seal(Loudness(), tmp_path_factory.mktemp("oracle") / "bundle", ("loud", "quiet"), net)


@pytest.fixture(scope="session")
def network():
    """A tiny network whose weights and BatchNorm statistics are no longer those of the start."""
    torch.manual_seed(3)
    net = SedNet(TINY_128, Net(backbone="mobilenetv3_small_050"), 3)
    for layer in (net.heads[0].logits[-1], net.heads[0].attention):
        layer.weight.data.mul_(8)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 64, 256) * 15 - 30)
    return net.eval()


@pytest.fixture(scope="session")
def tiny(network, tmp_path_factory):
    """A sealed bundle of that network."""
    contract = Contract(frontend=TINY_128, net=Net(backbone="mobilenetv3_small_050"), classes=("a", "b", "c"))
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    return export(network, folder, contract=contract, priors=np.full(3, 0.2, "float32"))


@pytest.fixture(scope="session")
def forkserver():
    """Processes of this context have imported bcsed at their start; a test that kills many would mostly import it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bcsed.cli.app", "bcsed.rounds", "openvino", "timm"])
    return context


@pytest.fixture
def rng():
    return np.random.default_rng(20251)


@pytest.fixture(scope="session")
def recordings(tmp_path_factory):
    """Soundscapes of several lengths, noise whose level steps from second to second."""
    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(1)
    for name, seconds in {"long": 60.0, "odd": 23.4, "short": 7.3, "blip": 0.1}.items():
        n = round(seconds * RATE)
        level = 10 ** (-np.repeat(rng.uniform(0.3, 2.5, int(np.ceil(seconds))), RATE)[:n])
        soundfile.write(folder / f"{name}.wav", (0.3 * level * rng.standard_normal(n)).astype("float32"), RATE)
    return folder


def clip(label: int, rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """A clip of one of three unlike callers in noise."""
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = (900, 3000, 7000)[label] * rng.uniform(0.9, 1.1)
    gate = np.sin(2 * np.pi * (1, 3, 8)[label] * t + rng.uniform(0, 6)) > 0
    return (0.2 * gate * np.sin(2 * np.pi * pitch * t) + 0.02 * rng.standard_normal(t.size)).astype("float32")


def write_year(folder: Path, *, per_class: int = 8, labels: tuple[str, ...] = ("1139490", "cuckoo1", "frog1")) -> Path:
    """Write a small competition in the layout of 2025."""
    rng = np.random.default_rng(5)
    lines = []
    for place, label in enumerate(labels):
        (folder / "train_audio" / label).mkdir(parents=True)
        for number in range(per_class):
            name = f"{label}/XC{1000 * place + number}.ogg"
            soundfile.write(folder / "train_audio" / name, clip(place, rng, 2 + number), RATE)
            lines.append([label, "['']", "['']", name, "XC", 4.0, "", 1.0, 2.0, label, label, f"author {number}", "cc"])
    header = "primary_label secondary_labels type filename collection rating url latitude longitude scientific_name"
    write_csv(folder / "train.csv", [*header.split(), "common_name", "author", "license"], lines)
    write_csv(
        folder / "taxonomy.csv",
        ["primary_label", "inat_taxon_id", "scientific_name", "common_name", "class_name"],
        [[label, 1, label, label, "Aves"] for label in labels],
    )
    write_csv(folder / "sample_submission.csv", ["row_id", *labels], [["soundscape_1_5", *[1 / 3] * len(labels)]])
    (folder / "test_soundscapes").mkdir()
    for number in range(3):
        waves = np.concatenate([clip((number + row) % 3, rng, 5.0) for row in range(4)])
        soundfile.write(folder / "test_soundscapes" / f"soundscape_{number}.ogg", waves, RATE)
    return folder


def write_csv(path: Path, header: list[str], lines: list[list[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *lines])


@pytest.fixture(scope="session")
def year(tmp_path_factory):
    """A small competition; tests that change it copy it first."""
    return write_year(tmp_path_factory.mktemp("year") / "data")


def edit_json(path: Path, change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.fixture
def reseal():
    """Write a bundle's manifest again after `change`, with today's hashes, as a forger would."""

    def act(folder: Path, change) -> None:
        def both(values):
            change(values)
            values["files"] = {name: sha256(folder / name) for name in values["files"]}

        edit_json(folder / "bundle.json", both)

    return act


def write_land(folder: Path, *, labelled: bool) -> Path:
    """Add soundscapes of four sites, named as in 2026, to a small competition; three of them with labels."""
    (folder / "train_soundscapes").mkdir()
    labels = ("1139490", "cuckoo1", "frog1")
    rng = np.random.default_rng(8)
    lines: list[list[object]] = []
    for number, site in enumerate(("S01", "S01", "S02", "S03", "S04", "S04")):
        name = f"BC2026_Train_{number:04d}_{site}_20211231_201500.ogg"
        wave = np.concatenate([clip((number + row) % 3, rng, 5.0) for row in range(4)])
        soundfile.write(folder / "train_soundscapes" / name, wave, RATE)
        told = [[name, f"00:00:{5 * r:02}", f"00:00:{5 * r + 5:02}", labels[(number + r) % 3]] for r in range(4)]
        lines += told if number in (0, 2, 3) else []
    if labelled:
        write_csv(folder / "train_soundscapes_labels.csv", ["filename", "start", "end", "primary_label"], lines * 2)
    return folder


@pytest.fixture(scope="session")
def land25(year, tmp_path_factory):
    """The small competition with unlabelled soundscapes, and a table of pseudolabels of them."""
    import shutil

    from bcsed.train import pseudolabels as pseudolabel

    data = tmp_path_factory.mktemp("land25") / "data"
    shutil.copytree(year, data)
    write_land(data, labelled=False)
    names = sorted(path.name for path in (data / "train_soundscapes").iterdir())
    values = np.zeros((24, 3), np.float16)
    values[np.arange(24), (np.arange(24) // 4 + np.arange(24) % 4) % 3] = np.linspace(0.5, 0.99, 24)
    ends = np.tile([5, 10, 15, 20], 6)
    table = pseudolabel.Pseudolabels(
        filename=np.repeat(np.array(names, object), 4),
        start_s=ends - 5,
        end_s=ends,
        values=values,
        classes=("frog1", "1139490", "cuckoo1"),
        provenance={"selection": {"kind": "threshold", "power": 1.0}, "teachers": [], "n_failed": 0},
    )
    # Columns in another order than the competition's, as a teacher may have them.
    table = pseudolabel.Pseudolabels(**{**vars(table), "values": values[:, [2, 0, 1]]})
    pseudolabel.write_pseudolabels(table, data.parent / "pl.parquet")
    return data, data.parent / "pl.parquet"


@pytest.fixture(scope="session")
def land26(year, tmp_path_factory):
    """The small competition in the layout of 2026: soundscapes of three of the four sites are labelled."""
    import shutil

    data = tmp_path_factory.mktemp("land26") / "data"
    shutil.copytree(year, data)
    return write_land(data, labelled=True)


BROWSER_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
    *("--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage"),
)


def start_browser(profile: Path, *flags: str, logs: dict | None = None, prefs: dict | None = None):
    """Start Chromium with a profile's folder; skip the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, a test extra, is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("there is no Chromium with its driver here (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*BROWSER_FLAGS, *flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if prefs is not None:
        options.add_experimental_option("prefs", prefs)
    options.set_capability("goog:loggingPrefs", logs or {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
