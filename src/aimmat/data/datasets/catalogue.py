"""The data sets of the paper and the natural test sets beside them, as data: layouts, counts, terms, where to ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aimmat.schema import Category, ImageType


@dataclass(frozen=True)
class Part:
    """One folder of pictures and where their mattes lie, relative to the set's folder; `*` is any folder."""

    split: str
    images: str
    alphas: str = ""  # "" for pictures without a matte
    role: str = "foreground"  # as in `aimmat.data.layouts.ROLES`
    suffix: str = ""  # what a matte's stem has after the picture's, where both lie in one folder
    trimaps: str = ""  # the set's own, of the pictures' names; read where they are
    names: str = ""  # a text file of the archive that lists the pictures, one name a line


@dataclass(frozen=True)
class DatasetInfo:
    """A data set: what it is for, how it lies on disk, who gives it out."""

    name: str  # its word in commands and configs
    title: str
    use: str  # what it is for here
    folders: tuple[str, ...]  # spellings of its folder, as `reader.find` takes them; "" is the folder of all sets
    counts: Mapping[str, int]  # pictures on disk by split
    layouts: Mapping[str, tuple[Part, ...]]  # by name; the first is the archive's
    licence: str
    citation: str
    ask: str  # where it is to be had
    subject: str = ""  # Table 1's word for what it shows
    label: tuple[ImageType, Category] | None = None  # of every picture; None: a types file says it
    types: tuple[str, ...] = ()  # names of the authors' types file, in the set's folder or above it
    repeats: int = 0  # backgrounds for each training foreground (paper, section 4.2)
    used: Mapping[str, int] = field(default_factory=dict)  # pictures that the paper used, where it is not all
    note: str = ""  # what could not be confirmed, or is easily got wrong

    @property
    def natural(self) -> bool:
        """Whether the pictures are photographs, not layers to be composited."""
        return any(part.role == "photo" for parts in self.layouts.values() for part in parts)

    def tree(self, layout: str | None = None) -> str:
        """What lies in the set's folder, as a drawing; None draws the first layout."""
        first = next(iter(self.layouts))
        parts = self.layouts[layout or first]
        folders: dict[str, str] = {}
        for part in parts:
            known = layout in (None, first) and sum(other.split == part.split for other in parts) == 1
            folders[part.images] = f"{part.split}: {self.counts[part.split]:,} pictures" if known else part.split
            if part.suffix:
                folders[part.images] += f", each NAME.png with its matte NAME{part.suffix}.png"
            elif part.alphas:
                folders[part.alphas] = f"their {'masks' if part.role == 'saliency' else 'mattes'}, of the same names"
            if part.trimaps:
                folders[part.trimaps] = "their trimaps, if there are any"
        return "\n".join(_branches(folders))


def _branches(folders: Mapping[str, str], indent: str = "") -> list[str]:
    heads = list(dict.fromkeys(path.partition("/")[0] for path in folders if path))
    lines = []
    for head in heads:
        last = head == heads[-1]
        note = f"   {folders[head]}" if head in folders else ""
        lines.append(f"{indent}{'└── ' if last else '├── '}{head}/{note}")
        below = {path[len(head) + 1 :]: note for path, note in folders.items() if path.startswith(f"{head}/")}
        lines += _branches(below, indent + ("    " if last else "│   "))
    return lines


_ANIMAL = (ImageType.SO, Category.ANIMAL)
_PORTRAIT = (ImageType.SO, Category.PORTRAIT)
_GFM = "Li, Zhang, Maybank, Tao. Bridging Composite and Real: Towards End-to-end Deep Image Matting. IJCV 2022."
_P3M = "Li, Ma, Zhang, Tao. Privacy-Preserving Portrait Matting. ACM MM 2021."
_RELEASE = (Part("train", "train/fg", "train/mask"), Part("test", "test/fg", "test/mask"))  # its core/config.py
_TYPES = ("dim_hatt_am2k_type.json", "dim_hatt_type.json")  # linked to and looked for by the released AIM code
_DIM = "Training_set/Adobe-licensed images", "Training_set/Other", "Test_set/Adobe-licensed images"

