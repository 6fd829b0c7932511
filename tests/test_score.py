"""Scoring files: what is read, what is matched, what is refused, and that processes change nothing but the time."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from aimmat.images import read_trimap
from aimmat.metrics import METRICS, measure
from aimmat.schema import AimmatError, Category, ImageType
from aimmat.score import Pair, find_pairs, main, read_matte, read_types, score_pair, score_pairs
from aimmat.tables import read_rows

SIZE = (12, 16)  # height, width


def matte(seed):
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8)


def classes(seed):
    return np.random.default_rng(seed).integers(0, 3, SIZE)


def tensor(values):
    return torch.from_numpy(values)[None, None]


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


@pytest.fixture
def folders(tmp_path):
    """Three images with truth, prediction and trimap."""
    for number, name in enumerate(("a", "b.1", "c")):
        save(tmp_path / "pred" / f"{name}.png", matte(number))
        save(tmp_path / "truth" / f"{name}.png", matte(number + 10))
        save(tmp_path / "trimaps" / f"{name}.png", np.array([0, 128, 255], np.uint8)[classes(number)])
    return tmp_path


def run(folder, *options):
    return main([str(folder / "pred"), str(folder / "truth"), *map(str, options)])


# what is read


def test_eight_and_sixteen_bits_become_float64_by_one_rule(tmp_path):
    levels = np.array([[0, 51, 153, 255]], np.uint8)
    deep = np.array([[0, 13107, 40000, 65535]], np.uint16)
    save(tmp_path / "8.png", levels)
    save(tmp_path / "16.png", deep)
    save(tmp_path / "16.tif", deep)
    save(tmp_path / "float.tif", np.array([[0, 0.25, 1]], np.float32))
    assert (read_matte(tmp_path / "8.png") == levels / 255).all()
    assert (read_matte(tmp_path / "16.png") == deep / 65535).all()
    assert (read_matte(tmp_path / "16.tif") == deep / 65535).all()
    assert read_matte(tmp_path / "float.tif").tolist() == [[0, 0.25, 1]]
    assert read_matte(tmp_path / "8.png").dtype == np.float64


@pytest.mark.parametrize("form", ["grey RGB", "RGBA cut-out", "LA", "palette", "opaque RGBA"])
def test_every_form_of_a_matte_gives_its_levels(tmp_path, form):
    levels = matte(0)
    colour = np.random.default_rng(1).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    image = {
        "grey RGB": lambda: Image.fromarray(np.repeat(levels[..., None], 3, 2)),
        "RGBA cut-out": lambda: Image.fromarray(np.dstack([colour, levels])),
        "LA": lambda: Image.fromarray(np.dstack([colour[..., 0], levels])),
        "palette": lambda: Image.fromarray(levels).convert("P"),
        "opaque RGBA": lambda: Image.fromarray(np.dstack([levels] * 3 + [np.full(SIZE, 255, np.uint8)])),
    }[form]()
    image.save(tmp_path / "x.png")
    assert (read_matte(tmp_path / "x.png") == levels / 255).all()


@pytest.mark.parametrize("form", ["cut-out", "grey"])
def test_sixteen_bits_of_several_channels_lose_nothing(tmp_path, form):
    rng = np.random.default_rng(0)
    deep = rng.integers(0, 65536, SIZE, dtype=np.uint16)
    channels = [*rng.integers(0, 65536, (3, *SIZE), dtype=np.uint16), deep] if form == "cut-out" else [deep] * 3
    for name in ("x.png", "x.tif"):
        assert cv2.imwrite(str(tmp_path / name), np.dstack(channels))
        assert (read_matte(tmp_path / name) == deep / 65535).all()


def test_sixteen_bits_are_turned_as_eight_are(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # a quarter
    deep = np.random.default_rng(0).integers(0, 65536, SIZE, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "x.png", exif=turned)
    assert (read_matte(tmp_path / "x.png") == np.rot90(deep, -1) / 65535).all()


def test_a_matte_in_colour_is_refused(tmp_path):
    save(tmp_path / "x.png", np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8))
    with pytest.raises(AimmatError, match=r"x\.png: it is in colour and has no alpha channel"):
        read_matte(tmp_path / "x.png")


def test_a_trimap_is_black_white_and_between(tmp_path):
    save(tmp_path / "t.png", np.array([[0, 1, 127, 128, 254, 255]], np.uint8))
    assert read_trimap(tmp_path / "t.png").tolist() == [[0, 1, 1, 1, 1, 2]]
    save(tmp_path / "t.png", np.array([[0, 1, 2]], np.uint8))
    with pytest.raises(AimmatError, match=r"t\.png holds levels from 0 to 2; a trimap has 0, 128 and 255"):
        read_trimap(tmp_path / "t.png")


TYPES = {
    "types.json": json.dumps({"a": {"type": "SO", "category": "animal"}, "b.1": {"type": "NS"}}),
    "types.csv": "name,type,category\na,SO,animal\nb.1,NS,\n",
    "rows.csv": "method,name,type,category,sad\nx,a,SO,animal,1.5\nx,b.1,NS,,2.5\n",
}


@pytest.mark.parametrize("file", TYPES)
def test_types_are_read_from_json_and_csv(tmp_path, file):
    (tmp_path / file).write_text(TYPES[file])
    assert read_types(tmp_path / file) == {"a": (ImageType.SO, Category.ANIMAL), "b.1": (ImageType.NS, None)}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("t.json", "{", r"t\.json is no file of types \(JSONDecodeError"),
        ("t.json", "[1]", r"t\.json is no file of types"),
        ("t.json", '{"a": "SO"}', r"t\.json is no file of types"),
        ("t.json", '{"a": {"category": "toy"}}', r"t\.json is no file of types \(KeyError: 'type'"),
        ("t.csv", "name,kind\na,SO\n", r"t\.csv is no file of types \(KeyError: 'type'\); give JSON"),
        ("t.csv", "name,type\na,XX\n", r"t\.csv, a: 'XX' is not a valid ImageType; the types are SO, STM, NS"),
        ("t.csv", "name,type,category\na,SO,horse\n", r"t\.csv, a: 'horse' is not a valid Category"),
        ("none.csv", None, r"cannot read the types in .*none\.csv: no such file"),
    ],
)
def test_what_is_no_file_of_types_is_said_in_one_sentence(tmp_path, file, content, words):
    if content is not None:
        (tmp_path / file).write_text(content)
    with pytest.raises(AimmatError, match=words):
        read_types(tmp_path / file)


# what is matched


def test_files_are_matched_by_what_stands_before_the_suffix(folders):
    save(folders / "pred" / "alone.jpg", matte(5))
    save(folders / "truth" / "d.PNG", matte(5))
    (folders / "truth" / "notes.txt").write_text("no picture")
    (folders / "truth" / "sub").mkdir()
    (folders / "pred" / "._a.png").write_bytes(b"a Mac's shadow of a.png")
    pairs, lonely = find_pairs(folders / "pred", folders / "truth")
    assert [pair.name for pair in pairs] == ["a", "b.1", "c"]
    assert pairs[1] == Pair("b.1", folders / "pred" / "b.1.png", folders / "truth" / "b.1.png", None)
    assert lonely == ["1 of 4 predictions have no truth: alone", "1 of 4 truths have no prediction: d"]


def test_what_is_missing_is_said_and_noted_below_the_table(folders, capsys):
    (folders / "truth" / "a.png").unlink()
    (folders / "pred" / "c.png").unlink()
    assert run(folders) == 0
    said = capsys.readouterr()
    assert said.err == "1 of 2 predictions have no truth: a\n1 of 2 truths have no prediction: c\n"
    note = (folders / "pred_scores" / "tables.md").read_text().splitlines()[-1]
    assert note.startswith("1 image. Lower is better.")
    assert note.endswith("count the whole image. 1 of 2 predictions have no truth. 1 of 2 truths have no prediction.")


def test_two_files_are_a_pair_whatever_their_names(folders):
    assert main([str(folders / "pred" / "a.png"), str(folders / "truth" / "c.png")]) == 0
    (row,) = read_rows(folders / "pred" / "a_scores" / "rows.csv")
    pair = Pair("a", folders / "pred" / "a.png", folders / "truth" / "c.png", None)
    assert (row.name, row.scores) == ("a", score_pair(pair))


# what is measured


def test_scores_are_those_of_measure_over_the_regions_of_the_trimap(folders):
    assert run(folders, "--trimaps", folders / "trimaps") == 0
    for number, row in enumerate(read_rows(folders / "pred_scores" / "rows.csv")):
        pred, alpha = (tensor(matte(seed) / 255) for seed in (number, number + 10))
        scores = measure(pred, alpha, tensor(classes(number)))
        assert row.scores == {name: score.item() for name, score in scores.items()}
        assert set(row.scores) == set(METRICS)
        assert (row.type, row.category) == (None, None)
    assert "Regions: those of the trimaps in" in (folders / "pred_scores" / "tables.md").read_text()


def test_without_trimaps_the_whole_image_counts_and_the_note_says_so(folders):
    assert run(folders) == 0
    assert list(read_rows(folders / "pred_scores" / "rows.csv")[0].scores) == ["sad", "mse", "mad", "grad", "conn"]
    text = (folders / "pred_scores" / "tables.md").read_text()
    assert re.search(r"\| pred \|( [\d.]+ \|){5} – \|$", text, re.MULTILINE)
    assert "No trimaps were given: errors count the whole image." in text
    assert "SAD by type" not in text
    assert "SAD by category" not in text


def test_the_matlab_protocol_is_passed_on_and_named_in_rows_and_table(folders):
    assert run(folders, "--trimaps", folders / "trimaps", "--protocol", "matlab", "-o", folders / "out") == 0
    pair = tensor(matte(0) / 255), tensor(matte(10) / 255), tensor(classes(0))
    expected = measure(*pair, protocol="matlab")
    assert expected["grad"] != measure(*pair)["grad"]
    assert read_rows(folders / "out" / "rows.csv")[0].scores["grad"] == expected["grad"].item()
    with (folders / "out" / "rows.csv").open() as file:
        assert {(line["method"], line["protocol"]) for line in csv.DictReader(file)} == {("pred", "matlab")}
    text = (folders / "out" / "tables.md").read_text()
    assert "Tran. SAD | Tran. MSE | Tran. MAD | Tran. Conn | Tran. Grad" in text
    assert "MATLAB" in text


def test_types_make_the_groups_of_the_table(folders):
    (folders / "types.json").write_text(
        json.dumps({name: {"type": "SO", "category": "toy"} for name in ("a", "b.1")} | {"c": {"type": "NS"}})
    )
    assert run(folders, "--types", folders / "types.json") == 0
    assert [row.type for row in read_rows(folders / "pred_scores" / "rows.csv")] == ["SO", "SO", "NS"]
    text = (folders / "pred_scores" / "tables.md").read_text()
    assert "| SO (2) | STM | NS (1) | Avg. |" in text
    assert "| Toy (2) |" in text


def test_another_size_is_refused_unless_it_may_be_resized(folders, capsys):
    with Image.open(folders / "truth" / "a.png") as truth:
        truth.resize((32, 24), Image.Resampling.BILINEAR).save(folders / "pred" / "a.png")
    assert run(folders) == 1
    assert re.search(
        r"^error: a: \S+pred/a\.png is 32 x 24 pixels and \S+truth/a\.png 16 x 12; .* give --resize\n$",
        capsys.readouterr().err,
    )
    assert [row.name for row in read_rows(folders / "pred_scores" / "rows.csv")] == ["b.1", "c"]
    assert run(folders, "--resize") == 0
    resized, *_ = read_rows(folders / "pred_scores" / "rows.csv")
    assert resized.scores["mad"] < 0.2  # the truth blurred; noise against noise is off by a third
    assert "resized to the truth's" in (folders / "pred_scores" / "tables.md").read_text()


def test_a_trimap_of_another_size_is_refused(folders, capsys):
    save(folders / "trimaps" / "a.png", np.zeros((5, 5), np.uint8))
    assert run(folders, "--trimaps", folders / "trimaps", "--resize") == 1
    assert "trimaps/a.png is 5 x 5 pixels" in capsys.readouterr().err


# processes


def many(tmp_path, number):
    for index in range(number):
        save(tmp_path / "pred" / f"{index:03}.png", matte(index))
        save(tmp_path / "truth" / f"{index:03}.png", matte(index + number))


def test_a_truncated_file_costs_its_own_line_and_exit_code_1_with_any_number_of_processes(tmp_path, capsys):
    many(tmp_path, 40)
    broken = tmp_path / "pred" / "007.png"
    broken.write_bytes(broken.read_bytes()[:100])
    written = []
    for jobs in (1, 2):
        assert run(tmp_path, "--jobs", jobs, "-o", tmp_path / "out") == 1
        said = capsys.readouterr()
        assert re.fullmatch(r"error: 007: cannot read \S+007\.png: the file is truncated .*\n", said.err)
        rows = read_rows(tmp_path / "out" / "rows.csv")
        assert [row.name for row in rows] == [f"{index:03}" for index in range(40) if index != 7]
        assert "1 of 40 pairs could not be scored." in " ".join(said.out.split())
        written.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert written[0].keys() == {"rows.csv", "tables.md", "tables.tex"}
    assert written[0] == written[1]


def test_a_process_that_is_ended_from_outside_is_named():
    with pytest.raises(AimmatError, match=r"ended from outside, .* give a smaller --jobs"):
        score_pairs([1, 1], os._exit, jobs=2)


def test_ctrl_c_ends_every_process_with_one_word_and_writes_nothing(tmp_path):
    many(tmp_path, 1)
    for index in range(1, 4000):  # much more than can be scored in a second
        for side in ("pred", "truth"):
            os.link(tmp_path / side / "000.png", tmp_path / side / f"{index:04}.png")
    save(tmp_path / "pred" / "alone.png", matte(0))
    command = [sys.executable, "-m", "aimmat.score", "pred", "truth", "--jobs", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr.readline() == "1 of 4001 predictions have no truth: alone\n"  # now it begins
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "stopped\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pred", "truth"]


def test_scoring_starts_without_torch_and_never_imports_a_training_framework(folders):
    arguments = [str(folders / "pred"), str(folders / "truth"), "--trimaps", str(folders / "trimaps"), "--jobs", "1"]
    code = f"""
