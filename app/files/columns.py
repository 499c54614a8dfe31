"""Which column of a file is which: as the caller says, else by name, else by what is in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from app.arrow import pa
from app.errors import InvalidInputError
from app.files.cells import is_numeric, is_time, naming_column

_NAMES = {
    "item_id": ("item_id", "unique_id", "series", "series_id", "item", "id", "sku", "store"),
    "timestamp": ("timestamp", "ds", "date", "datetime", "time", "month", "week", "day", "year"),
    "target": ("target", "y", "value", "sales", "demand", "quantity", "count", "amount"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnRoles:
    """Names of columns; None asks for a guess, an empty text says that there is none."""

    item_id: str | None = None
    timestamp: str | None = None
    target: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundColumns:
    """Names of columns; None where there is none: one series, or steps without stamps."""

    item_id: str | None
    timestamp: str | None
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Covariates:
    """Names of columns that are covariates; each has one kind.

    Attributes:
        past: Known up to the present.
        future: Known ahead: also in rows after the last target value.
        static: One value per series.
        categories: Known texts of the static ones that are no numbers; they are read as numbers
            that count these from 1, and any other text as 0.
        num_ahead: Least rows after the last target value that tell the future ones.
    """

    past: tuple[str, ...] = ()
    future: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    num_ahead: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in this order."""
        return self.past + self.future + self.static

    def value_of(self, name: str, number: float) -> float | str | None:
        """Return what a static covariate says; None where it is missing, or not a known text."""
        if name not in self.categories:
            return number
        return self.categories[name][int(number) - 1] if number > 0 else None


def find_columns(
    table: pa.Table, roles: ColumnRoles, covariates: Covariates, *, names: Sequence[str]
) -> FoundColumns:
    """Find the columns; one that is a covariate has no other role.

    Args:
        table: Some rows; a column that is not in it is found by its name alone.
        roles: Columns that are known.
        covariates: Columns that are covariates.
        names: All columns of the file.

    Raises:
        InvalidInputError: A column that was named is not there, no column holds numbers, or one can
            not be read.
    """
    finder = _Finder(table, names)
    finder.take_covariates(covariates.names)
    for role in ("item_id", "timestamp", "target"):
        finder.take_named(role, getattr(roles, role))
    for role in ("timestamp", "target", "item_id"):
        finder.take_by_name(role)
    finder.take_by_cells("timestamp", is_time)
    finder.take_by_cells("target", is_numeric, from_last=True)
    finder.take_by_cells("item_id", _is_not_numeric)
    target = finder.found["target"]
    if not target:
        raise InvalidInputError(
            f"no column holds the numbers to forecast; the columns are {_listed(names)}"
        )
    return FoundColumns(
        item_id=finder.found["item_id"] or None,
        timestamp=finder.found["timestamp"] or None,
        target=target,
    )


def _is_not_numeric(cells: pa.ChunkedArray) -> bool:
    return not is_numeric(cells)


class _Finder:
    def __init__(self, table: pa.Table, names: Sequence[str]) -> None:
        self._cells = dict(zip(table.column_names, table.columns, strict=True))
        self._names = names
        self._free = list(names)
        self.found: dict[str, str] = dict.fromkeys(_NAMES, "")
        self._open = set(_NAMES)

    def take_covariates(self, names: Sequence[str]) -> None:
        missing = [name for name in names if name not in self._names]
        if missing:
            raise InvalidInputError(
                f"the covariates {', '.join(missing)} must be columns; the columns are "
                f"{_listed(self._names)}"
            )
        for name in names:
            if name not in self._free:
                raise InvalidInputError(f"column {name} is named twice as a covariate")
            self._free.remove(name)

    def take_named(self, role: str, name: str | None) -> None:
        if name is None:
            return
        self._open.discard(role)
        if not name:
            return
        if name not in self._free:
            problem = "has two roles" if name in self._names else "is not there"
            raise InvalidInputError(
                f"column {name} for {role} {problem}; the columns are {_listed(self._names)}"
            )
        self._take(role, name)

    def take_by_name(self, role: str) -> None:
        by_name = {name.lower(): name for name in self._free}
        name = next((by_name[known] for known in _NAMES[role] if known in by_name), None)
        if role in self._open and name is not None:
            self._take(role, name)

    def take_by_cells(
        self, role: str, fits: Callable[[pa.ChunkedArray], bool], *, from_last: bool = False
    ) -> None:
        names = [name for name in self._free if name in self._cells]
        names = names[::-1] if from_last else names
        if role in self._open and (name := next((n for n in names if self._fits(n, fits)), None)):
            self._take(role, name)

    def _fits(self, name: str, fits: Callable[[pa.ChunkedArray], bool]) -> bool:
        with naming_column(name):
            return fits(self._cells[name])

    def _take(self, role: str, name: str) -> None:
        self.found[role] = name
        self._open.discard(role)
        self._free.remove(name)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20])
