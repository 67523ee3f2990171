"""The random plan of the synthetic competition: each recording has the key of its own random stream."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..competitions import BIRDCLEF_2025, BIRDCLEF_2026, Competition
from .scenes import Site
from .species import SPECIES, Species

_DAYS = 200  # days of recording per split
_SLOTS_PER_DAY = 144  # one recording every ten minutes
_LICENSES = ("cc-by-nc-sa 4.0", "cc-by-nc 4.0", "cc-by 4.0")
_RECORDISTS = (
    *("Ana Cañón", "B. Okonkwo", "Chris van der Meer", "Dolores Ruiz", "Emil Hagström", "F. Tanaka"),
    *("Gül Yilmaz", "Hugo Prado", "Ines Moreau", "J. Whitcombe", "Kaia Lund", "Luis Ortega"),
)


@dataclass(frozen=True, kw_only=True)
class Edition:
    """The notation and the sites of one year's competition."""

    year: int
    competition: Competition
    columns: tuple[str, ...]  # of ``train.csv``, in order
    empty: str  # an empty list in ``secondary_labels`` and ``type``
    sites: tuple[str, ...]  # codes of the recorders
    latitude: float  # approximate position of the sites, degrees
    longitude: float
    location: str  # text of ``recording_location.txt``
    first_days: tuple[datetime.date, datetime.date]  # of the training and test soundscapes, which do not overlap
    collections: tuple[str, ...]  # sources of focal clips: the first for birds, the second for all animals

    @property
    def species(self) -> tuple[Species, ...]:
        """The classes, sorted as text; one without focal clips is included only if soundscapes are labelled."""
        included = (each for each in SPECIES if each.clips or self.competition.soundscape_labels_csv)
        return tuple(sorted(included, key=lambda each: each.label))


