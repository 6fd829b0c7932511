"""The training command: what it composes, what it leaves, what it says when something is wrong."""

import csv
import html
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from runpy import run_path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, get_method
from omegaconf import OmegaConf
from PIL import Image

import aimmat
from aimmat.images import read_alpha
from aimmat.inference import Hybrid, build_strategy
from aimmat.report import main as report_main
from aimmat.schema import Category, ImageType, Prediction
from aimmat.tables import read_rows
from aimmat.train import config_dir, main, run_name, switches
from aimmat.weights import load_network

dashboard = run_path(str(Path(__file__).parent / "report" / "test_dashboard.py"))

# one small epoch: 8 scenes of 64 pixels, the narrowest network
SMALL = [
    "data=synthetic",
    "data.train.source.size=64",
    "data.train.source.length=8",
    "data.val.source.length=2",
    "data.val.source.size=64",
    "data.test.source.length=3",
    "data.test.source.size=64",
    "data.batch_size=4",
    "data.num_workers=0",
    "model.width=0.0625",
    "inference.semantic_scale=1",
    "inference.matting_scale=1",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.check_val_every_n_epoch=1",
    "trainer.log_every_n_steps=1",
]


def train(*arguments, cwd, **environment):
    """Run the command as a user does."""
    call = [sys.executable, "-m", "aimmat.train", *arguments]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"} | environment
    return subprocess.run(call, cwd=cwd, env=env, capture_output=True, text=True, timeout=240)


def train_here(arguments, cwd, monkeypatch, capsys):
    """The same in this process, for what ends before any training: exit code and stderr."""
    monkeypatch.chdir(cwd)
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    code = main()
    return code, capsys.readouterr().err


def composed(*overrides):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("train", list(overrides))


