"""What the synthetic competition will consist of, drawn before a sample of audio exists.

Each recording carries the key of its own random stream, so its audio depends neither on the order in which
recordings are made nor on how many threads make them.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..competitions import BIRDCLEF_2025, BIRDCLEF_2026, Competition
from .scenes import Place
from .species import SPECIES, Species

_DAYS = 200  # the recorders of a split ran for so long
_SLOTS_PER_DAY = 144  # one recording every ten minutes
_LICENSES = ("cc-by-nc-sa 4.0", "cc-by-nc 4.0", "cc-by 4.0")


@dataclass(frozen=True, kw_only=True)
class Year:
    """How one year's competition spells what it says.

    Parameters
    ----------
    year : int
        Its number.
    competition : Competition
        Where its files are, and the length of its rows.
    columns : tuple of str
        Of ``train.csv``, in order.
    empty : str
        An empty list in ``secondary_labels`` and ``type``.
    sites : tuple of str
        Codes of the recorders.
    latitude, longitude : float
        About where they stand, degrees.
    location : str
        What ``recording_location.txt`` says.
    first_days : tuple of datetime.date
        When the soundscapes of the training set and of the test set begin; they do not overlap.
    collections : tuple of str
        Where focal clips come from: the first is the birders', the second everybody's.
    """

    year: int
    competition: Competition
    columns: tuple[str, ...]
    empty: str
    sites: tuple[str, ...]
    latitude: float
    longitude: float
    location: str
    first_days: tuple[datetime.date, datetime.date]
    collections: tuple[str, ...]

    @property
    def callers(self) -> tuple[Species, ...]:
        """The classes, in the order of their labels as strings.

        A class without focal clips makes sense only where soundscapes are labelled.
        """
        heard = (caller for caller in SPECIES if caller.clips or self.competition.soundscape_labels_csv)
        return tuple(sorted(heard, key=lambda caller: caller.label))

    def soundscape_stem(self, *, test: bool, number: int, site: str, start: datetime.datetime) -> str:
        """Return a soundscape's file name without ``.ogg``."""
        stamp = f"{site}_{start:%Y%m%d_%H%M%S}"
        if self.year == 2025:
            return f"soundscape_{number}" if test else stamp
        return f"BC2026_{'Test' if test else 'Train'}_{number:04d}_{stamp}"


