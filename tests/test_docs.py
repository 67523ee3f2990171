"""Every command and Python block of the documentation, executed as it stands, in a clean clone with `pip install .`."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from documents import ROOT, assert_installed, blocks, make_clone, run

from bcsed import rounds
from bcsed.cli import app
from bcsed.config.experiments import GROUPS, experiment_names, find_experiment
from bcsed.data import read_soundscape_labels, read_train
from bcsed.data.annotations import read_annotations
from bcsed.data.competitions import FOLDERS
from bcsed.data.deployments import read_deployments
from bcsed.scores.detections import read_taxonomy
from bcsed.scores.detections.species import read_species
from bcsed.scores.table import read_table

README = (ROOT / "README.md").read_text()
# The walk on Kaggle needs a stub server: tests/test_notebooks.py executes it.
DOCUMENTS = ("README.md", "tests/benchmarks/README.md", ".github/CONTRIBUTING.md")


def commands() -> list[str]:
    text = "\n".join(text for _, language, text in blocks("README.md") if language == "bash")
    lines = text.replace("\\\n", " ").splitlines()
    return [part.strip() for line in lines for part in line.split("&&") if part.strip().startswith("bcsed ")]


def test_every_block_has_a_known_language():
    """Only these are executed or drawn; a block in another language could hold a command that nothing executes."""
    for document in DOCUMENTS:
        languages = {language for _, language, _ in blocks(document)}
        assert languages <= {"bash", "python", "text", "mermaid"}, document
        assert not any("bcsed " in text.split("\n")[0] for _, language, text in blocks(document) if language == "text")


def test_the_commands_of_the_readme_parse():
    shown = commands()
    assert {"demo", "train", "export", "check", "predict", "evaluate", "rounds"} <= {line.split()[1] for line in shown}
    for line in shown:
        app.make_parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.parametrize("document", [*DOCUMENTS, "kaggle_notebooks/README.md"])
def test_the_commands_inside_sentences_parse(document):
    """Those that show a part of a command have ``...``."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(), flags=re.DOTALL)
    whole = [line for line in re.findall(r"`(bcsed [^`]+)`", text) if " --" in line and "..." not in line]
    for line in whole:
        words = shlex.split(line.replace("COMMAND", "train").replace(" KIND kaggle_notebooks/KIND", " submit out"))[1:]
        with pytest.raises(SystemExit, match=r"^0$") if "--help" in words else contextlib.nullcontext():
            app.make_parser().parse_args(words)
    assert len(whole) >= (8 if document == "README.md" else 0)


def test_the_files_that_the_readme_shows_are_read(tmp_path):
    rows = re.search(r"\n## Files\n.*?\n\|---\|---\|\n(.*?)\n\n", README, flags=re.DOTALL)
    assert rows is not None
    shown = {row.split("|")[1].strip(): re.findall("`([^`]+)`", row.split("|")[2]) for row in rows[1].splitlines()}
    paths = {}
    for title, lines in shown.items():
        paths[title.split(",")[0].split(" (")[0]] = path = tmp_path / f"{len(paths)}.csv"
        path.write_text("\n".join(lines) + "\n")
    (tmp_path / "audio" / "rook1").mkdir(parents=True)
    soundfile.write(tmp_path / "audio" / "rook1" / "a.wav", np.zeros(100), 32_000)
    paths["labels of clips"].rename(tmp_path / "labels.csv")
    assert list(read_train(tmp_path, FOLDERS, ["rook1"])["label"]) == ["rook1"]
    labels = read_soundscape_labels(paths["labels of soundscapes"], ["owl1", "rook1"])
    assert list(labels["labels"]) == [("owl1", "rook1"), ()]
    assert list(read_annotations(paths["annotations"])["label"]) == ["rook1"]
    scores = read_table(paths["scores"])
    assert scores.at["S1_20250101_060000_5", "rook1"] == pytest.approx(0.91)
    taxonomy = read_taxonomy(paths["names of classes"])
    assert taxonomy["rook1"].common == "Rook"
    assert dict(read_species(paths["species list"], ["owl1", "rook1"], taxonomy).sites) == {"ridge": ("rook1",)}
    (line,) = read_deployments(paths["deployments"])
    assert (line.site, line.recorder) == ("ridge", "AM07")
    assert len(paths) == 7


def test_the_table_of_commands_is_complete():
    listed = set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
    usage = subprocess.run(
        [sys.executable, "-m", "bcsed", "--help"], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout
    assert listed == set(app.COMMANDS)
    assert all(word in usage for word in listed)


def test_the_plan_of_the_readme_is_valid(tmp_path):
    text = re.search(r"cat > plan\.json <<'END'\n(.*?)END\n", README, flags=re.DOTALL)
    assert text is not None
    (tmp_path / "plan.json").write_text(text[1])
    assert len(json.loads(text[1])["rounds"]) == 2
    assert rounds.find_plan(str(tmp_path / "plan.json")).name == "two-rounds"


def test_the_settings_and_experiments_of_the_readme_exist():
    groups = "|".join(GROUPS)
    named = set(re.findall(rf"\b((?:{groups})\.[a-z_]+)=", README))
    assert {"pseudo.share", "fit.epochs", "net.backbone"} <= named
    for name in named:
        group, _, field = name.partition(".")
        assert hasattr(getattr(find_experiment("tiny"), group), field), name
    assert set(re.findall(r"`((?:exp|repeat)-\w+)`", README)) <= set(experiment_names())


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Return a clean clone in which bcsed is installed."""
    folder = make_clone(tmp_path_factory.mktemp("docs"))
    run(folder, "python -m pip install --quiet .", limit_s=600)
    assert_installed(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_executed(clone, document):
    """In the order of the document; test_demo.py executes the demo, .ci/run itself the test command and the linters."""
    n_blocks = 0
    for mark, language, text in blocks(document):
        n_blocks += language in ("bash", "python")
        if mark in ("demo", "tests", "ci") or language not in ("bash", "python"):
            continue
        if language == "python":
            Path(clone / "block.py").write_text(text)
            text = "python block.py"
        run(clone, text, limit_s=1800)
    assert n_blocks
