"""Small data sets on disk, in the layouts of the archives and of the AIM release.

The layouts are written down by hand, not taken from the catalogue that they test. Other tests load the maker with
`run_path(".../tests/data/trees.py")["make_tree"]`.
"""

import json
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

SIZE = (48, 64)  # height and width, pixels
KINDS = ("SO", "STM", "NS")
CATEGORIES = ("portrait", "animal", "transparent", "plant", "furniture", "toy", "fruit")
COUNTS = {"train": 3, "val": 2, "test": 3}
TRIMAPS = {  # of the test sets that come with some
    "aim500": "AIM-500/trimap/%s.png",
    "am2k": "AM-2k/validation/trimap/%s.png",
    "p3m500np": "P3M-10k/validation/P3M-500-NP/trimap/%s.png",
    "p3m500p": "P3M-10k/validation/P3M-500-P/trimap/%s.png",
    "alphamatting": "trimap_training_highres/Trimap1/%s.png",
}

_LICENSED = "Combined_Dataset/Training_set/Adobe-licensed images"
_OTHER = "Combined_Dataset/Training_set/Other"
_TEST = "Combined_Dataset/Test_set/Adobe-licensed images"
_P3M = "P3M-10k/validation"

# Where picture and matte lie, %s being the stem; of several places each takes its turn.
ARCHIVE = {
    "dim": {
        "train": [
            (f"{_LICENSED}/fg/%s.png", f"{_LICENSED}/alpha/%s.png"),
            (f"{_OTHER}/fg/%s.jpg", f"{_OTHER}/alpha/%s.jpg"),
        ],
        "test": [(f"{_TEST}/fg/%s.png", f"{_TEST}/alpha/%s.png")],
    },
    "hatt": {
        "train": [("Distinctions-646/Train/FG/%s.png", "Distinctions-646/Train/GT/%s.png")],
        "test": [("Distinctions-646/Test/FG/%s.png", "Distinctions-646/Test/GT/%s.png")],
    },
    "am2k": {
        "train": [("AM-2k/train/fg/%s.png", "AM-2k/train/mask/%s.png")],
        "test": [("AM-2k/validation/original/%s.jpg", "AM-2k/validation/mask/%s.png")],
    },
    "bg20k": {"train": [("BG-20k/train/%s.jpg", None)], "val": [("BG-20k/testval/%s.jpg", None)]},
    "coco": {"train": [("COCO/train2014/%s.jpg", None)]},
    "voc": {"test": [("VOCdevkit/VOC2012/JPEGImages/%s.jpg", None)]},
    "duts": {
        "train": [("DUTS/DUTS-TR/DUTS-TR-Image/%s.jpg", "DUTS/DUTS-TR/DUTS-TR-Mask/%s.png")],
        "val": [("DUTS/DUTS-TE/DUTS-TE-Image/%s.jpg", "DUTS/DUTS-TE/DUTS-TE-Mask/%s.png")],
    },
    "imagenet": {
        "train": [("ImageNet/train/n01440764/%s.JPEG", None), ("ImageNet/train/n01443537/%s.JPEG", None)],
        "val": [("ImageNet/val/n01440764/%s.JPEG", None), ("ImageNet/val/n01443537/%s.JPEG", None)],
    },
    "dapm": {
        "train": [("DAPM/training/%s.png", "DAPM/training/%s_matte.png")],
        "test": [("DAPM/testing/%s.png", "DAPM/testing/%s_matte.png")],
    },
    "aim500": {"test": [("AIM-500/original/%s.jpg", "AIM-500/mask/%s.png")]},
    "p3m500np": {"test": [(f"{_P3M}/P3M-500-NP/original_image/%s.jpg", f"{_P3M}/P3M-500-NP/mask/%s.png")]},
    "p3m500p": {"test": [(f"{_P3M}/P3M-500-P/blurred_image/%s.jpg", f"{_P3M}/P3M-500-P/mask/%s.png")]},
    "ppm100": {"test": [("PPM-100/image/%s.jpg", "PPM-100/matte/%s.jpg")]},
    "alphamatting": {"test": [("input_training_highres/%s.png", "gt_training_highres/%s.png")]},
}
# core/config.py and core/README.md of the AIM release; masks have the names of the pictures.
RELEASE = ARCHIVE | {
    "dim": {"train": [("DIM/train/fg/%s.png", "DIM/train/mask/%s.png")]},
    "hatt": {"train": [("HATT/train/fg/%s.png", "HATT/train/mask/%s.png")]},
    "am2k": {"train": [("AM-2k/train/fg/%s.png", "AM-2k/train/mask/%s.png")]},
    "bg20k": {"train": [("BG-20k/train/%s.jpg", None)]},
    "duts": {"train": [("DUTS-TR/DUTS-TR-Image/%s.jpg", "DUTS-TR/DUTS-TR-Mask/%s.png")]},
}


def make_tree(name, root, counts=None, variant="archive", touch=False, types=True):
    """Lay out a data set below `root` and return `root`.

    Args:
        name: its word in the catalogue.
        root: the folder of the sets; several may go into one.
        counts: pictures by split; None makes a few in each split that the variant has.
        variant: "archive" or "release".
        touch: make empty files, fast, instead of pictures of 48 x 64 pixels.
        types: write the authors' types file too, with SO, STM and NS by turns.
    """
    root = Path(root)
    places = {"archive": ARCHIVE, "release": RELEASE}[variant][name]
    told = {}
    for split, turns in places.items():
        for i in range((COUNTS if counts is None else counts).get(split, 0)):
            stem = f"{name}_{split}_{i:05d}"
            picture, matte = turns[i % len(turns)]
            _write(root / (picture % stem), touch, _colours(crc32(stem.encode())))
            if matte:
                _write(root / (matte % stem), touch, _alpha(i, binary=name == "duts"))
            if split == "test" and name in TRIMAPS:
                _write(root / (TRIMAPS[name] % stem), touch, _trimap(_alpha(i)))
            told[stem] = {"type": KINDS[i % 3], "category": CATEGORIES[i % 7]}
    if types and name == "aim500":
        (root / "AIM-500" / "aim_category_type.json").write_text(json.dumps(told), encoding="utf-8")
    if types and name in ("dim", "hatt", "am2k"):
        file = root / "dim_hatt_am2k_type.json"
        sections = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        sections[name.upper()] = {stem: label["type"] for stem, label in told.items()}
        file.write_text(json.dumps(sections), encoding="utf-8")
    return root


def _write(file, touch, pixels):
    file.parent.mkdir(parents=True, exist_ok=True)
    if touch:
        file.open("wb").close()
    else:
        assert cv2.imwrite(str(file), pixels)


def _colours(seed):
    return np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8)


def _alpha(seed, binary=False):
    """An ellipse with a soft border, each a little elsewhere."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    distance = np.hypot((y - SIZE[0] / 2) / 16, (x - SIZE[1] / 2 - seed % 5) / 20)
    alpha = np.clip((1.2 - distance) / 0.4, 0, 1)
    return np.where(alpha > 0.5, 255, 0).astype(np.uint8) if binary else np.rint(255 * alpha).astype(np.uint8)


def _trimap(alpha):
    """The lower half of what the matte says; so it is none that is made from the matte."""
    trimap = np.where(alpha == 255, 255, np.where(alpha > 0, 128, 0)).astype(np.uint8)
    trimap[: SIZE[0] // 2] = 0
    return trimap
