"""Pictures of a data set and where their files lie: entries, manifests, pairs by stem, a folder of one's own."""

from __future__ import annotations

import csv
import gc
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from os.path import basename
from pathlib import Path

from aimmat import remote
from aimmat.images import IMAGE_SUFFIXES
from aimmat.schema import AimmatError, Category, ImageType

SAMPLE_MANIFEST = Path(__file__).parent / "sample" / "manifest.csv"
SPLITS = ("train", "val", "test")
ROLES = {
    "foreground": "colours of a foreground with their alpha, or an RGBA cut-out",
    "background": "a picture without a foreground of its own",
    "photo": "a natural picture with its alpha",
    "saliency": "a natural picture with the mask of its salient object",
    "class": "a picture whose folder names its class",
}
COLUMNS = ("file", "role", "split", "type", "category", "alpha", "foreground", "dataset", "trimap")
REQUIRED = ("file", "role", "type", "category", "split")

_NO_MARKS = str.maketrans("", "", "-_. ")

Location = Path | str  # a file on disk, or the URL of a remote one


@dataclass(frozen=True, slots=True)
class Entry:
    """One picture of a data set."""

    path: Location  # cut-out (RGBA), foreground, photograph or background
    role: str  # one of ROLES
    split: str  # one of SPLITS
    alpha: Location | None = None  # where the matte or mask lies when `path` does not carry it
    type: ImageType = ImageType.SO
    category: Category = Category.OTHER
    foreground: Location | None = None  # of a photo: its foreground's colours, given or estimated
    dataset: str = ""  # the set's name in `aimmat.data.DATASETS`
    trimap: Location | None = None  # the set's own: 0, 255 and what lies between, the transition

    @property
    def stem(self) -> str:
        """The file's name without folder and extension."""
        return remote.stem(self.path)


def read_manifest(path: str | Path = SAMPLE_MANIFEST) -> list[Entry]:
    """Entries of a manifest: a CSV with the columns file, role, type, category, split.

    More columns may follow: alpha, foreground, dataset and trimap, as `write_manifest` writes them; others are passed
    over.
    Pictures that have no type, such as backgrounds, leave type and category empty.

    Args:
        path: the CSV; files are named relative to its folder, absolutely or by URL. The default is the sample set.

    Raises:
        AimmatError: no such file, a missing column, or a value that is not one of the words of `aimmat.schema`.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise AimmatError(f"there is no manifest at {path}; name an existing CSV, or use data=sample")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        if missing := set(REQUIRED) - set(header):
            raise AimmatError(f"{path} has no column {', '.join(sorted(missing))}; its first line must name them")
        place = [header.index(name) if name in header else len(header) for name in COLUMNS]
        locate = _locator(path.parent)
        try:
            with _gc_off():
                entries = [_entry(row, len(header), place, locate) for row in rows if row]
        except ValueError as error:
            raise AimmatError(f"{path}, line {rows.line_num}: {error}") from None
    if not entries:
        raise AimmatError(f"{path} lists no picture; add one line a file below its header")
    return entries


@contextmanager
def _gc_off() -> Iterator[None]:
    """Nothing that is read is garbage, and to search 100,000 rows for some takes as long as to read them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _entry(row: list[str], width: int, place: list[int], locate: Callable[[str], Location]) -> Entry:
    if len(row) != width:
        raise ValueError(f"{len(row)} columns, but the first line names {width}; quote values that hold a comma")
    row.append("")  # stands for columns that the manifest does not have
    file, role, split, image_type, category, alpha, foreground, dataset, trimap = [row[i] for i in place]
    if role not in ROLES or split not in SPLITS:
        raise ValueError(f"roles are {', '.join(ROLES)} and splits {', '.join(SPLITS)}, got {role!r} and {split!r}")
    try:
        return Entry(
            locate(file),
            role,
            split,
            locate(alpha) if alpha else None,
            ImageType(image_type) if image_type else ImageType.SO,
            Category(category) if category else Category.OTHER,
            locate(foreground) if foreground else None,
            dataset,
            locate(trimap) if trimap else None,
        )
    except ValueError as error:
        raise ValueError(f"{error}; {_words()}") from None


