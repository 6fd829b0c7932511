"""Entries of a data set as it lies on disk, and what is wrong with it, one sentence a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from aimmat.data.datasets.catalogue import DATASETS, DatasetInfo, Part
from aimmat.data.layouts import Entry, one_of, pair, pictures, plain, read_types, stem_of, with_trimaps
from aimmat.schema import AimmatError, Category, ImageType

TYPES_FILE = "types.csv"  # of one's own, in the set's folder; it goes before the authors' file

Label = tuple[ImageType, Category]
UNTOLD: Label = (ImageType.SO, Category.OTHER)


@dataclass(frozen=True)
class Survey:
    """What is on disk of a data set."""

    info: DatasetInfo
    folder: Path | None  # None: not found
    layouts: Mapping[str, str]  # by split, the name of the layout that was found
    entries: tuple[Entry, ...]
    defects: tuple[str, ...] = ()  # sentences
    missing: tuple[str, ...] = ()  # names in the archive's own lists that are not there
    typed: bool = False  # whether the types of all entries were told

    def count(self, split: str) -> int:
        """How many pictures of a split are there."""
        return sum(entry.split == split for entry in self.entries)


def read_dataset(
    name: str,
    root: str | Path,
    split: str | None = None,
    types: str | Path | bool = True,
    stems: str | Path | None = None,
) -> list[Entry]:
    """Entries of a data set, in the order of its folders and names.

    Pictures and mattes are paired by stem; extension and case do not matter. The layouts that are accepted are
    `DATASETS[name].layouts`: as the archive unpacks, and as the released AIM code wants it.

    Args:
        name: a key of `DATASETS`.
        root: the folder under which the sets lie, each under one of the names that `DATASETS` gives; or the set's own.
        split: "train", "val" or "test"; None reads all that is there.
        types: the file with types and categories; True looks for types.csv in the set's folder and for the authors'
            file there and above it, False calls every picture SO, other unless all of the set have one type.
        stems: a text file with the stems to keep, one a line; None keeps all.

    Raises:
        AimmatError: the set is not there, or something in it is missing, double or without a type.
    """
    found = survey(name, root, split, types, stems)
    info = found.info
    if found.folder is None or not (found.entries or found.defects):
        place = found.folder or Path(root).absolute()
        raise AimmatError(
            f"{info.title} was looked for in {place} and no {split or ''} pictures were found; "
            f"python -m aimmat.prepare layout {name} shows where they belong and whom to ask".replace("  ", " ")
        )
    if found.defects:
        raise AimmatError(one_of(found.defects))
    return list(found.entries)


def survey(
    name: str,
    root: str | Path,
    split: str | None = None,
    types: str | Path | bool = True,
    stems: str | Path | None = None,
    own: bool = True,
) -> Survey:
    """What is there of a data set, with its defects as sentences; the arguments are those of `read_dataset`.

    Args:
        name: a key of `DATASETS`.
        root: the folder under which the sets lie, or the set's own.
        split: one split; None is all.
        types: the types file, True to look for it, False to go without.
        stems: a file with the stems to keep.
        own: whether `root` may be the set's own folder whatever its name.

    Raises:
        AimmatError: no such set, split, or file of stems.
    """
    if name not in DATASETS:
        raise AimmatError(f"there is no data set {name!r}; those known are {', '.join(DATASETS)}")
    info = DATASETS[name]
    if split is not None and split not in info.counts:
        raise AimmatError(f"{info.title} has no split {split!r}, it has {', '.join(info.counts)}")
    root = Path(root).absolute()
    splits = [split] if split else list(info.counts)
    folder = _locate(info, root, own)
    layouts: dict[str, str] = {}
    entries: list[Entry] = []
    defects: list[str] = []
    missing: list[str] = []
    if folder is None:
        return Survey(info, None, layouts, ())
    for part_of in splits:
        layout, parts = _layout(info, folder, part_of)
        if not parts:
            continue
        layouts[part_of] = layout
        mine = _read(info, folder, parts, defects)
        missing += _missing(folder, parts, mine)
        entries += mine
    if stems is not None:
        entries = _kept(entries, Path(stems), defects)
    entries, typed = _labelled(info, entries, folder, root, types, defects)
    return Survey(info, folder, layouts, tuple(entries), tuple(defects), tuple(missing), typed)


def _locate(info: DatasetInfo, root: Path, own: bool) -> Path | None:
    """The folder that holds most of the set, of those under `root` that bear one of its names."""
    candidates = [folder for name in info.folders for folder in find(root, name)]
    candidates += [nested for folder in candidates for name in info.folders if name for nested in find(folder, name)]
    if own or plain(root.name) in {plain(name.split("/")[-1]) for name in info.folders}:
        candidates.append(root)
    best = max(candidates, key=lambda folder: _found(info, folder), default=None)
    if best is not None and (_found(info, best) or best != root):
        return best
    return None


def _found(info: DatasetInfo, folder: Path) -> int:
    return sum(max(_score(folder, parts, split) for parts in info.layouts.values()) for split in info.counts)


def _score(folder: Path, parts: Iterable[Part], split: str) -> int:
    """How many folders of a layout are there."""
    return sum(
        bool(find(folder, name)) for part in parts if part.split == split for name in (part.images, part.alphas) if name
    )


def _layout(info: DatasetInfo, folder: Path, split: str) -> tuple[str, list[Part]]:
    """The layout of which most is there, the earlier one of equals."""
    name = max(info.layouts, key=lambda name: _score(folder, info.layouts[name], split))
    parts = [part for part in info.layouts[name] if part.split == split]
    return name, parts if _score(folder, parts, split) else []


def find(folder: Path, name: str) -> list[Path]:
    """Folders below another one, whatever the case, hyphens, underscores and spaces of their names; `*` is any.

    Args:
        folder: where to look.
        name: folders joined by slashes; "" is `folder` itself.
    """
    found = [folder] if folder.is_dir() else []
    for part in name.split("/") if name else ():
        wanted = plain(part)
        found = [
            above / name
            for above in found
            for name in sorted(
                child.name
                for child in os.scandir(above)
                if (part == "*" or plain(child.name) == wanted) and child.is_dir() and child.name[0] != "."
            )
        ]
    return found


def _read(info: DatasetInfo, folder: Path, parts: Iterable[Part], defects: list[str]) -> list[Entry]:
    entries: list[Entry] = []
    for part in parts:
        images, alphas = find(folder, part.images), find(folder, part.alphas) if part.alphas else []
        missing = [name for name, place in ((part.images, images), (part.alphas, alphas)) if name and not place]
        if missing:
            defects.append(
                f"{folder / missing[0]} is missing; unpack {info.title} again, or see "
                f"python -m aimmat.prepare layout {info.name}"
            )
        elif part.alphas:
            pairs = pair(images[0], alphas[0], defects, part.suffix)
            mine = [Entry(file, part.role, part.split, alpha, dataset=info.name) for file, alpha in pairs]
            places = find(folder, part.trimaps) if part.trimaps else []
            entries += with_trimaps(mine, places[0], defects) if places else mine
        else:
            files = (file for place in images for file in pictures(place))
            entries += [Entry(file, part.role, part.split, dataset=info.name) for file in files]
    return entries


def _missing(folder: Path, parts: Iterable[Part], entries: Iterable[Entry]) -> list[str]:
    """Pictures that the archive's own lists name and that are not there."""
    there = {_key(entry) for entry in entries}
    lists = dict.fromkeys(folder / part.names for part in parts if part.names)
    texts = (file.read_text(encoding="utf-8") for file in lists if file.is_file())
    return [name for text in texts for name in map(str.strip, text.splitlines()) if name and stem_of(name) not in there]


