"""The blocks of the documents, and a clean clone with `pip install .` in which they are executed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(<!-- (?:run: )?(?P<mark>[\w ]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


def blocks(document: str) -> list[tuple[str, str, str]]:
    """Return the mark, language and text of each block of a document."""
    text = (ROOT / document).read_text()
    return [(m["mark"] or "", m["language"], m["text"]) for m in BLOCK.finditer(text)]


def make_clone(folder: Path) -> Path:
    """Return a clean clone with the start of a virtual environment: it sees the packages that are installed here.

    ``python3 -m venv .venv`` of the documents leaves it as it is, and ``pip install .`` installs bcsed itself into it,
    not editable; only the download of the packages that bcsed needs is saved.
    """
    clone = folder / "bcsed"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "venv", str(clone / ".venv")], check=True)
    (site,) = (clone / ".venv" / "lib").glob("python*/site-packages")
    (site / "here.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return clone


def run(clone: Path, script: str, *, limit_s: float) -> str:
    """Execute a script with bash in the clone and return what it prints."""
    keep = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    path = f"{clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        # One thread, as all tests: a second one waits for the other tests, and uses a third more processor time.
        env={**keep, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )
    assert result.returncode == 0, f"{script}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return result.stdout


def assert_installed(clone: Path) -> None:
    """Assert that the clone uses its own, installed copy of bcsed."""
    location = run(clone, 'cd / && python -c "import bcsed; print(bcsed.__file__)"', limit_s=60)
    assert str(clone / ".venv") in location
