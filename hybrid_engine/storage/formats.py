"""The formats of `hybrid-engine export`: CSV, JSON Lines and Parquet.

Each writes rows to a binary file: `columns` are the SQL types by name, INTEGER, REAL or TEXT; `pages` the rows.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from hybrid_engine.runtime.errors import ConfigError

Row = tuple[Any, ...]
ROWS_PER_GROUP = 50_000
# Spreadsheets take a cell that begins so for a formula, and an exchange chooses the text of a symbol. The apostrophe
# that stands in front of such a text stands in front of one that begins with an apostrophe too, so it can be taken off.
_FORMULA = tuple("=+-@\t\r\n'\uff1d\uff0b\uff0d\uff20")


def write_csv(file: BinaryIO, columns: Mapping[str, str], pages: Iterable[Sequence[Row]]) -> None:
    """CSV in UTF-8 with a line of names. NULL is empty; a number has as many digits as it takes to read it back.

    A text that a spreadsheet would take for a formula has an apostrophe in front.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    quoting = csv.writer(lines, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    texts = [number for number, kind in enumerate(columns.values()) if kind == "TEXT"]
    writer.writerow(columns)
    for page in pages:
        for row in page:
            values = list(row)
            for number in texts:
                if values[number].startswith(_FORMULA):
                    values[number] = "'" + values[number]
            # Python up to 3.12 quotes a carriage return only where it ends lines, and readers take it for such an end.
            (quoting if any("\r" in values[number] for number in texts) else writer).writerow(values)
        _move(lines, file)
    _move(lines, file)


def write_jsonl(file: BinaryIO, columns: Mapping[str, str], pages: Iterable[Sequence[Row]]) -> None:
    """A JSON object a line, in ASCII, with every column."""
    encode = json.JSONEncoder(allow_nan=False).encode
    for page in pages:
        file.write("".join(f"{encode(dict(zip(columns, row, strict=True)))}\n" for row in page).encode())


def write_parquet(file: BinaryIO, columns: Mapping[str, str], pages: Iterable[Sequence[Row]]) -> None:
    """Parquet with int64, double and string columns. Raises ConfigError where pyarrow is not installed."""
    try:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter
    except ImportError:
        raise ConfigError(
            "command line: --format parquet: needs pyarrow, which a release does not bring: pip install"
            " 'hybrid-engine[export]' on another machine, and export from a backup there (--db)"
        ) from None
    types = {"INTEGER": pa.int64(), "REAL": pa.float64(), "TEXT": pa.string()}
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    rows: list[Row] = []

    def write_group() -> None:
        arrays = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), schema.types, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        rows.clear()

    with ParquetWriter(file, schema, compression="zstd") as writer:
        for page in pages:
            rows += page
            if len(rows) >= ROWS_PER_GROUP:
                write_group()
        if rows:
            write_group()


def _move(lines: io.StringIO, file: BinaryIO) -> None:
    file.write(lines.getvalue().encode())
    lines.seek(0)
    lines.truncate()


FORMATS: dict[str, Callable[[BinaryIO, Mapping[str, str], Iterable[Sequence[Row]]], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
