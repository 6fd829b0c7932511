"""What a run notes of its data."""

from dataclasses import replace
from pathlib import Path

import pytest

from aimmat.data import CutoutScenes, Entry, MixedScenes, SceneDataset, SyntheticScenes
from aimmat.data.errors import SkipErrors
from aimmat.data.records import entries_of, fingerprint, read_records
from aimmat.schema import AimmatError, ImageType

ENTRIES = [
    Entry(Path("cat.png"), "foreground", "train"),
    Entry("https://example.org/dog.png", "foreground", "train", Path("dog_alpha.png")),
    Entry(Path("sea.png"), "background", "train"),
]


def test_entries_are_found_in_the_sources_of_a_data_set():
    source = MixedScenes(CutoutScenes(ENTRIES, "train", 32, repeats=3), SyntheticScenes(32, 4), share=0.5)
    assert entries_of(SkipErrors(SceneDataset(source))) == ENTRIES
    assert entries_of(SceneDataset(SyntheticScenes(32, 4))) == []


def test_a_fingerprint_follows_files_types_and_order():
    known = fingerprint(ENTRIES)
    assert known == fingerprint(list(ENTRIES))
    others = [
        ENTRIES[::-1],
        ENTRIES[:2],
        [replace(ENTRIES[0], type=ImageType.NS), *ENTRIES[1:]],
        [replace(ENTRIES[0], alpha=Path("cat_alpha.png")), *ENTRIES[1:]],
        [replace(ENTRIES[0], path=Path("dog.png")), *ENTRIES[1:]],
    ]
    assert len({known, *map(fingerprint, others)}) == len(others) + 1


@pytest.mark.parametrize("text", ["{", "[1]", '[{"step": 0}]'])
def test_a_damaged_record_is_refused(tmp_path, text):
    (tmp_path / "samples.json").write_text(text)
    with pytest.raises(AimmatError, match=r"samples\.json is not a record of training samples"):
        read_records(tmp_path / "samples.json")
