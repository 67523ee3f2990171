"""Lists of the species that may be detected, everywhere or by site."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from ...data.deployments import is_during, is_inside, path_ends, path_names, read_deployments
from ...data.recorders import parse_name
from ...errors import DataError
from ...files import quote_list, read_csv, require_file, shorten_list
from ...recordings import printable
from .taxonomy import ClassName


@dataclass(frozen=True, kw_only=True)
class SpeciesList:
    """The classes that may be detected; in a file of sites, those of each site."""

    path: str
    everywhere: tuple[str, ...]
    sites: Mapping[str, Sequence[str]] = field(default_factory=dict)  # in addition; empty if the file names no sites
    unmatched: tuple[str, ...] = ()  # names in the file that match no class
    # A file, folder or pattern of recordings, its site, and the start and end of the deployment, '' if not limited.
    deployments: tuple[tuple[str, ...], ...] = ()

    def classes_of(self, recording: str | Path) -> tuple[str, ...]:
        """Return the classes that may be detected in a recording; DataError if its site is not in the list."""
        site = find_site(recording, self.deployments) if self.sites else ""
        return self.classes_at(site, printable(recording))

    def classes_at(self, site: str, recording: str) -> tuple[str, ...]:
        """Return the classes that may be detected at the site of a recording; DataError if it is not in the list."""
        if not self.sites:
            return self.everywhere
        if site not in self.sites:
            known = f"the sites of {self.path} are {quote_list(sorted(self.sites))}"
            raise DataError(
                f"{recording}: its site is {site!r}, and {known}; add its species, or state the site of recordings in "
                "a deployments.csv of recordings,site (--deployments)."
            )
        return (*self.everywhere, *self.sites[site])


def read_species(
    path: str | Path,
    classes: Sequence[str],
    names: Mapping[str, ClassName] | None = None,
    *,
    deployments: str | Path | None = None,
) -> SpeciesList:
    """Read a list of species: text with a name per line, or a CSV of ``species`` or of ``site,species``.

    A name is a class, or the scientific or common name that `names` has for one, in any case, or both joined as
    ``Turdus merula_Eurasian Blackbird`` (BirdNET's lists); lines that begin with ``#`` are comments. A line without a
    site holds for all. `deployments` is a file of `bcsed.data.deployments`; other recordings have the site in their
    name, else their folder is the site. DataError if a file cannot be read, or no name matches a class.
    """
    path = Path(path)
    lines = _read_lines(path)
    index: dict[str, set[str]] = {}
    for label in classes:
        name = (names or {}).get(label)
        for key in (label, *((name.scientific, name.common) if name else ())):
            index.setdefault(_key(key), set()).add(label)
    index.pop("", None)
    sites: dict[str, set[str]] = {}
    unmatched = dict[str, None]()
    for site, text in lines:
        scientific, _, common = text.partition("_")
        joined = [scientific, common] if " " in scientific else []
        matching = set[str]().union(*(index.get(_key(name), ()) for name in (text, *joined)))
        if not matching:
            unmatched[text] = None
        sites.setdefault(site, set()).update(matching)
    if not any(sites.values()):
        advice = "names are classes" + ("" if names else ", or with --taxonomy scientific or common names")
        raise DataError(
            f"{path}: none of its {len(unmatched)} names ({shorten_list(unmatched, 3)}) is one of the {len(classes)} "
            f"classes ({shorten_list(classes, 3)}); {advice}."
        )
    if deployments is not None and not set(sites) - {""}:
        raise DataError(f"{path} names no sites, so {deployments} would not be used; leave it out.")
    lines_of_sites = () if deployments is None else read_deployments(deployments)
    return SpeciesList(
        path=str(path),
        everywhere=tuple(sorted(sites.pop("", ()))),
        sites={site: tuple(sorted(labels)) for site, labels in sites.items()},
        unmatched=tuple(unmatched),
        deployments=tuple(
            (line.recordings, line.site, *(each.isoformat() if each else "" for each in (line.start, line.end)))
            for line in lines_of_sites
        ),
    )


def find_site(recording: str | Path, deployments: Iterable[Sequence[str]] = ()) -> str:
    """Return the site of a recording: from the deployments, else from its name, else the name of its folder.

    DataError if deployments of several sites match it.

    >>> find_site("card1/BC2026_Train_0039_S22_20211231_021500.ogg"), find_site("north/20240501_050000.wav")
    ('S22', 'north')
    """
    path = PurePosixPath(printable(recording).replace("\\", "/"))
    ends = path_ends(path)
    files = path_names(path)
    named, lines = parse_name(path.name), list(deployments)
    matching = {site for pattern, site, *_ in lines if pattern in files}
    if not matching:
        for pattern, site, *period in lines:
            # Manifests of earlier versions have no periods.
            start, end = (datetime.fromisoformat(time) if time else None for time in (*period, "", "")[:2])
            if is_inside(pattern, ends) and is_during(start, end, named.clock):
                matching.add(site)
    if len(matching) > 1:
        raise DataError(f"{path}: the deployments state several sites for it, {quote_list(sorted(matching))}.")
    return next(iter(matching), named.site or path.parent.name)


def _key(name: str) -> str:
    return " ".join(name.casefold().split())


def _read_lines(path: Path) -> list[tuple[str, str]]:
    """Return the site, '' for all, and the name of each line."""
    require_file(path)
    if path.suffix.lower() == ".csv":
        table = read_csv(path, ["species"])
        sites = table["site"] if "site" in table else [""] * len(table)
        pairs = list(zip(sites, table["species"], strict=True))
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: a list of species is UTF-8 text, and it is not ({error.reason}).") from error
        header = [cell.strip() for cell in next(csv.reader(text.splitlines()[:1]), [])]
        if "species" in header and len(header) > 1:
            raise DataError(f"{path}: its first line is that of a CSV; name the file *.csv.")
        pairs = [("", line) for line in text.splitlines()]
    stripped = [(site.strip(), name.strip()) for site, name in pairs]
    lines = [(site, name) for site, name in stripped if name and not name.startswith("#")]
    if not lines:
        raise DataError(f"{path}: the list of species is empty; write a name per line.")
    return lines
