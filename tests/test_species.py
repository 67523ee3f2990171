"""Lists of species: which detections they permit, what they remove, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from bcsed.cli import main
from bcsed.data.annotations import read_annotations
from bcsed.errors import DataError
from bcsed.report.api import report
from bcsed.scores import detections
from bcsed.scores.detections import read_species
from bcsed.scores.detections.species import find_site
from bcsed.scores.detections.taxonomy import ClassName, read_taxonomy

CLASSES = ("amerob", "barowl", "022", "owl_b")
NAMES = {
    "amerob": detections.ClassName("Turdus migratorius", "American Robin", "Aves"),
    "barowl": detections.ClassName("Tyto alba", "Barn Owl", "Aves"),
    "022": detections.ClassName("", "", ""),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("amerob\n022\n", ("022", "amerob")),
        ("\ufeffamerob\r\n\r\n# owls\r\nBARN  OWL\r\n", ("amerob", "barowl")),
        ("Turdus migratorius_American Robin\nTyto furcata_barn owl\n", ("amerob", "barowl")),
        ("owl_b", ("owl_b",)),
        ("022, barowl", None),
        ("barn_owl_amerob\n22\n\n", None),
    ],
)
def test_names(tmp_path, text, expected):
    (tmp_path / "list.txt").write_bytes(text.encode())
    if expected is None:
        with pytest.raises(DataError, match=r"none of its \d names"):
            read_species(tmp_path / "list.txt", CLASSES, NAMES)
    else:
        species = read_species(tmp_path / "list.txt", CLASSES, NAMES)
        assert species.classes_of("any/where.wav") == expected
        assert not species.unmatched


def test_sites(tmp_path):
    lines = "site,species\nS22,Barn Owl\nS22,Emu\nnorth,amerob\n,022\nsouth,Kiwi\n"
    (tmp_path / "list.csv").write_text(lines)
    (tmp_path / "d.csv").write_text("recordings,site\ncard1/,north\n./x/1.wav,S22\ncard2/*_0[1-3].wav,north\n")
    species = read_species(tmp_path / "list.csv", CLASSES, NAMES)
    assert species.unmatched == ("Emu", "Kiwi")
    assert species.classes_of("BC2026_Test_0001_S22_20250227_010002.ogg") == ("022", "barowl")
    assert species.classes_of("card/north_20250227_010002.wav") == ("022", "amerob")
    assert species.classes_of("south/20250227_010002.wav") == ("022",)
    with pytest.raises(DataError, match=r"its site is 'S23', and the sites of .* 'S22', 'north'.*deployments.csv"):
        species.classes_of("card/S23_20250227_010002.wav")
    species = read_species(tmp_path / "list.csv", CLASSES, NAMES, deployments=tmp_path / "d.csv")
    for recording in ("/data/card1/deep/S22_20250227_010002.wav", "card2/a_02.wav"):
        assert species.classes_of(recording) == ("022", "amerob")
    assert species.classes_of("y/x/1.wav") == ("022", "barowl")
    # The line of a file comes before that of its folder.
    assert find_site("card1/x/1.wav", species.deployments) == "S22"
    with pytest.raises(DataError, match="several sites for it, 'north', 'south'"):
        find_site("card1/x.wav", (*species.deployments, ("card1", "south")))
    assert find_site("card/ridge_0+1_20160612_053000.wav") == "ridge"


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("list.txt", "", "is empty"),
        ("list.txt", "# only a remark\n\n", "is empty"),
        ("list.txt", "site,species\nS1,a\n", r"name the file \*.csv"),
        ("list.txt", "Emu\nKiwi\n", r"none of its 2 names \(Emu, Kiwi\).*--taxonomy"),
        ("list.csv", "amerob\n022\n", "no column 'species'"),
        ("list.csv", "site;species\nS1;a\n", "separated by ';'"),
        ("list.csv", "site,species\n", "is empty"),
        ("list.csv", "site,species\nS1,Emu\n", "none of its 1 names"),
        ("list.csv", "site,species\nS1,a,b\n", "list.csv"),
        ("absent.txt", None, "no such file"),
    ],
)
def test_lists_that_are_refused(tmp_path, name, text, sentence):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_species(tmp_path / name, CLASSES)


def test_deployments_that_are_refused(tmp_path):
    (tmp_path / "all.txt").write_text("022\n")
    (tmp_path / "list.csv").write_text("site,species\nS1,022\n")
    (tmp_path / "latin.txt").write_bytes("Gr\xfcnfink\n".encode("latin-1"))
    (tmp_path / "d.csv").write_text("recordings,site\na.wav,\n")
    with pytest.raises(DataError, match="line 2 has no site"):
        read_species(tmp_path / "list.csv", CLASSES, deployments=tmp_path / "d.csv")
    with pytest.raises(DataError, match="names no sites"):
        read_species(tmp_path / "all.txt", CLASSES, deployments=tmp_path / "d.csv")
    with pytest.raises(DataError, match="UTF-8"):
        read_species(tmp_path / "latin.txt", CLASSES)
    (tmp_path / "d.csv").write_text("recording,site\na.wav,S1\n")
    with pytest.raises(DataError, match="no column 'recordings'"):
        read_species(tmp_path / "list.csv", CLASSES, deployments=tmp_path / "d.csv")


@pytest.mark.slow
def test_predict_and_report(oracle, recordings, tmp_path, capsys):
    """Detections of other classes are counted and left out of every file; scores are not changed."""
    for site in ("north", "south"):
        shutil.copytree(recordings, tmp_path / "in" / site)
    (tmp_path / "list.csv").write_text("site,species\nnorth,loud\nsouth,Quiet one\nsouth,Emu\nwest,loud\n")
    (tmp_path / "taxonomy.csv").write_text("primary_label,common_name\nloud,Loud one\nquiet,Quiet one\n")
    words = ["predict", str(oracle.path), "--recordings", str(tmp_path / "in"), "--threshold", "0.12"]
    words += [
        "--windows",
        "sliding",
        "--format",
        "scores",
        "raven",
        "csv",
        "--taxonomy",
        str(tmp_path / "taxonomy.csv"),
    ]
    assert main([*words, "--out", str(tmp_path / "all")]) == 0
    before = detections.read_detections(tmp_path / "all" / "detections.csv")
    assert "removed" not in capsys.readouterr().out
    listed = [*words, "--out", str(tmp_path / "out"), "--species", str(tmp_path / "list.csv")]
    assert main(listed) == 0
    printed = "".join(capsys.readouterr())
    after = detections.read_detections(tmp_path / "out" / "detections.csv")
    kept = before["label"].eq("loud") == before["name"].str.startswith("north/")
    assert set(before["label"]) == {"loud", "quiet"} and 0 < kept.sum() < len(before)
    pd.testing.assert_frame_equal(after, before[kept].reset_index(drop=True))
    raven = sum(len(read_annotations(path)) for path in (tmp_path / "out" / "raven").glob("*/*.txt"))
    assert raven == len(after)
    scores = [pd.read_parquet(tmp_path / name / "scores.parquet") for name in ("all", "out")]
    pd.testing.assert_frame_equal(*scores)
    n_removed = len(before) - len(after)
    assert f"list.csv removed {n_removed} detections of 2 classes" in printed
    assert "1 names of" in printed and "match no class: Emu" in printed
    assert "no recording is of the sites 'west'" in printed
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sum(manifest["removed_detections"].values()) == n_removed
    assert manifest["species"]["sites"]["north"] == ["loud"] and manifest["species"]["unmatched"] == ["Emu"]
    page = report([tmp_path / "out"], tmp_path / "report.html", n_examples=1).path.read_text()
    assert f"it removed {n_removed} detections" in page
    # The same call without the list detects all again.
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    pd.testing.assert_frame_equal(detections.read_detections(tmp_path / "out" / "detections.csv"), before)


def test_mistakes_on_the_command_line(oracle, recordings, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("site,species\nS1,loud\n")
    (tmp_path / "names.txt").write_text("Emu\n")
    words = ["predict", str(oracle.path), "--recordings", str(recordings), "--out", str(tmp_path / "out")]
    for options, sentence in (
        (["--species", "list.csv"], "--species limits detections, not scores"),
        (["--format", "raven", "--deployments", "d.csv"], "add --species"),
        (["--format", "raven", "--species", str(tmp_path / "list.csv")], "its site is 'recordings"),
        (["--format", "raven", "--species", str(tmp_path / "names.txt")], "none of its 1 names"),
        (["--format", "raven", "--species", str(tmp_path)], "is a folder, not a file"),
    ):
        assert main([*words, *options]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_periods_of_deployments_hold_for_lists_of_sites(tmp_path):
    """One card was at two sites, one after the other."""
    (tmp_path / "list.csv").write_text("site,species\nridge,a\nvalley,b\n")
    lines = "card3,ridge,2025-01-01,2025-02-01\ncard3,valley,2025-02-01,2025-03-01\n"
    (tmp_path / "deployments.csv").write_text(f"recordings,site,start,end\n{lines}")
    species = read_species(tmp_path / "list.csv", ("a", "b"), deployments=tmp_path / "deployments.csv")
    assert species.classes_of("card3/20250110_060000.wav") == ("a",)
    assert species.classes_of("card3/20250210_060000.wav") == ("b",)
    assert species.classes_of("x/valley/20250410_060000.wav") == ("b",)  # by its folder
    with pytest.raises(DataError, match="its site is 'card3'"):
        species.classes_of("card3/20250410_060000.wav")
    again = json.loads(json.dumps(dataclasses.asdict(species)))
    assert find_site("card3/20250210_060000.wav", again["deployments"]) == "valley"
    assert find_site("card3/20250210_060000.wav", [("card3", "ridge")]) == "ridge"


def test_blanks_in_a_taxonomy_are_no_part_of_names(tmp_path):
    header = "primary_label,scientific_name,common_name,class_name"
    (tmp_path / "taxonomy.csv").write_text(f"{header}\nrook1 , Corvus frugilegus,Rook ,Aves\n")
    assert read_taxonomy(tmp_path / "taxonomy.csv") == {"rook1": ClassName("Corvus frugilegus", "Rook", "Aves")}
