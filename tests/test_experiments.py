"""The experiments: what they compose, and that each passes, on small data sets in the real layouts."""

import csv
import shutil
from pathlib import Path
from runpy import run_path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image, ImageDraw

from aimmat.models import build
from aimmat.schema import AimmatError
from aimmat.tables import read_rows
from aimmat.train import check, config_dir, read_data, sequence
from aimmat.weights import load_network, save_network

helpers = run_path(str(Path(__file__).with_name("test_train.py")))
composed, train, train_here = (helpers[name] for name in ("composed", "train", "train_here"))
make_tree = run_path(str(Path(__file__).parent / "data" / "trees.py"))["make_tree"]

SETS = ("imagenet", "duts", "dim", "hatt", "am2k", "bg20k", "aim500")
NARROW = ["model.width=0.0625", "trainer.accelerator=cpu", "logger=csv", "debug=step"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Every data set of the paper, a few small pictures of each."""
    root = tmp_path_factory.mktemp("data")
    for name in SETS:
        make_tree(name, root)
    return root


@pytest.fixture
def pictures(tmp_path):
    """A folder of one's own: a photograph and discs to cut out."""
    root = tmp_path / "mine"
    for i, split in enumerate(("train", "val", "test")):
        (root / split / "foreground").mkdir(parents=True)
        cutout = Image.new("RGBA", (32, 32), (200, 60 * i, 0, 0))
        ImageDraw.Draw(cutout).ellipse((4, 4, 28, 28), (200, 60 * i, 0, 255))
        cutout.save(root / split / "foreground" / "disc.png")
        (root / "background").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), (0, 60 * i, 90)).save(root / "background" / f"{i}.png")
    return root


@pytest.fixture
def trained(tmp_path):
    """A folder of weights to start from."""
    model = {"name": "aimnet", "width": 0.0625}
    card = {"model": model, "protocol": "paper", "licence": "CC BY 4.0", "backbone": {"kind": "r34_mp", "source": "x"}}
    save_network(tmp_path / "weights.safetensors", build(**model), card)
    return tmp_path / "weights.safetensors"


# experiment=full


def test_full_has_the_numbers_of_section_4_2():
    config = composed("experiment=full")
    duts, matting = config.stage.saliency, config.stage.matting
    assert sequence(config) == ["imagenet", "saliency", "matting"]
    assert (duts.optimizer.lr, duts.max_epochs, duts.data.train.input_size, duts.data.batch_size) == (
        1e-4,
        100,
        320,
        16,
    )
    assert (matting.optimizer.lr, matting.max_epochs, config.data.batch_size) == (1e-6, 50, 16)
    assert (config.data.train.crop_sizes, config.data.train.input_size) == ([640, 960, 1280], 320)
    assert config.data.train.repeats == {"dim": 5, "hatt": 5, "am2k": 2}
    assert 431 * 5 + 591 * 5 + 1800 * 2 == 8710
    assert {duts.optimizer._target_, matting.optimizer._target_} == {"torch.optim.Adam"}
    assert duts.schedule is matting.schedule is None
    assert (config.inference.semantic_scale, config.inference.matting_scale, config.protocol) == (0.25, None, "paper")
    assert config.data.test.entries.name == "aim500"


@pytest.mark.parametrize(
    ("given", "stages"),
    [
        (["backbone.weights=x", "backbone.kind=r34_mp"], ["saliency", "matting"]),
        (["init=x", "stages=[matting]"], ["matting"]),
        (["stages=[imagenet]"], ["imagenet"]),
        (["stages=[saliency]"], ["imagenet", "saliency"]),
        (["ablation=uni"], ["imagenet", "matting"]),
    ],
)
def test_stages_are_skipped_and_run_alone(given, stages):
    assert sequence(composed("experiment=full", *given)) == stages