def _locator(folder: Path) -> Callable[[str], Location]:
    """Names in a manifest as locations. Folders are parsed once: paths take most of the time of a long manifest."""
    folders: dict[str, Path] = {}

    def locate(name: str) -> Location:
        if remote.is_remote(name):
            member, inside, archive = name.partition("::")
            return f"{member}::{folder / archive}" if inside and not remote.is_remote(archive) else name
        head, slash, tail = name.rpartition("/")
        if head + slash not in folders:
            folders[head + slash] = folder / (head + slash)
        return folders[head + slash] / tail

    return locate


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write entries as a manifest that `read_manifest` reads back unchanged.

    Args:
        path: the CSV; files below its folder are named relative to it, others absolutely, remote ones by URL.
        entries: the pictures.
    """
    folder = Path(path).absolute().parent

    def name(location: Location | None) -> str:
        if location is None or isinstance(location, str):
            return location or ""
        file = location.absolute()
        return (file.relative_to(folder) if file.is_relative_to(folder) else file).as_posix()

    folder.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for entry in entries:
            head = (name(entry.path), entry.role, entry.split, entry.type, entry.category)
            writer.writerow((*head, name(entry.alpha), name(entry.foreground), entry.dataset, name(entry.trimap)))


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder in the order of their names; hidden ones are passed over."""
    if not folder.is_dir():
        return []
    return sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith("."))


def stem_of(name: str) -> str:
    """What pairs files and finds types: a name without folder, extension and case.

    >>> stem_of("FG/Cat.2.PNG"), stem_of("cat.2")
    ('cat.2', 'cat.2')
    """
    name = basename(name)
    stem, dot, suffix = name.rpartition(".")
    return (stem if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else name).lower()


def by_stem(files: Iterable[Path], defects: list[str]) -> dict[str, Path]:
    """Files by `stem_of` their names; that two share one is added to `defects`."""
    found: dict[str, Path] = {}
    for file in files:
        first = found.setdefault(stem_of(file.name), file)
        if first is not file:
            defects.append(f"{file} and {first.name} differ in case or extension only; rename or remove one of them")
    return found


def pair(images: Path, alphas: Path, defects: list[str], suffix: str = "") -> list[tuple[Path, Path]]:
    """Pictures with their mattes, by stem; extension and case do not matter.

    Args:
        images: folder of the pictures.
        alphas: folder of the mattes; the same one where `suffix` tells them apart.
        defects: what does not pair is added here, one sentence a file.
        suffix: what a matte's stem has after the picture's, in lower case.

    Returns:
        (picture, matte) in the order of the pictures' names.
    """

    def is_matte(file: Path) -> bool:
        return stem_of(file.name).endswith(suffix)

    found = by_stem((f for f in pictures(images) if not suffix or not is_matte(f)), defects)
    files = by_stem((f for f in pictures(alphas) if is_matte(f)), defects)
    mattes = {stem.removesuffix(suffix): file for stem, file in files.items()}
    for stem, file in found.items():
        if stem not in mattes:
            defects.append(f"{file} has no matte of its name in {alphas}; add it or remove the picture")
    for stem, file in mattes.items():
        if stem not in found:
            defects.append(f"{file} has no picture of its name in {images}; add it or remove the matte")
    return [(file, mattes[stem]) for stem, file in found.items() if stem in mattes]


def with_trimaps(entries: Iterable[Entry], folder: Path, defects: list[str]) -> list[Entry]:
    """Photographs with the trimaps of a folder, by stem; that one has none there is added to `defects`."""
    found = by_stem(pictures(folder), defects)
    paired = [replace(entry, trimap=found.get(stem_of(str(entry.path)))) for entry in entries]
    defects += [
        f"{entry.path} has no trimap of its name in {folder}; add it, or remove the folder to have all made from mattes"
        for entry in paired
        if entry.trimap is None
    ]
    return paired


