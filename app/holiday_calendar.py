"""Public holidays by country, from the package ``holidays`` of one exact version.

Countries move their holidays, and the package learns of it: another version may say otherwise about
the very days that a model learned from. So a model remembers the version, and no other serves it.
"""

import functools
import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from app.errors import ArtifactError, InvalidInputError

_PACKAGE = "holidays"
_INSTALL = "pip install 'gatecast[holidays]'"
_EPOCH_YEAR = 1970


def _installed_version() -> str | None:
    try:
        return version(_PACKAGE)
    except PackageNotFoundError:
        return None


INSTALLED_VERSION = _installed_version()
"""Read once, here: the process that vets a model file may open no file."""


class HolidayCalendar(BaseModel):
    """Holidays of a country such as ``DE``, or of a part of it such as ``DE-BY``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    country: str
    package_version: str
    """Version of the package ``holidays`` that named the days."""

    @classmethod
    def of_country(cls, country: str) -> "HolidayCalendar":
        """Take the holidays of ``country`` as the installed package has them.

        Raises:
            InvalidInputError: The package is missing, or does not know the country.
        """
        if INSTALLED_VERSION is None:
            raise InvalidInputError(f"holidays need the package {_PACKAGE}: {_INSTALL}")
        calendar = cls(country=country, package_version=INSTALLED_VERSION)
        try:
            calendar.are_holidays(np.array(["2000-01-01"], "M8[D]"))
        except NotImplementedError as error:
            raise InvalidInputError(
                f"the package {_PACKAGE} {INSTALLED_VERSION} knows no country {country[:16]}; "
                "write DE, or DE-BY for a part of it"
            ) from error
        return calendar

    def check(self) -> None:
        """Check that the installed package is the one that the model learned from.

        Raises:
            ArtifactError: It is missing, or of another version.
        """
        installed = INSTALLED_VERSION
        if installed != self.package_version:
            found = "it is not installed" if installed is None else f"{installed} is installed"
            raise ArtifactError(
                f"the model needs the holidays of {self.country} from the package {_PACKAGE} "
                f"{self.package_version}, but {found}: "
                f"pip install {_PACKAGE}=={self.package_version}"
            )

    def are_holidays(self, days: NDArray[np.datetime64]) -> NDArray[np.bool_]:
        """Tell which of ``days`` ``(time,)``, ``datetime64[D]``, are holidays."""
        years = np.unique(days.astype("M8[Y]").astype(np.int64) + _EPOCH_YEAR)
        named = [day for year in years for day in _days_of_year(self.country, int(year))]
        return np.isin(days, np.array(named, "M8[D]"))


@functools.lru_cache(maxsize=4096)
def _days_of_year(country: str, year: int) -> tuple[np.datetime64, ...]:
    package: Any = importlib.import_module(_PACKAGE)
    name, _, part = country.partition("-")
    days = package.country_holidays(name, subdiv=part or None, years=year)
    return tuple(np.datetime64(day, "D") for day in sorted(days))