def choices(group):
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run of both stages."""
    cwd = tmp_path_factory.mktemp("run")
    done = train(*SMALL, "hydra.run.dir=out", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "out", done


# what the configs compose


GROUPS = ["experiment", "ablation", "debug", "data", "inference", "logger", "callbacks", "trainer"]


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_of_a_group_composes(group):
    for choice in choices(group):
        composed(f"{group}={choice}")


def test_every_target_resolves():
    def targets(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "_target_":
                    yield value
                else:
                    yield from targets(value)

    for path in config_dir().rglob("*.yaml"):
        for target in targets(OmegaConf.to_container(OmegaConf.load(path), resolve=False)):
            assert get_class(target) if target.rsplit(".", 1)[-1][0].isupper() else get_method(target), (
                f"{path}: {target}"
            )


# Table 3: the columns UNI TL MP SE SA of its eight rows
TABLE_3 = run_path(str(Path(__file__).parent / "tables" / "folders.py"))["ON"]


def test_the_ablation_rows_are_those_of_table_3():
    assert choices("ablation") == sorted(TABLE_3)
    for row, on in TABLE_3.items():
        config = composed(f"ablation={row}")
        assert {name for name, value in switches(config).items() if value} == set(on.split())


@pytest.mark.parametrize("experiment", ["demo", "full"])
def test_ablation_rows_differ_in_their_switches_alone(experiment):
    configs = [composed(f"experiment={experiment}", f"ablation={row}") for row in TABLE_3]
    plain = [OmegaConf.to_container(config, resolve=False) for config in configs]
    for config in plain:
        for key in ("mp", "se", "sa"):
            config["model"].pop(key)
        config.pop("stages")
        config["data"]["compose"].pop("representation")
    assert all(config == plain[0] for config in plain)


def test_a_run_is_named_after_its_experiment_switches_and_seed():
    assert run_name(composed("ablation=uni_tl_se", "seed=3")) == "demo-uni+tl+se-s3"
    assert run_name(composed("ablation=none")) == "demo-none-s42"
    assert run_name(composed("ablation=none", "protocol=release")) == "demo-none-release-s42"


def test_the_protocol_is_one_word_for_all_its_parts():
    for protocol in ("paper", "release"):
        config = composed(f"protocol={protocol}")
        parts = [config.model, config.inference, *(config.stage[name].loss for name in config.stages)]
        assert [part.protocol for part in parts] == [protocol] * 4
        assert composed("inference=resize", "~experiment", f"protocol={protocol}").inference.protocol == protocol


def test_the_plain_hybrid_strategy_has_the_scales_of_its_protocol():
    for protocol, scale in (("paper", 1 / 3), ("release", 1 / 2)):
        options = composed("~experiment", f"protocol={protocol}").inference
        assert build_strategy(**options) == Hybrid(protocol=protocol)
        net = SeenSizes()
        build_strategy(**options)(net, torch.zeros(1, 3, 768, 768))
        assert sorted(net.seen) == [192, int(768 * scale)]


class SeenSizes(torch.nn.Module):
    """Remembers the sides that it saw."""

    stride = 32

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, image):
        self.seen.append(image.shape[-1])
        return Prediction(image, image[:, :1], image[:, :1])


def test_no_argument_is_the_demo():
    assert composed() == composed("experiment=demo", "data=sample")


# what a run leaves


def test_a_run_names_the_files_it_wrote(finished):
    out, done = finished
    for name in (
        "rows.csv",
        "tables.md",
        "tables.tex",
        "gallery.png",
        "gallery.html",
        "config.yaml",
        "model.safetensors",
    ):
        assert (out / name).stat().st_size > 0
        assert name in done.stdout
    assert "mattes" not in done.stdout


def test_the_page_says_the_arguments_of_the_run(finished):
    command = shlex.join(["python", "-m", "aimmat.train", *SMALL])
    assert f"<code>{html.escape(command)}</code>" in (finished[0] / "gallery.html").read_text(encoding="utf-8")


def test_the_card_says_how_the_weights_came_about(finished):
    out = finished[0]
    card = load_network(out)[1]
    assert card["protocol"] == card["model"]["protocol"] == card["inference"]["protocol"] == "paper"
    assert card["backbone"] is None
    assert card["licence"] is None
    recipe = card["recipe"]
    assert recipe["data"] == "synthetic"
    assert recipe["seed"] == 42
    assert list(recipe["stages"]) == ["saliency", "matting"]
    assert recipe["stages"]["matting"]["epochs"] == 1  # trainer.max_epochs caps the demo's 7
    assert recipe["stages"]["matting"]["batch_size"] == 4
    assert recipe["stages"]["matting"]["optimizer"]["lr"] == 2e-3
    assert set(recipe) == {"data", "seed", "init", "stages", "revision"}
    rows = read_rows(out / "rows.csv")
    assert list(card["metrics"]) == ["synthetic, hybrid"]
    assert card["metrics"]["synthetic, hybrid"]["sad"] == pytest.approx(
        sum(row.scores["sad"] for row in rows) / len(rows), abs=1e-6
    )
    before = load_network(out / "saliency/model.safetensors")[1]
    assert list(before["recipe"]["stages"]) == ["saliency"]
    assert "metrics" not in before


def test_a_run_under_the_releases_protocol_starts_from_a_backbone_and_writes_its_mattes(finished, tmp_path):
    arguments = [
        *SMALL,
        "stages=[matting]",
        "logger=none",
        "protocol=release",
        "mattes=true",
        "licence=CC0-1.0",
        f"backbone.weights={finished[0] / 'model.safetensors'}",
        "backbone.kind=r34_mp",
        "stage.matting.optimizer.lr=1e-9",
        "stage.matting.schedule=null",
    ]
    done = train(*arguments, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    net, card = load_network(tmp_path / "out")
    assert card["protocol"] == card["model"]["protocol"] == card["inference"]["protocol"] == "release"
    assert card["licence"] == "CC0-1.0"
    assert card["backbone"] == {"kind": "r34_mp", "source": "model.safetensors"}
    source = load_network(finished[0])[0]
    for part in ("encoder.stem.0.weight", "encoder.stages.3.2.second.0.weight"):
        after, before = net.state_dict()[part], source.state_dict()[part]
        torch.testing.assert_close(after, before, rtol=0, atol=1e-7)  # Adam moves a weight by the rate, 1e-9, a step
    head = "matting.head.weight"
    assert not torch.allclose(net.state_dict()[head], source.state_dict()[head], rtol=0, atol=1e-3)  # drawn anew
    rows = read_rows(tmp_path / "out" / "rows.csv")
    files = sorted((tmp_path / "out" / "mattes").iterdir())
    assert [file.name for file in files] == sorted(f"{row.name}.png" for row in rows)
    assert all(read_alpha(file).shape == (64, 64) for file in files)
    assert "the predicted matte of every test picture" in done.stdout


def test_rows_hold_every_metric_type_and_category(finished):
    with (finished[0] / "rows.csv").open(newline="") as file:
        header = next(csv.reader(file))
    assert header[:3] == ["name", "type", "category"]
    assert {"sad", "mse", "mad", "grad", "conn", "sad_transition"} <= set(header)
    assert [row.type for row in read_rows(finished[0] / "rows.csv")] == ["SO", "STM", "NS"]


def test_the_table_stands_beside_the_constant_predictors(finished):
    text = (finished[0] / "tables.md").read_text()
    for method in ("aimnet", "all 0", "all 0.5", "all 1", "mean of type"):
        assert method in text


def test_the_resolved_config_holds_no_interpolation(finished):
    text = (finished[0] / "config.yaml").read_text()
    assert "${" not in text
    assert OmegaConf.create(text).model.width == 0.0625


@pytest.mark.parametrize(
    "path", [".", "model.safetensors", "matting/checkpoints/last.ckpt", "saliency/model.safetensors"]
)
def test_what_a_run_leaves_can_be_loaded(finished, path):
    predictor = aimmat.load(finished[0] / path)
    matte = predictor(torch.rand(3, 40, 50))
    assert matte.shape == (40, 50)
    assert predictor.net.stride == 32


@pytest.fixture(scope="module")
def recorded(finished):
    """What the run's file of W&B holds."""
    (record,) = (finished[0] / "wandb").glob("offline-run-*/*.wandb")
    call = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(record)]
    text = subprocess.run(call, capture_output=True, text=True, check=True, timeout=60).stdout
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def merged(records, *keys):
    """What records of a kind say together, a later one over those before."""
    found = {}
    for record in records:
        for key in keys:
            record = record.get(key, {})
        found |= record
    return found


