"""Where the files of a data set lie: the sample set's manifest, a manifest of one's own, a plain folder."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from aimmat.images import IMAGE_SUFFIXES
from aimmat.schema import AimmatError, Category, ImageType

SAMPLE_MANIFEST = Path(__file__).parent / "sample" / "manifest.csv"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Entry:
    """One picture of a data set."""

    path: Path  # cut-out (RGBA), foreground, photograph or background
    role: str  # "foreground", "background" or "photo"
    split: str  # "train", "val" or "test"
    alpha: Path | None = None  # where the matte lies when `path` does not carry it
    type: ImageType = ImageType.SO
    category: Category = Category.OTHER


def read_manifest(path: str | Path = SAMPLE_MANIFEST) -> list[Entry]:
    """Entries of a manifest: a CSV with the columns file, role, type, category, split and, if need be, alpha.

    Args:
        path: the CSV; files are named relative to its folder. The default is the sample set.

    Raises:
        AimmatError: no such file, a missing column, or a value that is not one of the words of `aimmat.schema`.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise AimmatError(f"there is no manifest at {path}; name an existing CSV, or use data=sample")
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"file", "role", "type", "category", "split"} - set(reader.fieldnames or ())
        if missing:
            raise AimmatError(f"{path} has no column {', '.join(sorted(missing))}; its first line must name them")
        entries = [_entry(row, path, line) for line, row in enumerate(reader, start=2)]
    if not entries:
        raise AimmatError(f"{path} lists no picture; add one line a file below its header")
    return entries


def _entry(row: dict[str, str], manifest: Path, line: int) -> Entry:
    try:
        foreground = row["role"] == "foreground"
        return Entry(
            path=manifest.parent / row["file"],
            role=row["role"],
            split=row["split"],
            alpha=manifest.parent / row["alpha"] if row.get("alpha") else None,
            type=ImageType(row["type"]) if foreground else ImageType.SO,
            category=Category(row["category"]) if foreground else Category.OTHER,
        )
    except ValueError as error:
        raise AimmatError(
            f"{manifest}, line {line}: {error}; types are {', '.join(ImageType)} and categories {', '.join(Category)}"
        ) from None


def read_folder(root: str | Path, types: str | Path | None = None) -> list[Entry]:
    """Entries of a folder of one's own.

    ```
    root/background/*                   photographs without a foreground of their own, shared out among the splits
    root/train/foreground/*             RGBA cut-outs, or colours whose mattes lie in root/train/alpha by stem
    root/val, root/test                 the same
    root/types.csv                      optional: name,type,category; what it does not name is SO, other
    ```

    Args:
        root: the folder.
        types: another place for types.csv.

    Raises:
        AimmatError: a folder that is missing or empty; a foreground without a matte; a word that `aimmat.schema` lacks.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise AimmatError(
            f"looked for pictures in {root}, which is not a folder; set paths.data_dir, or use data=sample"
        )
    labels = _labels(Path(types) if types else root / "types.csv", required=types is not None)
    entries: list[Entry] = []
    for split in SPLITS:
        folder = root / split / "foreground"
        if not folder.is_dir():
            continue
        mattes = {file.stem: file for file in _pictures(root / split / "alpha")}
        for file in _pictures(folder):
            image_type, category = labels.get(file.stem, (ImageType.SO, Category.OTHER))
            entries.append(Entry(file, "foreground", split, mattes.get(file.stem), image_type, category))
        if not any(entry.split == split for entry in entries):
            raise AimmatError(
                f"{folder.absolute()} holds no picture ({', '.join(IMAGE_SUFFIXES)}); fill it or remove it"
            )
    if not entries:
        raise AimmatError(
            f"looked for {root}/train/foreground and found no such folder; "
            f"lay the cut-outs out like that, or use data=sample"
        )
    splits = [split for split in SPLITS if any(entry.split == split for entry in entries)]
    backgrounds = list(_pictures(root / "background"))
    if len(backgrounds) < len(splits):
        raise AimmatError(
            f"{root / 'background'} holds {len(backgrounds)} pictures, but each of the splits "
            f"{', '.join(splits)} needs at least one of its own; add photographs without a foreground"
        )
    entries += [Entry(file, "background", splits[_share(i, splits)]) for i, file in enumerate(backgrounds)]
    return entries


def _share(index: int, splits: list[str]) -> int:
    """One of five backgrounds to each split but the first, and at least one: 0 1 2 0 0 | 0 1 2 0 0 | ..."""
    return index % 5 if index % 5 < len(splits) else 0


def _pictures(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


def _labels(path: Path, required: bool) -> dict[str, tuple[ImageType, Category]]:
    if not path.is_file():
        if required:
            raise AimmatError(f"there is no types file at {path}; name an existing CSV or leave it out")
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    try:
        return {Path(row["name"]).stem: (ImageType(row["type"]), Category(row["category"])) for row in rows}
    except (KeyError, ValueError) as error:
        raise AimmatError(
            f"{path}: {error} is not understood; its columns are name, type ({', '.join(ImageType)}) "
            f"and category ({', '.join(Category)})"
        ) from None