def test_full_passes_through_every_stage(data, tmp_path):
    done = train("experiment=full", f"paths.data_dir={data}", *NARROW, "hydra.run.dir=out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    backbone = torch.load(out / "imagenet" / "backbone.pth", weights_only=True)
    saliency, matting = (load_network(out / name)[0].state_dict() for name in ("saliency", "matting"))
    assert backbone.keys() >= {"conv1.weight", "fc.weight"}
    assert not torch.equal(saliency["encoder.stem.0.weight"], backbone["conv1.weight"])  # it learnt
    torch.testing.assert_close(saliency["encoder.stem.0.weight"], backbone["conv1.weight"], rtol=0, atol=1.1e-4)
    torch.testing.assert_close(matting["encoder.stem.0.weight"], saliency["encoder.stem.0.weight"], rtol=0, atol=1.1e-6)
    assert load_network(out)[1]["backbone"] == {"kind": "r34_mp", "source": "backbone.pth"}
    assert [row.type for row in read_rows(out / "rows.csv")] == ["SO"]
    assert "Generalised trimap, IoU and accuracy: all 0." in (out / "tables.md").read_text()


def test_the_backbone_can_be_trained_alone(data, tmp_path):
    given = ["experiment=full", "stages=[imagenet]", f"paths.data_dir={data}", *NARROW, "hydra.run.dir=out"]
    done = train(*given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "there is no test" in done.stdout
    assert (tmp_path / "out" / "backbone.pth").is_file()


def test_everything_that_is_missing_is_named_at_once(data, tmp_path):
    shutil.copytree(data, tmp_path / "some")
    for name in ("DUTS", "Distinctions-646", "AIM-500"):
        shutil.rmtree(tmp_path / "some" / name)
    config = composed("experiment=full", f"paths.data_dir={tmp_path / 'some'}")
    with pytest.raises(AimmatError, match=r"^3 data sets cannot be used: \(1\).*prepare layout.*\(3\)") as error:
        read_data(config, sequence(config))
    for name in ("duts", "hatt", "aim500"):
        assert f"layout {name} " in str(error.value)
    assert "layout dim " not in str(error.value)


def test_the_folder_of_another_run_is_not_taken(tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").touch()
    code, said = train_here(["data=synthetic", "hydra.run.dir=out"], tmp_path, monkeypatch, capsys)
    assert code == 1
    assert "out holds a run already; go on with it by resume=" in said


# experiment=finetune


def test_fine_tuning_keeps_the_encoder_and_shows_what_it_started_from(trained, pictures, tmp_path):
    sizes = ["data.val.source.size=64", "data.test.source.size=64", "data.train.source.base.size=64"]
    sizes += ["data.train.crop_sizes=[64]", "data.train.input_size=64"]
    given = [
        "experiment=finetune",
        f"init={trained}",
        f"paths.data_dir={pictures}",
        *sizes,
        *NARROW,
        "hydra.run.dir=out",
    ]
    done = train(*given, "callbacks=default", "stage.matting.optimizer.lr=1e-3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    net, card = load_network(tmp_path / "out")
    first = load_network(trained)[0].state_dict()
    moved = {name for name, value in net.state_dict().items() if not torch.equal(value, first[name])}
    assert moved
    assert not any(name.startswith("encoder.") or "running_" in name for name in moved)
    assert (card["licence"], card["backbone"]["kind"]) == ("CC BY 4.0", "r34_mp")  # of what it was trained from
    assert len(read_rows(tmp_path / "out" / "before.csv")) == 1
    assert "| before |" in (tmp_path / "out" / "tables.md").read_text()


def test_fine_tuning_needs_weights():
    with pytest.raises(
        AimmatError, match=r"^init is needed here \(before=true\) and not given; name a run's folder.* init=RUN$"
    ):
        check(composed("experiment=finetune"))


def test_weights_of_another_network_say_what_to_set(trained, tmp_path, monkeypatch, capsys):
    given = ["data=synthetic", f"init={trained}", "model.width=0.25", "model.se=false"]
    code, said = train_here(given, tmp_path, monkeypatch, capsys)
    assert code == 1
    assert said.endswith("holds another network than this run's; add model.se=true model.width=0.0625\n")


# debug


def test_two_samples_are_learnt_by_heart(tmp_path):
    given = ["data=synthetic", "debug=overfit", "stage.matting.max_epochs=25", "logger=csv", "hydra.run.dir=out"]
    small = ["model.width=0.125", "data.train.input_size=64", "data.test.source.size=64", "trainer.accelerator=cpu"]
    small += ["inference.semantic_scale=1", "inference.matting_scale=1"]
    done = train(*given, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with open(next((tmp_path / "out").rglob("metrics.csv"))) as file:
        losses = [float(row["train/loss"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert len(losses) == 25
    assert losses[-1] < 0.75 * losses[0]  # one seed gave 0.5


def test_every_experiment_says_what_it_reproduces_what_to_expect_and_what_it_costs():
    for path in (config_dir() / "experiment").glob("*.yaml"):
        head = path.read_text().split("\ndefaults:")[0]
        assert head.startswith("# @package _global_\n"), path
        assert "Expected" in head, path
        assert "Cost" in head, path
        assert "python -m aimmat.train" in head, path


def test_a_schedule_follows_the_rate_of_its_stage():
    config = composed("+schedule@stage.matting.schedule=cosine", "stage.matting.optimizer.lr=0.5")
    assert OmegaConf.to_container(config, resolve=False)["stage"]["matting"]["schedule"]["max_lr"] == (
        "${..optimizer.lr}"
    )
    assert config.stage.matting.schedule.max_lr == 0.5


# precision


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["trainer.precision=16-mixed"], "16-mixed needs a GPU; on the CPU use bf16-mixed or 32-true"),
        (
            ["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1"],
            "does not go with a fused optimiser; set stage.saliency.optimizer.fused=false",
        ),
        (["+trainer.accumulate_grad_batches=2"], "worked out from data.batch_size.* set data.device_batch_size"),
    ],
)
def test_what_lightning_would_say_too_late_is_said_before(given, says):
    if "16-mixed" in given[0] and torch.cuda.is_available():
        pytest.skip("a GPU has it")
    with pytest.raises(AimmatError, match=says):
        check(composed(*given))


def test_mixed_precision_clipping_and_accumulation_train(tmp_path):
    given = ["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1", "data.device_batch_size=2"]
    given += [f"stage.{name}.optimizer.fused=false" for name in ("saliency", "matting")]
    small = [*helpers["SMALL"], "logger=csv", "hydra.run.dir=out", "constants=false"]
    done = train(*small, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 (devices) x 2 (at once) x 2 (accumulated) make a step" in done.stdout
    weights = load_network(tmp_path / "out")[0].state_dict().values()
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}