def test_the_offline_run_of_wandb_says_what_it_should(finished, recorded):
    out = finished[0]
    run = next(found["run"] for found in recorded if "run" in found)
    assert run["display_name"] == "demo-uni+tl+mp+se+sa-s42"
    assert run["run_group"] == "demo"
    assert run["job_type"] == "train"
    assert set(run["tags"]) == {"synthetic", "aimnet", "paper", "uni", "tl", "mp", "se", "sa"}
    assert run["run_id"] == (out / "wandb_run_id.txt").read_text()
    config = merged(recorded, "config", "update")
    assert config["model"]["width"] == 0.0625
    assert config["seed"] == 42
    assert config["method"] == "demo-uni+tl+mp+se+sa"
    assert {"git", "stage", "trainer"} <= set(config)
    history = merged(recorded, "history", "item")
    assert {"train/loss", "saliency/train/loss", "val/sad", "val/sad/type/SO", "test/sad", "epoch"} <= set(history)
    assert history["val/panel._type"].startswith("images")
    (panel,) = (out / "wandb").glob("offline-run-*/files/media/images/val/panel_*.jpg")
    with Image.open(panel) as montage:
        assert montage.size == (6 * 64, 2 * 64)  # two validation pictures; input, truth, alpha, error, two trimaps


def test_wandb_keeps_the_least_error_of_a_stage_and_the_one_of_the_test(recorded):
    metrics = {found["metric"].get("name"): found["metric"] for found in recorded if "metric" in found}
    for key in ("val/sad", "val/conn_background", "saliency/val/mse"):
        assert metrics[key]["summary"] == {"min": True}
    summary = merged(recorded, "summary", "update")
    assert isinstance(summary["test/sad"], float)  # a dict of minima would not sort, nor be a bar


