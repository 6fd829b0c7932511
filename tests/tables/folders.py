"""Run folders as `aimmat.train` leaves them, without a training."""

import yaml

from aimmat.schema import Category, ImageType, Row
from aimmat.tables import write_rows

ON = {
    "none": "",
    "uni": "uni",
    "uni_tl": "uni tl",
    "uni_tl_mp": "uni tl mp",
    "uni_tl_se": "uni tl se",
    "uni_tl_sa": "uni tl sa",
    "uni_tl_se_sa": "uni tl se sa",
    "full": "uni tl mp se sa",
}
SCORES = ("sad", "mse", "mad", "conn", "grad", "sad_transition")
TYPES = [ImageType.SO] * 424 + [ImageType.STM] * 43 + [ImageType.NS] * 33


def some_rows(sad=10.0, number=3, **scores):
    """Rows of so many images, all with the same scores."""
    values = dict.fromkeys(SCORES, 0.5) | {"sad": sad} | scores
    return [Row(f"image{place}", TYPES[place], Category.ANIMAL, values) for place in range(number)]


def settings(switches="uni tl mp se sa", seed=1, data="sample", **more):
    """What config.yaml holds, as far as reports read it."""
    on = switches.split()
    test = {"_target_": "aimmat.data.SceneDataset", "source": {}}
    if data == "aim500":
        entries = {"_target_": "aimmat.data.read_dataset", "name": "aim500", "split": "test"}
        test = {"_target_": "aimmat.data.photos.PhotoDataset", "entries": entries}
    return {
        "task_name": "demo",
        "data_name": "paper" if data == "aim500" else data,
        "seed": seed,
        "protocol": "paper",
        "stages": ["saliency", "matting"] if "tl" in on else ["matting"],
        "model": {"name": "aimnet", **{name: name in on for name in ("mp", "se", "sa")}, "width": 1.0},
        "data": {
            "seed": seed,
            "compose": {"representation": "unified" if "uni" in on else "trimap"},
            "test": test,
        },
        "stage": {"saliency": {"max_epochs": 2}, "matting": {"max_epochs": 7}},
        "inference": {"name": "hybrid"},
        "trainer": {"max_epochs": None},
        **more,
    }


def make_run(folder, switches="uni tl mp se sa", seed=1, rows=None, data="sample", **more):
    """Write the folder of a run; rows=[] leaves it unfinished."""
    folder.mkdir(parents=True)
    callbacks = {"last": {"folder": f"{folder}/checkpoints"}, "best": {"dirpath": f"{folder}/checkpoints"}}
    config = settings(switches, seed, data, **{"callbacks": callbacks} | more)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    rows = some_rows() if rows is None else rows
    if rows:
        write_rows(folder / "rows.csv", rows)
    return folder
