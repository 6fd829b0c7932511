"""rows.csv: the scores of a test, one line an image."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aimmat.schema import AimmatError, Category, ImageType, Row

IDENTITY = ("name", "type", "category")


def write_rows(path: str | Path, rows: Sequence[Row], **common_columns: object) -> None:
    """Writes rows as CSV, whole or not at all.

    Columns: the common ones, then name, type, category, then every metric in the order of the first row.
    A type or category that nobody said is an empty cell. Numbers are written in full, so that reading them back gives
    the same floats.

    Args:
        path: the file to write; one that exists is replaced.
        rows: the results of a test, one or more images.
        common_columns: values that hold for every line, such as method="AimNet", seed=0.

    Raises:
        ValueError: no row, rows that differ in their metrics, or a common column or metric whose name is taken.
        AimmatError: the file cannot be written.
    """
    if not rows:
        raise ValueError(f"rows must hold the result of at least one image, got none for {path}; test something first")
    metrics = list(rows[0].scores)
    for row in rows:
        if set(row.scores) != set(metrics):
            raise ValueError(
                f"every row must hold the metrics {metrics}, got {list(row.scores)} for {row.name!r}; "
                f"measure all images with the same metrics"
            )
    header = [*common_columns, *IDENTITY, *metrics]
    if len(set(header)) < len(header):
        raise ValueError(f"columns must differ in their names, got {header}; rename the common column or the metric")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        scores = [repr(float(row.scores[metric])) for metric in metrics]
        writer.writerow([*common_columns.values(), row.name, row.type or "", row.category or "", *scores])
    write_file(path, text.getvalue())


def read_rows(path: str | Path) -> list[Row]:
    """Reads what `write_rows` wrote; columns left of `name` are skipped, columns right of `category` are metrics.

    Raises:
        AimmatError: no such file, a missing column, or a value that cannot be read, with the number of its line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")  # a spreadsheet may have put a byte order mark in front
    except FileNotFoundError:
        raise AimmatError(
            f"expected the rows of a test in {path}, found no such file; give the path of a rows.csv"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AimmatError(
            f"expected the rows of a test in {path}, could not read it ({error}); give the path of a rows.csv"
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows = []
    try:
        header = next(reader, [])
        start = header.index("name") if "name" in header else 0
        if tuple(header[start : start + 3]) != IDENTITY or len(header) == start + 3:
            raise AimmatError(
                f"{path} must have the columns name, type, category and then one metric or more, "
                f"got {', '.join(header) or 'an empty first line'}; write it with aimmat.tables.write_rows"
            )
        metrics = header[start + 3 :]
        for cells in reader:
            if len(cells) != len(header):
                raise ValueError(f"{len(cells)} values for {len(header)} columns")
            name, image_type, category, *scores = cells[start:]
            values = dict(zip(metrics, map(float, scores), strict=True))
            known = ImageType(image_type) if image_type else None, Category(category) if category else None
            rows.append(Row(name, *known, values))
    except (ValueError, csv.Error) as error:
        raise AimmatError(
            f"{path}, line {reader.line_num}: {error}; a line holds a name, a type ({', '.join(ImageType)}), "
            f"a category ({', '.join(Category)}) and a number for each metric: mend the line or remove it"
        ) from None
    return rows


def write_file(path: str | Path, content: str | bytes) -> None:
    """Writes a file under a temporary name, then renames it: a reader sees the old file or the whole new one.

    Missing folders are made. Text is written as UTF-8.

    Raises:
        AimmatError: no permission, no space, or a folder in the way; what was there before stays.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    except OSError as error:
        raise AimmatError(
            f"could not write {path} ({error.strerror}); make room or choose an output folder that can be written"
        ) from None
    finally:
        with suppress(OSError):  # gone after a rename; never made where the folder could not be
            part.unlink()