def test_wandb_has_a_table_of_every_test_picture(finished, recorded):
    out = finished[0]
    (path,) = (out / "wandb").glob("offline-run-*/files/media/table/test/images_*.table.json")
    table = json.loads(path.read_text())
    rows = read_rows(out / "rows.csv")
    assert table["columns"] == ["name", "type", "category", *rows[0].scores, "input, alpha, truth, error"]
    assert len(table["data"]) == len(rows) == 3
    for line, row in zip(table["data"], rows, strict=True):
        assert line[:3] == [row.name, row.type, row.category]
        # rows.csv has six digits
        known = [None if value != value else pytest.approx(value, rel=1e-4, abs=1e-6) for value in row.scores.values()]
        assert line[3:] == [*known, "Image"]
    waiting = out / "wandb" / "artifacts" / "staging"
    (artifact,) = (found["artifact"] for found in recorded if "artifact" in found)
    assert {Path(file["local_path"]).parent for file in artifact["manifest"]["contents"]} == {waiting}
    assert sum(file.stat().st_size for file in (out / "wandb").rglob("*") if file.is_file()) < 400_000


def test_the_dashboard_asks_for_what_a_run_logs(tmp_path, recorded):
    assert report_main(["dashboard", "-o", str(tmp_path / "dashboard.json")]) == 0
    sections, _ = dashboard["written"](tmp_path / "dashboard.json")
    history = merged(recorded, "history", "item")
    logged = set(history) | {key.removesuffix("._type") for key in history}
    for name, panels in sections.items():
        absent = dashboard["keys"](panels) - logged
        groups = {key.rpartition("/")[2] for key in absent}  # of which the three pictures show none
        assert groups <= ({*Category} if name == "Categories" else {*ImageType} if name == "Types" else set())
        assert {f"{key.rpartition('/')[0]}/avg" for key in absent} <= logged


