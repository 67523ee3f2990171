"""Every command and Python block of the documentation, executed as it stands, in a clean clone with `pip install .`."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from bcsed import rounds
from bcsed.cli import app
from bcsed.config.experiments import GROUPS, experiment_names, find_experiment

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# The walk on Kaggle needs a stub server: tests/test_notebooks.py executes it.
DOCUMENTS = ("README.md", "tests/benchmarks/README.md", ".github/CONTRIBUTING.md")
BLOCK = re.compile(r"(<!-- (?:run: )?(?P<mark>[\w ]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def blocks(document: str) -> list[tuple[str, str, str]]:
    """Return the mark, language and text of each block of a document."""
    text = (ROOT / document).read_text()
    return [(m["mark"] or "", m["language"], m["text"]) for m in BLOCK.finditer(text)]


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
    """Return a clean clone with the start of a virtual environment: it sees the packages that are installed here.

    ``python3 -m venv .venv`` of the documents leaves it as it is, and ``pip install .`` installs bcsed itself into it,
    not editable; only the download of the packages that bcsed needs is saved.
    """
    folder = tmp_path_factory.mktemp("docs") / "bcsed"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder / ".venv")], check=True)
    (site,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(clone: Path, script: str, *, limit_s: float) -> str:
    """Execute a script with bash in the clone and return what it prints."""
    keep = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        env={**keep, "PATH": path, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_executed(clone, document):
    """In the order of the document; .ci/run itself executes the test command and the linters."""
    n_blocks = 0
    for mark, language, text in blocks(document):
        n_blocks += language in ("bash", "python")
        if mark in ("tests", "ci") or language not in ("bash", "python"):
            continue
        if language == "python":
            Path(clone / "block.py").write_text(text)
            text = "python block.py"
        if document != "README.md" and not (clone / ".venv" / "bin" / "bcsed").exists():
            run(clone, "python -m pip install --quiet .", limit_s=600)
        output = run(clone, text, limit_s=1800)
        if mark == "demo":
            auc = re.search(r"macro ROC-AUC ([\d.]+) over 14 of 14 classes, 96 rows", output)
            assert auc is not None
            assert float(auc[1]) >= 0.85
            # A second demo in the same folder is refused, and nothing is lost.
            run(clone, "bcsed demo && exit 1 || [ $? = 2 ]", limit_s=60)
            where = run(clone, 'cd / && python -c "import bcsed; print(bcsed.__file__)"', limit_s=60)
            assert str(clone / ".venv") in where, "the clone must use its own, installed copy"
    assert n_blocks
