"""Tables for machines: csv, or parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from maekit.errors import ConfigError
from maekit.runtime import replace_file, write_text

_SUFFIXES = (".csv", ".parquet")


def check_table(path: Path) -> None:
    """Checks early that a table can be written, before what is in it is computed.

    Raises:
        ConfigError: If its suffix is of neither kind, or parquet is asked for without pyarrow.
    """
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise ConfigError(f"{path} must end in {' or '.join(_SUFFIXES)}.")
    if suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise ConfigError(f"{path} needs pyarrow: pip install 'maekit[parquet]'; or name a .csv.")


def write_table(path: Path, columns: Mapping[str, Sequence[object]]) -> None:
    """Writes columns of one length, as its suffix says; None is an empty cell.

    Numbers keep six digits after the point in csv and all of them in parquet.
    """
    check_table(path)
    if path.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        with replace_file(path) as file:
            pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)
        return
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in zip(*columns.values(), strict=True):
        writer.writerow(
            [
                "" if cell is None else f"{cell:.6f}" if isinstance(cell, float) else cell
                for cell in row
            ]
        )
    write_text(path, text.getvalue())