def _key(entry: Entry) -> str:
    return stem_of(str(entry.path))


def _kept(entries: list[Entry], file: Path, defects: list[str]) -> list[Entry]:
    if not file.is_file():
        raise AimmatError(f"there is no list of stems at {file}; write one stem a line, or leave it out")
    wanted = {stem_of(line.strip()) for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()}
    kept = [entry for entry in entries if _key(entry) in wanted]
    unknown = wanted - {_key(entry) for entry in kept}
    defects += [f"{file} names {stem}, which is not on disk; correct the list" for stem in sorted(unknown)]
    return kept


def _labelled(
    info: DatasetInfo, entries: list[Entry], folder: Path, root: Path, types: str | Path | bool, defects: list[str]
) -> tuple[list[Entry], bool]:
    """The entries with their types, and whether all were told."""
    if not entries or entries[0].alpha is None:
        return entries, False
    if isinstance(types, bool) and (info.label or not types):
        return [_with(entry, info.label or UNTOLD) for entry in entries], info.label is not None
    places = [folder / TYPES_FILE, *(place / name for name in info.types for place in (folder, folder.parent, root))]
    given = next((place for place in places if place.is_file()), None) if isinstance(types, bool) else Path(types)
    if given is None:
        defects.append(
            f"{folder} has neither {TYPES_FILE} (name,type,category) nor {info.types[0]} of AIM's authors; "
            f"add one of them, or see python -m aimmat.prepare types"
        )
        return entries, False
    try:
        labels = read_types(given, info.name)
    except AimmatError as error:
        defects.append(str(error))
        return entries, False
    untyped = [entry for entry in entries if _key(entry) not in labels]
    if untyped:
        defects.append(_untyped(untyped, entries, given, labels))
    return [_with(entry, labels.get(_key(entry), UNTOLD)) for entry in entries], not untyped


def _with(entry: Entry, label: Label) -> Entry:
    return replace(entry, type=label[0], category=label[1])


def _untyped(untyped: list[Entry], entries: list[Entry], file: Path, labels: Mapping[str, Label]) -> str:
    more = f" and {len(untyped) - 1} more of {len(entries)} pictures" if len(untyped) > 1 else ""
    text = f"{file} has no type for {untyped[0].path}{more}"
    if len(untyped) == len(entries) and labels:
        text += f"; its names are like {next(iter(labels))!r}"  # the released file numbers Composition-1k's pictures
    return text + "; add them, or see python -m aimmat.prepare types"