import sys, aimmat.score
heavy = ("torch", "lightning", "hydra", "omegaconf", "wandb", "torchmetrics")
print([name for name in heavy if name in sys.modules], file=sys.stderr)
assert aimmat.score.main({arguments}) == 0
print([name for name in heavy if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n['torch']\n"


# what is refused


def test_folders_that_share_no_name_are_shown_to_the_user(folders):
    for path in (folders / "pred").iterdir():
        path.rename(path.with_name(f"alpha_{path.name}"))
    words = r"no file in \S+pred \(alpha_a, alpha_b\.1, alpha_c\) is named as one in \S+truth \(a, b\.1, c\); name each"
    with pytest.raises(AimmatError, match=words):
        find_pairs(folders / "pred", folders / "truth")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pred", "none"], "there is no file or folder none; name one that exists"),
        (["pred", "truth/a.png"], "pred and truth/a.png must be both folders or both files"),
        (["pred", "pred"], "PREDICTIONS and TRUTH are both pred"),
        (["empty", "truth"], "there is no picture in empty"),
        (["twice", "truth"], "twice holds a.jpg and a.png; keep one of them"),
        (["pred", "truth", "--trimaps", "some"], "some has no trimap for b.1, c; add what is missing"),
        (["pred", "truth", "--trimaps", "none"], "there is no file or folder none"),
        (
            ["pred", "truth", "--types", "types.csv"],
            "types.csv says nothing of b.1, c; add what is missing (it names a",
        ),
        (["pred", "truth", "--jobs", "0"], "--jobs must be 1 or more, got 0"),
        (["pred", "truth", "-o", "truth/scores"], "truth/scores lies in the folder of the truth; choose"),
        (["pred", "truth", "-o", "types.csv"], "types.csv is a file; choose a folder"),
        (["pred", "truth", "-o", "types.csv/new/scores"], "types.csv is a file; choose a folder"),
        (["small", "truth"], "no pair could be scored, so nothing was written"),
    ],
)
def test_wrong_usage_gets_a_sentence_and_writes_nothing(folders, capsys, monkeypatch, arguments, words):
    (folders / "empty").mkdir()
    save(folders / "small" / "a.png", np.zeros((2, 2), np.uint8))
    save(folders / "some" / "a.png", matte(0))
    save(folders / "twice" / "a.png", matte(0))
    save(folders / "twice" / "a.jpg", matte(0))
    (folders / "types.csv").write_text("name,type,category\na,SO,toy\n")
    monkeypatch.chdir(folders)
    before = sorted(folders.rglob("*"))
    assert main(arguments) == 1
    captured = capsys.readouterr()
    *others, last = captured.err.splitlines()
    assert last.startswith(f"error: {words}")
    assert len(others) == (2 if arguments[0] == "small" else 0)  # the truths without prediction, the refused pair
    assert captured.out == ""
    assert sorted(folders.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_scored(folders, capsys, monkeypatch):
    monkeypatch.setattr("aimmat.score.os.access", lambda path, mode: False)
    monkeypatch.setattr("aimmat.score.score_pairs", None)
    assert main([str(folders / "pred"), str(folders / "truth"), "-o", str(folders / "new" / "scores")]) == 1
    assert capsys.readouterr().err == (
        f"error: {folders} cannot be written; choose another folder for the results with -o\n"
    )


def test_help_says_what_happens_without_trimaps(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "Without --trimaps the errors count the whole image only" in capsys.readouterr().out