EDITIONS: dict[int, Edition] = {
    2025: Edition(
        year=2025,
        competition=BIRDCLEF_2025,
        columns=(
            *("primary_label", "secondary_labels", "type", "filename", "collection", "rating", "url"),
            *("latitude", "longitude", "scientific_name", "common_name", "author", "license"),
        ),
        empty="['']",
        sites=("H02", "H07", "H21", "H33", "H48"),
        latitude=6.76,
        longitude=-74.21,
        location="A forest that does not exist, Middle Magdalena, Colombia",
        first_days=(datetime.date(2023, 3, 1), datetime.date(2024, 3, 1)),
        collections=("XC", "iNat", "CSA"),
    ),
    2026: Edition(
        year=2026,
        competition=BIRDCLEF_2026,
        columns=(
            *("primary_label", "secondary_labels", "type", "latitude", "longitude", "scientific_name"),
            *("common_name", "class_name", "inat_taxon_id", "author", "license", "rating", "url"),
            *("filename", "collection"),
        ),
        empty="[]",
        sites=("S02", "S05", "S13", "S19", "S22"),
        latitude=-17.1,
        longitude=-57.0,
        location="A marsh that does not exist, Pantanal, Brazil",
        first_days=(datetime.date(2021, 6, 1), datetime.date(2025, 1, 15)),
        collections=("XC", "iNat"),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """The plan of a focal recording."""

    key: tuple[int, ...]
    species: Species
    others: tuple[Species, ...]
    recordist: Site
    collection: str
    number: int
    duration_s: float
    snr_db: float
    kind: str
    rating: float
    latitude: float
    longitude: float

    @property
    def filename(self) -> str:
        """Path below ``train_audio``."""
        return f"{self.species.label}/{self.collection}{self.number}.ogg"

    def row(self, edition: Edition) -> dict[str, object]:
        """Return the clip's row of ``train.csv``."""
        others = [other.label for other in self.others]
        cells: dict[str, object] = {
            "primary_label": self.species.label,
            "secondary_labels": str(others) if others else edition.empty,
            "type": str([self.kind]) if self.kind else edition.empty,
            "filename": self.filename,
            "url": f"https://example.org/{self.collection}{self.number}",
            "author": self.recordist.name,
            "license": _LICENSES[len(self.recordist.name) % len(_LICENSES)],
        }
        for name in ("scientific_name", "common_name", "class_name", "inat_taxon_id"):
            cells[name] = getattr(self.species, name)
        return {name: cells[name] if name in cells else getattr(self, name) for name in edition.columns}


@dataclass(frozen=True, kw_only=True)
class Soundscape:
    """The plan of a recording of a site."""

    key: tuple[int, ...]
    stem: str
    site: Site
    cast: tuple[Species, ...]


def clips(edition: Edition, *, seed: int, scale: float) -> list[Clip]:
    """Return the focal recordings, in the order of ``train.csv``."""
    rng = np.random.default_rng([seed, edition.year, 0])
    recordists = [Site.draw(name, rng) for name in _RECORDISTS]
    with_clips = [species for species in edition.species if species.clips]
    labels = [species for species in with_clips for _ in range(max(2, round(scale * species.clips)))]
    numbers = rng.choice(900_000, len(labels), replace=False) + 100_000
    planned = [
        _clip((seed, edition.year, 1, i), species, int(number), edition, recordists, rng)
        for i, (species, number) in enumerate(zip(labels, numbers, strict=True))
    ]
    return sorted(planned, key=lambda clip: clip.filename)


def _clip(
    key: tuple[int, ...],
    species: Species,
    number: int,
    edition: Edition,
    recordists: Sequence[Site],
    rng: np.random.Generator,
) -> Clip:
    # The order of the random draws determines the bytes of the files.
    bird = species.class_name == "Aves"
    shares = [0.7, 0.25, 0.05] if bird else [0.1, 0.6, 0.3]
    shares = shares[: len(edition.collections)]
    collection = str(rng.choice(edition.collections, p=np.divide(shares, sum(shares))))
    duration_s = rng.uniform(0.5, 1) if rng.random() < 0.03 else min(2 + rng.exponential(2.0), 12)
    snr_db = rng.uniform(5, 30)
    others: tuple[Species, ...] = ()
    if duration_s >= 2 and rng.random() < 0.15:
        rest = [other for other in edition.species if other.clips and other is not species]
        others = tuple(rest[i] for i in sorted(rng.choice(len(rest), rng.integers(1, 3), replace=False)))
    located = rng.random() >= 0.03
    return Clip(
        key=key,
        species=species,
        others=others,
        # A few people contribute most recordings.
        recordist=recordists[min(int(rng.exponential(4)), len(recordists) - 1)],
        collection=collection,
        number=number,
        duration_s=round(float(duration_s), 2),
        snr_db=float(snr_db),
        kind=str(rng.choice(["song", "call"])) if bird and collection == "XC" else "",
        rating=round(2 * (1.5 + (snr_db - 5) / 8)) / 2 if collection == "XC" else 0.0,
        latitude=round(edition.latitude + rng.normal(0, 3), 4) if located else float("nan"),
        longitude=round(edition.longitude + rng.normal(0, 3), 4) if located else float("nan"),
    )


def soundscapes(edition: Edition, *, seed: int, count: int, test: bool) -> list[Soundscape]:
    """Return `count` soundscapes of a split, sorted by name; each class is in at least two of them."""
    land = np.random.default_rng([seed, edition.year, 2])
    sites = [Site.draw(name, land) for name in edition.sites]
    # Relative abundance of each species at each site; sites and abundance are the same in both splits.
    abundance = land.gamma(1.0, size=(len(sites), len(edition.species))) + 0.05
    rng = np.random.default_rng([seed, edition.year, 3, test])
    site_of = rng.permutation(np.arange(count) % len(sites))
    casts: list[list[Species]] = [[] for _ in range(count)]
    for k, species in enumerate(edition.species):
        chance = abundance[site_of, k] / abundance[site_of, k].sum()
        n_files = min(count, max(2, round(species.prevalence * count)))
        for i in rng.choice(count, n_files, replace=False, p=chance):
            casts[i].append(species)
    stems = _stems(edition, [sites[s].name for s in site_of], test=test, rng=rng)
    planned = [
        Soundscape(key=(seed, edition.year, 4, test, i), stem=stem, site=sites[s], cast=tuple(cast))
        for i, (stem, s, cast) in enumerate(zip(stems, site_of, casts, strict=True))
    ]
    return sorted(planned, key=lambda item: item.stem)


def _stems(edition: Edition, sites: Sequence[str], *, test: bool, rng: np.random.Generator) -> list[str]:
    low, high = (1_000_000, 10_000_000) if edition.year == 2025 else (1, 10_000)
    numbers = rng.choice(high - low, len(sites), replace=False) + low
    slots = rng.choice(_DAYS * _SLOTS_PER_DAY, len(sites), replace=False)
    first = datetime.datetime.combine(edition.first_days[test], datetime.time())
    step = datetime.timedelta(days=1) / _SLOTS_PER_DAY
    stamps = [f"{site}_{first + int(slot) * step:%Y%m%d_%H%M%S}" for slot, site in zip(slots, sites, strict=True)]
    if edition.year == 2025:
        return [f"soundscape_{number}" for number in numbers] if test else stamps
    split = "Test" if test else "Train"
    return [f"BC2026_{split}_{number:04d}_{stamp}" for number, stamp in zip(numbers, stamps, strict=True)]


def labelled(items: Sequence[Soundscape], *, seed: int, share: float) -> list[Soundscape]:
    """Return the share of the training soundscapes (at least 2) that gets labels, in order."""
    rng = np.random.default_rng([seed, 5])
    n = max(2, round(share * len(items)))
    # First those with a class without focal clips, because no other data contains the class.
    needed = [i for i, item in enumerate(items) if any(not species.clips for species in item.cast)]
    needed = needed[: (n + 1) // 2]
    others = [i for i in range(len(items)) if i not in needed]
    added = rng.choice(others, n - len(needed), replace=False)
    return [items[i] for i in sorted([*needed, *map(int, added)])]
