"""pyarrow, loaded when a file first needs it: most processes never read one.

It takes 0.3 s and 40 MB, and as much again several times over where pandas is installed, which
pyarrow imports.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["pa", "pc"]


class _Later:
    """A module that is imported when something of it is first asked for."""

    def __init__(self, name: str, *submodules: str) -> None:
        self._names = (name, *(f"{name}.{part}" for part in submodules))

    def __getattr__(self, attribute: str) -> Any:
        module, *_ = [importlib.import_module(name) for name in self._names]
        self.__dict__.update(vars(module))
        return getattr(module, attribute)


if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc
else:
    pa = _Later("pyarrow", "csv", "ipc", "json", "parquet")
    pc = _Later("pyarrow.compute")