YEARS: dict[int, Year] = {
    2025: Year(
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
    2026: Year(
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
    """A focal recording to be made: a row of ``train.csv`` and what is heard in it."""

    key: tuple[int, ...]
    caller: Species
    others: tuple[Species, ...]
    recordist: Place
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
        return f"{self.caller.label}/{self.collection}{self.number}.ogg"

    def row(self, year: Year) -> dict[str, object]:
        """Return the clip's row of ``train.csv``, columns in the year's order."""
        others = [other.label for other in self.others]
        cells: dict[str, object] = {
            "primary_label": self.caller.label,
            "secondary_labels": str(others) if others else year.empty,
            "type": str([self.kind]) if self.kind else year.empty,
            "filename": self.filename,
            "collection": self.collection,
            "rating": self.rating,
            "url": f"https://example.org/{self.collection}{self.number}",
            "latitude": self.latitude,
            "longitude": self.longitude,
            "scientific_name": self.caller.scientific_name,
            "common_name": self.caller.common_name,
            "class_name": self.caller.class_name,
            "inat_taxon_id": self.caller.inat_taxon_id,
            "author": self.recordist.name,
            "license": _LICENSES[len(self.recordist.name) % len(_LICENSES)],
        }
        return {column: cells[column] for column in year.columns}


@dataclass(frozen=True, kw_only=True)
class Soundscape:
    """A recording of a place to be made."""

    key: tuple[int, ...]
    stem: str
    place: Place
    cast: tuple[Species, ...]


def clips(year: Year, *, seed: int, scale: float) -> list[Clip]:
    """Return the focal recordings, in the order of ``train.csv``.

    Parameters
    ----------
    year : Year
        Whose competition.
    seed : int
        Of everything random.
    scale : float
        Factor on the number of clips of each class; a class that has any keeps at least 2.
    """
    rng = np.random.default_rng([seed, year.year, 0])
    recordists = [Place.draw(name, rng) for name in _RECORDISTS]
    heard = [caller for caller in year.callers if caller.clips]
    owners = [caller for caller in heard for _ in range(max(2, round(scale * caller.clips)))]
    numbers = rng.choice(900_000, len(owners), replace=False) + 100_000
    found = [
        _clip((seed, year.year, 1, i), caller, int(number), year, heard, recordists, rng)
        for i, (caller, number) in enumerate(zip(owners, numbers, strict=True))
    ]
    return sorted(found, key=lambda clip: clip.filename)


_RECORDISTS = (
    *("Ana Cañón", "B. Okonkwo", "Chris van der Meer", "Dolores Ruiz", "Emil Hagström", "F. Tanaka"),
    *("Gül Yilmaz", "Hugo Prado", "Ines Moreau", "J. Whitcombe", "Kaia Lund", "Luis Ortega"),
)


def _clip(
    key: tuple[int, ...],
    caller: Species,
    number: int,
    year: Year,
    heard: Sequence[Species],
    recordists: Sequence[Place],
    rng: np.random.Generator,
) -> Clip:
    bird = caller.class_name == "Aves"
    shares = [0.7, 0.25, 0.05] if bird else [0.1, 0.6, 0.3]
    shares = shares[: len(year.collections)]
    collection = str(rng.choice(year.collections, p=np.divide(shares, sum(shares))))
    duration_s = rng.uniform(0.5, 1) if rng.random() < 0.03 else min(2 + rng.exponential(2.0), 12)
    snr_db = rng.uniform(5, 30)
    others: tuple[Species, ...] = ()
    if duration_s >= 2 and rng.random() < 0.15:
        rest = [other for other in heard if other is not caller]
        others = tuple(rest[i] for i in sorted(rng.choice(len(rest), rng.integers(1, 3), replace=False)))
    located = rng.random() >= 0.03
    return Clip(
        key=key,
        caller=caller,
        others=others,
        # A few people record most of what there is.
        recordist=recordists[min(int(rng.exponential(4)), len(recordists) - 1)],
        collection=collection,
        number=number,
        duration_s=round(float(duration_s), 2),
        snr_db=float(snr_db),
        kind=str(rng.choice(["song", "call"])) if bird and collection == "XC" else "",
        rating=round(2 * (1.5 + (snr_db - 5) / 8)) / 2 if collection == "XC" else 0.0,
        latitude=round(year.latitude + rng.normal(0, 3), 4) if located else float("nan"),
        longitude=round(year.longitude + rng.normal(0, 3), 4) if located else float("nan"),
    )


def soundscapes(year: Year, *, seed: int, count: int, test: bool) -> list[Soundscape]:
    """Return the soundscapes of a split, sorted by name; both splits share their places.

    Parameters
    ----------
    year : Year
        Whose competition.
    seed : int
        Of everything random.
    count : int
        How many; every class is in at least two of them.
    test : bool
        The test set, or the training set.
    """
    land = np.random.default_rng([seed, year.year, 2])
    places = [Place.draw(site, land) for site in year.sites]
    # How much a species likes a place; the same in both splits.
    liking = land.gamma(1.0, size=(len(places), len(year.callers))) + 0.05
    rng = np.random.default_rng([seed, year.year, 3, test])
    at = rng.permutation(np.arange(count) % len(places))
    casts: list[list[Species]] = [[] for _ in range(count)]
    for k, caller in enumerate(year.callers):
        chance = liking[at, k] / liking[at, k].sum()
        n_files = min(count, max(2, round(caller.prevalence * count)))
        for i in rng.choice(count, n_files, replace=False, p=chance):
            casts[i].append(caller)
    stems = _stems(year, [places[p].name for p in at], test=test, rng=rng)
    found = [
        Soundscape(key=(seed, year.year, 4, test, i), stem=stem, place=places[p], cast=tuple(cast))
        for i, (stem, p, cast) in enumerate(zip(stems, at, casts, strict=True))
    ]
    return sorted(found, key=lambda item: item.stem)


def _stems(year: Year, sites: Sequence[str], *, test: bool, rng: np.random.Generator) -> list[str]:
    low, high = (1_000_000, 10_000_000) if year.year == 2025 else (1, 10_000)
    numbers = rng.choice(high - low, len(sites), replace=False) + low
    slots = rng.choice(_DAYS * _SLOTS_PER_DAY, len(sites), replace=False)
    first = datetime.datetime.combine(year.first_days[test], datetime.time())
    step = datetime.timedelta(days=1) / _SLOTS_PER_DAY
    return [
        year.soundscape_stem(test=test, number=int(number), site=site, start=first + int(slot) * step)
        for number, slot, site in zip(numbers, slots, sites, strict=True)
    ]


def labelled(items: Sequence[Soundscape], *, seed: int, share: float) -> list[Soundscape]:
    """Return the soundscapes that get labels, in the order given.

    Those in which a class without focal clips calls come first: nothing else can teach it.

    Parameters
    ----------
    items : sequence of Soundscape
        The soundscapes of the training set, at least 2.
    seed : int
        Of everything random.
    share : float
        How many of them, 0 to 1; at least 2 get labels.
    """
    rng = np.random.default_rng([seed, 5])
    n = max(2, round(share * len(items)))
    needed = [i for i, item in enumerate(items) if any(not caller.clips for caller in item.cast)]
    needed = needed[: (n + 1) // 2]
    others = [i for i in range(len(items)) if i not in needed]
    chosen = rng.choice(others, n - len(needed), replace=False)
    return [items[i] for i in sorted([*needed, *map(int, chosen)])]
