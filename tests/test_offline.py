"""No command looks up a network name, connects, or writes into the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# In a file that every Python process reads at its start, the children of a command too.
HOOKS = """
import os, socket
def record(name):
    original = getattr(socket, name) if name != "connect" else socket.socket.connect
    def act(*args, **options):
        if name != "connect" or not isinstance(args[1], (str, bytes)):
            with open(os.environ["LOOKUPS"], "a") as file:
                print(name, args, file=file)
            raise OSError("there is no network")
        return original(*args, **options)
    return act
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "create_connection"):
    setattr(socket, name, record(name))
socket.socket.connect = record("connect")
"""
RUN = """
import shlex, sys
from bcsed.cli.app import main
for line in sys.stdin.read().splitlines():
    status = main(shlex.split(line))
    print(status, line)
    assert status == 0, line
"""
SET = "--set fit.epochs=1 fit.batch_size=6 net.backbone=mobilenetv3_small_050 data.min_class_count=2 data.n_folds=3"


@pytest.fixture
def execute(tmp_path):
    """Return a function that executes commands in one process, and asserts that none used a network or the home."""

    def act(code: str, lines: str = "") -> None:
        (tmp_path / "hooks").mkdir()
        (tmp_path / "home").mkdir()
        (tmp_path / "hooks" / "sitecustomize.py").write_text(HOOKS)
        lookups, home = tmp_path / "lookups", tmp_path / "home"
        path = os.pathsep.join([str(tmp_path / "hooks"), str(Path(__file__).parent.parent)])
        # OpenVINO keeps quiet in CI by itself.
        ci = ("CI", "TF_BUILD", "JENKINS_URL")
        environment = {name: value for name, value in os.environ.items() if name not in ci}
        environment |= {"PYTHONPATH": path, "HOME": str(home), "LOOKUPS": str(lookups), "MPLCONFIGDIR": str(tmp_path)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, input=lines, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        assert not lookups.exists(), lookups.read_text()
        assert not [item for item in home.rglob("*") if item.is_file() and ".cache" not in item.parts]

    return act


def test_the_hooks_see_a_lookup(execute):
    with pytest.raises(AssertionError, match=r"getaddrinfo \('example.org', 80\)"):
        execute("import contextlib, socket\nwith contextlib.suppress(OSError): socket.getaddrinfo('example.org', 80)")


@pytest.mark.slow
def test_a_bundle_is_used_without_a_network(execute, tiny, year, tmp_path):
    recording = year / "test_soundscapes" / "soundscape_0.ogg"
    lines = f"""versions
check {tiny.path}
predict {tiny.path} --recordings {recording} --out scores
doctor scores/submission.csv
trace {tiny.path} {recording} --out ours.npz"""
    execute(RUN, lines)


@pytest.mark.slow
def test_nothing_that_bcsed_does_needs_a_network(execute, year, land25, tmp_path):
    data = land25[0]
    classes = ("1139490", "cuckoo1", "frog1")
    rows = [f"soundscape_{n}.ogg,{5 * r},{5 * r + 5},{name}\n" for n in (0, 1) for r, name in enumerate(classes)]
    (tmp_path / "labels.csv").write_text("filename,start,end,primary_label\n" + "".join(rows))
    recordings = f"{data}/test_soundscapes"
    train = f"train tiny --data {data} --pretrained none {SET}"
    lines = f"""doctor --data {data}
{train} --out run
{train} --fold 1 --out run1
export run --out bundle
check bundle
predict bundle --recordings {recordings} --out scores --workers 2 --format submission csv raven scores --threshold 0.3
evaluate scores/submission.csv --truth labels.csv
calibrate scores/submission.csv --truth labels.csv --min-positives 1 --out thresholds.json
pseudolabel bundle --recordings {data}/train_soundscapes --out pl.parquet --top-n 2
compare run run1 --recordings {recordings} --truth labels.csv --out comparison
report run scores --recordings {recordings} --truth labels.csv --out report.html
doctor scores/submission.csv --recordings {recordings}
trace bundle {recordings}/soundscape_0.ogg --out ours.npz
kaggle dataset packed --owner me --bundles bundle
kaggle kernel submit notebook --owner me --wheels none"""
    execute(RUN, lines)
