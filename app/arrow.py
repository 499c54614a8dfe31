"""pyarrow, loaded when a file first needs it: most processes never read one.

A gateway held some 30 MB more with it, and 45 MB more again where pandas is installed, which
pyarrow imports.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["pa", "pa_csv", "pa_json", "pa_parquet", "pc"]


class _Later:
    """A module that is imported when something of it is first asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        module = importlib.import_module(self._name)
        self.__dict__.update(vars(module))
        return getattr(module, attribute)


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv as pa_csv
    import pyarrow.json as pa_json
    import pyarrow.parquet as pa_parquet
else:
    pa, pc = _Later("pyarrow"), _Later("pyarrow.compute")
    pa_csv, pa_json = _Later("pyarrow.csv"), _Later("pyarrow.json")
    pa_parquet = _Later("pyarrow.parquet")