def read_types(path: str | Path, dataset: str = "") -> dict[str, tuple[ImageType, Category]]:
    """Type and category by stem (`stem_of`) from a types file.

    Args:
        path: a CSV with the columns name, type and category, or a JSON: {stem: type} or
            {stem: {"type": type, "category": category}}, as it is or in a section for each data set; no category
            is OTHER.
        dataset: the set whose section of a JSON counts.

    Raises:
        AimmatError: no such file, no such section, or a word that `aimmat.schema` lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise AimmatError(f"there is no types file at {path}; name an existing CSV or JSON, or leave it out")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() == ".json":
                rows = [
                    (name, value, "") if isinstance(value, str) else (name, value["type"], value.get("category", ""))
                    for name, value in _section(json.load(file), dataset).items()
                ]
            else:
                rows = [(row["name"], row["type"], row["category"]) for row in csv.DictReader(file)]
        return {stem_of(name): (ImageType(kind), Category(label or "other")) for name, kind, label in rows}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise AimmatError(
            f"{path}: {error} is not understood; it gives name, type and category, and {_words()}"
        ) from None


def _section(data: dict, dataset: str) -> dict:
    sections = {plain(name): part for name, part in data.items() if isinstance(part, dict) and "type" not in part}
    if sections and plain(dataset) not in sections:
        raise ValueError(f"section {dataset.upper()!r}, which is not among {', '.join(sections)},")
    return sections.get(plain(dataset), data)


def plain(name: str) -> str:
    """A folder's or a set's name without case, hyphens, underscores, dots and spaces.

    >>> plain("AM-2k"), plain("alphamatting.com")
    ('am2k', 'alphamattingcom')
    """
    return name.translate(_NO_MARKS).lower()


def _words() -> str:
    return f"types are {', '.join(ImageType)} and categories {', '.join(Category)}"


def read_folder(root: str | Path, types: str | Path | None = None) -> list[Entry]:
    """Entries of a folder of one's own.

    ```
    root/background/*                   photographs without a foreground of their own, shared out among the splits
    root/train/foreground/*             RGBA cut-outs, or colours whose mattes lie in root/train/alpha by stem
    root/train/image/*                  photographs whose mattes lie in root/train/alpha by stem
    root/train/trimap/*                 optional: their trimaps, by stem
    root/val, root/test                 the same
    root/foreground, image, alpha       without splits: cut-outs are for training, photographs for the test
    root/types.csv                      optional: name,type,category; what it does not name is SO, other
    ```

    Args:
        root: the folder.
        types: another place for types.csv, or a JSON as `read_types` reads it.

    Raises:
        AimmatError: a folder that is missing or empty; a picture without a matte; a word that `aimmat.schema` lacks.
    """
    root = Path(root).absolute()
    if not root.is_dir():
        raise AimmatError(
            f"looked for pictures in {root}, which is not a folder; set paths.data_dir, or use data=sample"
        )
    given = Path(types) if types else root / "types.csv"
    labels = read_types(given) if types or given.is_file() else {}
    defects: list[str] = []
    entries: list[Entry] = []
    for split in (*SPLITS, ""):
        for role, name, default in (("foreground", "foreground", "train"), ("photo", "image", "test")):
            folder, alphas = root / split / name, root / split / "alpha"
            if not folder.is_dir():
                continue
            if not (files := pictures(folder)):
                raise AimmatError(f"{folder} holds no picture ({', '.join(IMAGE_SUFFIXES)}); fill it or remove it")
            whole = role == "foreground" and not alphas.is_dir()  # RGBA: the matte is in the file
            mine = []
            for file, alpha in [(file, None) for file in files] if whole else pair(folder, alphas, defects):
                label = labels.get(stem_of(file.name), (ImageType.SO, Category.OTHER))
                mine.append(Entry(file, role, split or default, alpha, *label))
            trimaps = root / split / "trimap"
            entries += with_trimaps(mine, trimaps, defects) if role == "photo" and trimaps.is_dir() else mine
    if defects:
        raise AimmatError(one_of(defects))
    if not entries:
        raise AimmatError(
            f"looked for {root}/train/foreground and found no such folder; "
            f"lay the cut-outs out like that, or use data=sample"
        )
    return entries + _shared_out(root / "background", entries)


def _shared_out(folder: Path, entries: Sequence[Entry]) -> list[Entry]:
    """Backgrounds for the splits that have cut-outs: one of five to each but the first, 0 1 2 0 0 | 0 1 2 0 0 | ..."""
    splits = [split for split in SPLITS if any(e.split == split and e.role == "foreground" for e in entries)]
    files = pictures(folder)
    if len(files) < len(splits):
        raise AimmatError(
            f"{folder} holds {len(files)} pictures, but each of the splits "
            f"{', '.join(splits)} needs at least one of its own; add photographs without a foreground"
        )
    if not splits:
        return []
    return [Entry(f, "background", splits[i % 5 if i % 5 < len(splits) else 0]) for i, f in enumerate(files)]


def one_of(defects: Sequence[str]) -> str:
    """The first of several sentences, and how many more there are."""
    return defects[0] + (f" (and {len(defects) - 1} more like it)" if len(defects) > 1 else "")
