"""`python -m aimmat.prepare replay`: the batches of a run again, to the bit, and what they were made of."""

import json
import os
import re
import sys
from contextlib import chdir

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image

from aimmat import train
from aimmat.data import Key
from aimmat.data.records import RECORD
from aimmat.lit import MattingModule
from aimmat.prepare import main, replay

TYPES = {"dog": "SO", "cup": "SO", "glass": "STM", "smoke": "NS"}
ARGUMENTS = [
    "data=folder",
    "paths.data_dir=pictures",  # relative: a replay may be asked for from elsewhere
    "data.val=null",
    "data.batch_size=8",
    "data.device_batch_size=4",
    "data.num_workers=1",
    "data.compose.trimap_kernel=6",
    "+data.compose.rssn_options={resample_probability: 0.5}",
    "data.train.crop_sizes=[40, 48]",
    "data.train.input_size=32",
    "data.train.source.base.size=48",
    "data.test.source.size=64",
    "model.width=0.0625",
    "inference.semantic_scale=1",
    "inference.matting_scale=1",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "constants=false",
    "estimate=false",  # whose tries are no steps
    "logger=none",
    "hydra.run.dir=out",
]


def pictures(root):
    """Cut-outs of every type over noisy photographs, as data=folder reads them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:48, :48]
    for folder in ("background", "train/foreground", "val/foreground", "test/foreground"):
        (root / folder).mkdir(parents=True)
    for i in range(5):
        Image.fromarray(rng.integers(0, 256, (60, 70, 3), np.uint8)).save(root / "background" / f"b{i}.png")
    for name, kind in TYPES.items():
        alpha = np.clip(20 - np.hypot(y - 23.5, x - 23.5) + rng.random((48, 48)), 0, 1) if kind != "NS" else x / 47
        rgba = np.dstack([rng.integers(0, 256, (48, 48, 3)), np.rint(alpha * 255)]).astype(np.uint8)
        for split in ("train", "val", "test") if name == "dog" else ("train",):
            Image.fromarray(rgba).save(root / split / "foreground" / f"{name}.png")
    (root / "types.csv").write_text("name,type,category\n" + "".join(f"{n},{k},toy\n" for n, k in TYPES.items()))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of both stages in this process: its folder, and what the network saw as (stage, step, batch)."""
    cwd, seen = tmp_path_factory.mktemp("run"), []
    pictures(cwd / "pictures")
    learn = MattingModule.training_step

    def keeping(self, batch, batch_idx):
        stage = "saliency" if self.prefix else "matting"
        seen.append((stage, self.global_step, dict(batch)))
        return learn(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", ["train", *ARGUMENTS])
        patch.setattr(MattingModule, "training_step", keeping)
        assert train.main() == 0
    return cwd / "out", seen


def same(one, other):
    assert one.keys() == other.keys()
    for key, part in one.items():
        assert torch.equal(part, other[key]) if torch.is_tensor(part) else part == other[key], key


def said(capsys, *arguments):
    """Exit code of the command, and what it printed."""
    code = main(["replay", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_every_step_of_both_stages_can_be_replayed_to_the_bit(trained):
    out, seen = trained
    steps = {(stage, step) for stage, step, _ in seen}
    # a pass: 2 x 3 SO in saliency; with 6 STM and 6 NS in matting, 18 samples: batches of 4 4 4 4 2, steps of 2 2 1
    assert steps == {("saliency", 0), ("saliency", 1)} | {("matting", step) for step in range(6)}
    for stage, step in sorted(steps):
        shown = [batch for *place, batch in seen if place == [stage, step]]
        again = replay.replay_step(out, step, stage)
        assert len(again) == len(shown)
        for replayed, batch in zip(again, shown, strict=True):
            assert replayed.notes == []
            same(replayed.batch, batch)


def test_a_recipe_says_what_was_done_to_a_sample(trained):
    out, _ = trained
    with chdir(out.parent):
        data = instantiate(json.loads((out / "matting" / RECORD).read_text())[0]["data"])
    found = [again for step in range(6) for again in replay.replay_step(out, step)]
    recipes = [(again.batch, i, recipe) for again in found for i, recipe in enumerate(again.recipes)]
    assert len(recipes) == 36
    treated = set()
    for batch, i, recipe in recipes:
        foreground, background = (recipe["made_of"][role].stem for role in ("foreground", "background"))
        assert recipe["name"] == f"{foreground}+{background}" == batch["name"][i]
        assert recipe["type"] == TYPES[foreground]
        top, left, height, width = recipe["made_of"]["window"]
        assert height == width == round(32 / recipe["scale"])
        assert 0 <= min(top, left) <= max(top, left) <= 48 - height
        rssn = recipe["rssn"]
        treated |= {(key, bool(value)) for key, value in rssn.items()}
        plain = data.train[Key(recipe["epoch"], recipe["index"])]
        for layer in ("foreground", "background"):
            changed = rssn["noise"] or rssn["resample"] == layer or (layer == "background" and rssn["blur"] > 0)
            assert torch.equal(batch[layer][i], plain[layer].float() / 255) != changed
    assert treated == {(key, value) for key in ("resample", "blur", "noise") for value in (False, True)}


def test_one_sample_is_found_by_number_and_by_name(trained):
    out, _ = trained
    step = replay.replay_step(out, 4)
    recipe = step[1].recipes[2]
    (by_number,) = replay.replay_sample(out, recipe["epoch"], recipe["index"])
    by_name = replay.replay_sample(out, recipe["epoch"], name=recipe["name"])
    for found in (by_number, next(one for one in by_name if one.recipes[0]["index"] == recipe["index"])):
        assert found.recipes == [recipe]
        same(
            {key: part for key, part in found.batch.items() if key != "name"},
            {key: part[2:3] for key, part in step[1].batch.items() if key != "name"},
        )


def test_the_command_writes_a_sheet_and_recipes(trained, tmp_path, monkeypatch, capsys):
    out, _ = trained
    monkeypatch.chdir(tmp_path)
    code, text = said(capsys, "--run", out, "--step", 1, "-o", "here")
    assert code == 0
    assert "here/matting-step000001.png: 8 samples" in text
    recipes = json.loads((tmp_path / "here" / "matting-step000001.json").read_text())
    assert [recipe["batch"] for recipe in recipes] == [2] * 4 + [3] * 4
    assert all(os.path.isfile(recipe["made_of"]["background"]) for recipe in recipes)
    with Image.open(tmp_path / "here" / "matting-step000001.png") as page:
        assert page.size == (1 * (5 * 128 + 8), 8 * (128 + 34))
    code, text = said(capsys, "--run", out, "--stage", "saliency", "--epoch", 1, "--sample", 3)
    assert code == 0
    assert (out / "replay" / "saliency-epoch1-sample3.png").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--step", "6"], "the last step of stage matting is 5, got 6"),
        (["--step", "-1"], "the steps of stage matting are counted from 0, got -1"),
        (["--stage", "duts", "--step", "0"], "stage duts has not trained in .*; give --stage matting or saliency"),
        (["--epoch", "2", "--sample", "0"], "stage matting has the epochs 0 to 1, got 2"),
        (["--epoch", "0", "--sample", "18"], "samples are numbered 0 to 17, got 18"),
        (["--epoch", "0", "--name", "cat+b1"], "no sample of epoch 0 is called 'cat\\+b1'"),
        (["--epoch", "0"], "give either --step N, or --epoch E with one of --sample I and --name NAME"),
        (["--step", "0", "--epoch", "0", "--sample", "0"], "give either --step N"),
        (["--step", "0", "--sample", "0"], "give either --step N"),
        (["--step", "0", "--epoch", "0"], "give either --step N"),
        ([], "give either --step N"),
    ],
)
def test_what_cannot_be_replayed_is_one_sentence(trained, capsys, arguments, says):
    code, text = said(capsys, "--run", trained[0], *arguments)
    assert code == 1
    assert [line for line in text.splitlines() if line.startswith("error: ")] == [text.strip().splitlines()[-1]]
    assert re.search(says, text)


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    code, text = said(capsys, "--run", tmp_path, "--step", 0)
    assert code == 1
    assert "is not the folder of a run that has trained: it has no matting/samples.json" in text


def test_data_that_changed_are_refused(trained, capsys):
    out, _ = trained
    cutouts = out.parent / "pictures" / "train" / "foreground"
    (cutouts / "cup.png").rename(cutouts / "mug.png")
    try:
        code, text = said(capsys, "--run", out, "--step", 0)
    finally:
        (cutouts / "mug.png").rename(cutouts / "cup.png")
    assert code == 1
    assert "the data set lists other files" in text


def test_a_picture_that_changed_is_named(trained, capsys):
    out, _ = trained
    file = out.parent / "pictures" / "train" / "foreground" / "dog.png"
    before = file.stat()
    os.utime(file, (before.st_atime + 3600, before.st_mtime + 3600))
    try:
        code, text = said(capsys, "--run", out, "--stage", "saliency", "--step", 0)
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert code == 0
    assert text.count("note: ") == 1
    assert f"note: {file} changed after the run was made" in text


def test_another_device_and_other_libraries_are_named(trained, tmp_path, capsys):
    out, _ = trained
    records = json.loads((out / "matting" / RECORD).read_text())
    records[0] |= {"device": "cuda"}
    records[0]["versions"] |= {"torch": "1.0"}
    (tmp_path / "matting").mkdir()
    (tmp_path / "matting" / RECORD).write_text(json.dumps(records))
    code, text = said(capsys, "--run", tmp_path, "--step", 0)
    assert code == 0
    assert f"note: the run used torch 1.0, this is torch {torch.__version__}: samples may differ" in text
    assert ("note: the run drew blur and noise on cuda, which is missing here" in text) != torch.cuda.is_available()