def test_two_jobs_of_a_sweep_are_two_runs(tmp_path):
    done = train("-m", *SMALL, "experiment=demo", "ablation=none,full", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ids = set()
    for job, (name, stages) in enumerate((("none", ["matting"]), ("full", ["saliency", "matting"]))):
        folder = tmp_path / "sweep" / str(job)
        assert (folder / "rows.csv").exists()
        assert [stage for stage in ("saliency", "matting") if (folder / stage).is_dir()] == stages
        assert len(list(folder.glob("wandb/offline-run-*"))) == 1
        ids.add((folder / "wandb_run_id.txt").read_text())
        assert OmegaConf.load(folder / "config.yaml").model.mp == (name == "full")
    assert len(ids) == 2


def test_a_failed_job_does_not_spoil_the_next(tmp_path):
    done = train("-m", *SMALL, "stages=[matting]", "model.width=0,0.0625", "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 1
    assert "width" in done.stderr
    assert not (tmp_path / "sweep/0/rows.csv").exists()
    assert (tmp_path / "sweep/1/rows.csv").exists()


def test_ctrl_c_leaves_a_checkpoint_and_the_run_goes_on(tmp_path):
    arguments = [*SMALL, "stages=[matting]", "logger=csv", "trainer.max_epochs=200", "stage.matting.max_epochs=200"]
    call = [sys.executable, "-m", "aimmat.train", *arguments, "hydra.run.dir=out"]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(call, cwd=tmp_path, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    metrics = tmp_path / "out" / "csv" / "metrics.csv"
    for _ in range(600):
        if metrics.exists():
            break
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "go on with: python -m aimmat.train resume=" in stderr
    last = tmp_path / "out/matting/checkpoints/last.ckpt"
    epoch = torch.load(last, weights_only=True)["epoch"]
    assert aimmat.load(tmp_path / "out")(torch.rand(3, 32, 32)).shape == (32, 32)
    done = train("resume=out", f"trainer.max_epochs={epoch + 2}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "rows.csv").exists()
    assert torch.load(last, weights_only=True)["epoch"] > epoch


# what is said when something is wrong


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["experiment=dmeo"], "dmeo"),
        (["ablation=half"], "half"),
        (["model.spatial=true"], "spatial"),
        (["+model.spatial=true"], "aimnet has no switch 'spatial'"),
        (["data.batch_size=big"], "data.batch_size must be a whole number"),
        (["trainer.max_epochs=few"], "trainer.max_epochs must be a whole number"),
        (["stages=[warmup]"], "stages names warmup; the stages defined are imagenet, saliency, matting"),
        (["init=nowhere"], "nowhere"),
        (["init=nowhere", "backbone.weights=elsewhere"], "init and backbone.weights both say"),
        (["backbone.weights=nowhere", "backbone.kind=resnet34"], "nowhere"),
        (["backbone.weights=nowhere"], "the kind of the backbone nowhere must be r34_mp"),
        (["backbone.kind=r34_mp"], "backbone.kind is set but backbone.weights is not"),
        (["model.protocol=release"], "model.protocol is not the run's protocol=paper; set protocol alone"),
        (["protocol=relaese"], "protocol must be paper or release, got 'relaese'"),
        (["resume=nowhere"], "nowhere is not a run's folder"),
        (["data.compose.representation=duomap"], "representation must be one of unified, trimap"),
    ],
)
def test_bad_input_ends_in_one_sentence(tmp_path, monkeypatch, capsys, arguments, says):
    code, stderr = train_here([*SMALL, "logger=none", *arguments], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert stderr.startswith("error: ")
    assert says in stderr
    assert len(stderr.strip().splitlines()) == 1
    assert not list(tmp_path.rglob("rows.csv"))


def test_a_missing_data_folder_is_named_and_the_sample_set_offered(tmp_path, monkeypatch, capsys):
    code, stderr = train_here(["data=folder", "paths.data_dir=nowhere", "logger=none"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert f"looked for pictures in {tmp_path / 'nowhere'}" in stderr
    assert "use data=sample" in stderr


def cutouts(root):
    """A folder of cut-outs as data=folder reads it, one for each split."""
    (root / "background").mkdir(parents=True)
    for i in range(3):
        Image.new("RGB", (40, 40), (0, 60 * i, 90)).save(root / "background" / f"{i}.png")
    for split in ("train", "val", "test"):
        (root / split / "foreground").mkdir(parents=True)
        Image.new("RGBA", (32, 32), (200, 0, 0, 255)).save(root / split / "foreground" / "square.png")
    return root / "train" / "foreground"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_picture_is_named(tmp_path, monkeypatch, capsys, workers):
    folder = cutouts(tmp_path / "pictures")
    whole = (folder / "square.png").read_bytes()
    (folder / "square.png").write_bytes(whole[: len(whole) // 2])
    arguments = ["data=folder", "paths.data_dir=pictures", "model.width=0.0625", "logger=none", "stages=[matting]"]
    code, stderr = train_here(
        [*arguments, f"data.num_workers={workers}", "trainer.accelerator=cpu"], tmp_path, monkeypatch, capsys
    )
    assert code == 1
    assert "square.png" in stderr
    assert "truncated" in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_an_alpha_of_another_size_is_named(tmp_path, monkeypatch, capsys):
    folder = cutouts(tmp_path / "pictures")
    (folder.parent / "alpha").mkdir()
    Image.new("L", (20, 20), 255).save(folder.parent / "alpha" / "square.png")
    arguments = ["data=folder", "paths.data_dir=pictures", "model.width=0.0625", "logger=none", "data.num_workers=0"]
    code, stderr = train_here([*arguments, "trainer.accelerator=cpu"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "is 32 x 32 pixels but its alpha" in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_a_traceback_is_shown_when_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AIMMAT_TRACEBACK", "1")
    code, stderr = train_here(["stages=[warmup]"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "Traceback" in stderr


def test_an_output_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    code, stderr = train_here([*SMALL, "paths.runs_dir=file"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "file" in stderr
    assert len(stderr.strip().splitlines()) == 1