# Counts and layouts are those of public READMEs and loaders, named in docs/datasets.md; a note says what is not.
_ALL = (
    DatasetInfo(
        "dim",
        "Composition-1k, the Adobe Deep Image Matting set",
        use="training, Table 1",
        folders=(
            "Combined_Dataset",
            "DIM",
            "Composition-1k",
            "Comp-1k",
            "Adobe",
            "adobe_composition-1k",
            "Adobe_Deep_Matting_Dataset",
            "Adobe_Deep_Image_Matting_Dataset",
        ),
        counts={"train": 431, "test": 50},
        layouts={
            "archive": (
                Part("train", f"{_DIM[0]}/fg", f"{_DIM[0]}/alpha", names="Training_set/training_fg_names.txt"),
                Part("train", f"{_DIM[1]}/fg", f"{_DIM[1]}/alpha", names="Training_set/training_fg_names.txt"),
                Part("test", f"{_DIM[2]}/fg", f"{_DIM[2]}/alpha", names="Test_set/test_fg_names.txt"),
            ),
            "merged": (
                Part("train", "Training_set/fg", "Training_set/alpha"),
                Part("test", "Test_set/fg", "Test_set/alpha"),
            ),
            "release": _RELEASE,
        },
        licence="Adobe's licence, research only, sent with the set; Other/ holds Creative Commons pictures, "
        "whose licences a file beside them links to",
        citation="Xu, Price, Cohen, Huang. Deep Image Matting. CVPR 2017.",
        ask="write to Brian Price (bprice@adobe.com), https://sites.google.com/view/deepimagematting",
        subject="Mixed",
        types=_TYPES,
        repeats=5,
    ),
    DatasetInfo(
        "hatt",
        "Distinctions-646, the set of HAttMatting",
        use="training, Table 1",
        folders=("Distinctions-646", "HATT", "HAttMatting", "Distinction-646", "D646"),
        counts={"train": 596, "test": 50},
        used={"train": 591},
        layouts={
            "archive": (Part("train", "Train/FG", "Train/GT"), Part("test", "Test/FG", "Test/GT")),
            "release": _RELEASE,
        },
        licence="non-commercial use; the archive's own terms hold",
        citation="Qiao, Liu, Yang, Zhou, Xu, Zhang, Wei. Attention-Guided Hierarchical Structure Aggregation for "
        "Image Matting. CVPR 2020.",
        ask="linked from https://github.com/yuhaoliu7456/CVPR2020-HAttMatting (a RAR file), or write to its authors",
        subject="Mixed",
        types=_TYPES,
        repeats=5,
        note="The paper's 8,710 training images count 591 foregrounds; which five of the 596 it left out is not "
        "documented. All are used; give a list of stems to leave some out.",
    ),
    DatasetInfo(
        "am2k",
        "AM-2k, natural pictures of animals",
        use="training, Table 1",
        folders=("AM-2k",),
        counts={"train": 1800, "test": 200},
        layouts={
            "archive": (
                Part("train", "train/fg", "train/mask"),
                Part("test", "validation/original", "validation/mask", "photo", trimaps="validation/trimap"),
            ),
            "photographs": (
                Part("train", "train/original", "train/mask", "photo"),
                Part("test", "validation/original", "validation/mask", "photo", trimaps="validation/trimap"),
            ),
        },
        licence="MIT, under a release agreement",
        citation=_GFM,
        ask="https://github.com/JizhiziLi/GFM#am-2k",
        subject="Animal",
        label=_ANIMAL,
        repeats=2,
        note="train/fg holds foreground colours estimated from the photographs; without it the photographs are "
        "read, and their foregrounds have to be estimated.",
    ),
    DatasetInfo(
        "bg20k",
        "BG-20k, backgrounds without salient objects",
        use="backgrounds",
        folders=("BG-20k",),
        counts={"train": 15000, "val": 5000},
        layouts={
            "archive": (Part("train", "train", role="background"), Part("val", "testval", role="background")),
            "mirror": (
                Part("train", "*/BG-20k/train", role="background"),
                Part("val", "*/BG-20k/testval", role="background"),
            ),
        },
        licence="MIT, under a release agreement",
        citation=_GFM,
        ask="https://github.com/JizhiziLi/GFM#bg-20k",
    ),
    DatasetInfo(
        "coco",
        "MS COCO",
        use="backgrounds of the older protocol, training",
        folders=("COCO", "MSCOCO", "COCO2014", "COCO2017"),
        counts={"train": 82783},
        layouts={
            "train2014": (Part("train", "train2014", role="background"),),
            "train2017": (Part("train", "train2017", role="background"),),
            "GFM": (Part("train", "train", role="background"),),
        },
        licence="Flickr terms for the pictures, CC BY 4.0 for the annotations",
        citation="Lin et al. Microsoft COCO: Common Objects in Context. ECCV 2014.",
        ask="https://cocodataset.org/#download (train2014; train2017 has 118,287 pictures)",
    ),
    DatasetInfo(
        "voc",
        "PASCAL VOC 2012",
        use="backgrounds of the older protocol, test",
        folders=("VOCdevkit/VOC2012", "VOC2012", "VOC", "PASCAL_VOC"),
        counts={"test": 17125},
        layouts={"archive": (Part("test", "JPEGImages", role="background"),)},
        licence="Flickr terms for the pictures",
        citation="Everingham, Van Gool, Williams, Winn, Zisserman. The PASCAL Visual Object Classes Challenge. "
        "IJCV 2010.",
        ask="http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
    ),
    DatasetInfo(
        "duts",
        "DUTS, salient objects",
        use="saliency stage (TR) and its validation (TE)",
        folders=("DUTS", ""),
        counts={"train": 10553, "val": 5019},
        layouts={
            "archive": (
                Part("train", "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask", "saliency"),
                Part("val", "DUTS-TE/DUTS-TE-Image", "DUTS-TE/DUTS-TE-Mask", "saliency"),
            ),
        },
        licence="the annotations' rights are reserved by their authors; the pictures come from ImageNet and SUN",
        citation="Wang, Lu, Wang, Feng, Wang, Yin, Ruan. Learning to Detect Salient Objects with Image-level "
        "Supervision. CVPR 2017.",
        ask="http://saliencydetection.net/duts/",
        label=(ImageType.SO, Category.OTHER),
    ),
    DatasetInfo(
        "imagenet",
        "ImageNet, ILSVRC 2012",
        use="retraining of the ResNet-34-MP backbone",
        folders=("ImageNet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        counts={"train": 1281167, "val": 50000},
        layouts={
            "class folders": (Part("train", "train/*", role="class"), Part("val", "val/*", role="class")),
        },
        licence="non-commercial research, under ImageNet's terms of access",
        citation="Russakovsky et al. ImageNet Large Scale Visual Recognition Challenge. IJCV 2015.",
        ask="https://image-net.org/download.php",
        note="val/ unpacks flat; it has to be sorted into class folders first.",
    ),
    DatasetInfo(
        "dapm",
        "DAPM, the portraits of Deep Automatic Portrait Matting",
        use="Table 1",
        folders=("DAPM", "Portrait", "automatting", "portrait_matting"),
        counts={"train": 1700, "test": 300},
        used={"test": 200},
        layouts={
            "archive": (
                Part("train", "training", "training", "photo", "_matte"),
                Part("test", "testing", "testing", "photo", "_matte"),
            ),
        },
        licence="research only, no redistribution; The Chinese University of Hong Kong's terms in its readme",
        citation="Shen, Tao, Gao, Zhou, Jia. Deep Automatic Portrait Matting. ECCV 2016.",
        ask="write to Xiaoyong Shen (goodshenxy@gmail.com), https://jiaya.me/projects/automatting/index.html",
        subject="Portrait",
        label=_PORTRAIT,
        note="Its readme counts 300 test portraits, the paper's Table 1 counts 200; which 200 is not documented. "
        "The layout is that of several independent loaders; the name of the archive's folder is unconfirmed.",
    ),
    DatasetInfo(
        "aim500",
        "AIM-500, natural pictures of all three types",
        use="the test, Table 1",
        folders=("AIM-500",),
        counts={"test": 500},
        layouts={
            "archive": (Part("test", "original", "mask", "photo", trimaps="trimap"),),
            "validation folder": (
                Part("test", "validation/original", "validation/mask", "photo", trimaps="validation/trimap"),
            ),
        },
        licence="MIT, under a release agreement",
        citation="Li, Zhang, Tao. Deep Automatic Natural Image Matting. IJCAI 2021.",
        ask="https://github.com/JizhiziLi/AIM#aim-500",
        subject="Mixed",
        types=("aim_category_type.json",),
    ),
    DatasetInfo(
        "p3m500np",
        "P3M-500-NP, portraits with their faces",
        use="further natural test",
        folders=("P3M-10k/validation/P3M-500-NP", "P3M-500-NP"),
        counts={"test": 500},
        layouts={"archive": (Part("test", "original_image", "mask", "photo", trimaps="trimap"),)},
        licence="MIT, under a release agreement",
        citation=_P3M,
        ask="https://github.com/JizhiziLi/P3M",
        subject="Portrait",
        label=_PORTRAIT,
    ),
    DatasetInfo(
        "p3m500p",
        "P3M-500-P, portraits with blurred faces",
        use="further natural test",
        folders=("P3M-10k/validation/P3M-500-P", "P3M-500-P"),
        counts={"test": 500},
        layouts={"archive": (Part("test", "blurred_image", "mask", "photo", trimaps="trimap"),)},
        licence="MIT, under a release agreement",
        citation=_P3M,
        ask="https://github.com/JizhiziLi/P3M",
        subject="Portrait",
        label=_PORTRAIT,
    ),
    DatasetInfo(
        "ppm100",
        "PPM-100, photographic portraits",
        use="further natural test",
        folders=("PPM-100",),
        counts={"test": 100},
        layouts={
            "archive": (Part("test", "image", "matte", "photo"),),
            "val folder": (Part("test", "val/image", "val/matte", "photo"),),
            "PaddleSeg": (Part("test", "val/fg", "val/alpha", "photo"),),
        },
        licence="Flickr Creative Commons for the pictures, CC BY-NC-SA 4.0 for the mattes",
        citation="Ke, Sun, Li, Yan, Lau. MODNet: Real-Time Trimap-Free Portrait Matting via Objective "
        "Decomposition. AAAI 2022.",
        ask="https://github.com/ZHKKKe/PPM",
        subject="Portrait",
        label=_PORTRAIT,
        note="The layouts are those of public loaders; the set's README does not show one.",
    ),
    DatasetInfo(
        "alphamatting",
        "alphamatting.com, its 27 training pairs",
        use="further natural test",
        folders=("alphamatting", "alphamatting.com", "AlphaMatting_training", ""),
        counts={"test": 27},
        layouts={
            "high resolution": (
                Part(
                    "test",
                    "input_training_highres",
                    "gt_training_highres",
                    "photo",
                    trimaps="trimap_training_highres/Trimap1",
                ),
            ),
            "low resolution": (
                Part(
                    "test",
                    "input_training_lowres",
                    "gt_training_lowres",
                    "photo",
                    trimaps="trimap_training_lowres/Trimap1",
                ),
            ),
        },
        licence="none stated where it is given out",
        citation="Rhemann, Rother, Wang, Gelautz, Kohli, Rott. A Perceptually Motivated Online Benchmark for Image "
        "Matting. CVPR 2009.",
        ask="http://alphamatting.com/datasets.php (input_, gt_ and trimap_training_highres.zip)",
        subject="Mixed",
        label=(ImageType.SO, Category.OTHER),
        note="Nobody has published types of the 27 pictures; they are read as SO, other.",
    ),
)
DATASETS = {info.name: info for info in _ALL}
