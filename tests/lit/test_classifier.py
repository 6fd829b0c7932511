"""An encoder learns classes, and a matting network starts from it."""

from functools import partial
from pathlib import Path
from runpy import run_path

import lightning
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aimmat import models
from aimmat.data import read_dataset
from aimmat.data.classes import ClassDataset
from aimmat.lit import ClassesDataModule, ClassifierModule
from aimmat.lit.classifier import Classifier, staircase
from aimmat.models import count_macs
from aimmat.schema import AimmatError
from aimmat.train import config_dir
from aimmat.weights import load_backbone

TESTS = Path(__file__).parents[1]
MAKE_TREE = run_path(str(TESTS / "data" / "trees.py"))["make_tree"]
LAYOUT = run_path(str(TESTS / "oracles" / "aim_layout.py"))
MODEL = {"name": "aimnet", "width": 1 / 16}

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec"),
]


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    return read_dataset("imagenet", MAKE_TREE("imagenet", tmp_path_factory.mktemp("sets"), {"train": 5, "val": 4}))


def data(entries, **options):
    crops = (ClassDataset(entries, split, size=32, augment=split == "train") for split in ("train", "val"))
    return ClassesDataModule(*crops, **{"batch_size": 3} | options)


def module(model=MODEL, lr=0.01, prefix="imagenet/"):
    torch.manual_seed(0)
    optimizer = partial(torch.optim.SGD, lr=lr, momentum=0.9)
    return ClassifierModule(model=model, optimizer=optimizer, schedule=staircase, prefix=prefix)


def trainer(**options):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    quiet |= {"enable_checkpointing": False, "use_distributed_sampler": False, "log_every_n_steps": 1}
    return lightning.Trainer(**quiet | options)


def trained(entries, model=MODEL, **options):
    net = module(model)
    training = trainer(**{"max_steps": 2} | options)
    training.fit(net, data(entries))
    return net, training


@pytest.mark.parametrize(("mp", "kind"), [(True, "r34_mp"), (False, "resnet34")])
def test_what_was_learnt_goes_into_a_matting_network_bit_for_bit(entries, tmp_path, mp, kind):
    net, training = trained(entries, MODEL | {"mp": mp})
    assert training.global_step == 2
    net.save(tmp_path / "imagenet" / "backbone.pth")
    assert net.kind == kind
    matting = models.build(**MODEL, mp=mp)
    head = matting.semantic.head.weight.clone()
    load_backbone(matting, tmp_path / "imagenet" / "backbone.pth", net.kind)
    first, then = net.net.encoder.state_dict(), matting.encoder.state_dict()
    assert list(first) == list(then)
    for name, value in first.items():
        assert torch.equal(value, then[name]), name
    assert then["stem.1.num_batches_tracked"] == 2
    assert then["stem.1.running_var"].ne(1).any()  # the running statistics were learnt too
    assert torch.equal(matting.semantic.head.weight, head)


def test_the_file_is_the_bare_resnet_34_of_the_release(tmp_path):
    net = module(MODEL | {"width": 1})
    net.net.to(memory_format=torch.channels_last)
    net.save(tmp_path / "backbone.pth")
    found = torch.load(tmp_path / "backbone.pth", weights_only=True)
    assert {name: tuple(value.shape) for name, value in found.items()} == LAYOUT["resnet_shapes"]()
    assert list(found) == list(LAYOUT["resnet_shapes"]())
    assert all(value.is_contiguous() for value in found.values())


def test_nothing_of_the_decoders_is_trained():
    # 21,797,672 parameters are published for ResNet-34 with its classifier
    with torch.device("meta"):
        assert models.count_parameters(module(MODEL | {"width": 1}).net) == 21_797_672


def test_the_encoder_sees_what_the_matting_network_shows_it(entries):
    net, matting = module().net.eval(), models.build(**MODEL).eval()
    net.encoder.load_state_dict(matting.encoder.state_dict())
    seen = []
    for encoder in (net.encoder, matting.encoder):
        encoder.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output.maps[-1])))
    batch = data(entries).on_after_batch_transfer(next(iter(data(entries).train_dataloader())), 0)
    with torch.no_grad():
        logits = net(batch["image"])
        matting(batch["image"])
        expected = torch.stack([net.fc(torch.stack([c.mean() for c in maps])) for maps in seen[0][1]])
    assert 0.9 < batch["image"].max() <= 1
    assert torch.equal(seen[0][0], seen[1][0])
    assert logits.shape == (3, 1000)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)  # means that are summed in another order


def test_accumulated_batches_learn_what_one_of_their_size_does(entries):
    def weights(device_batch_size, accumulate):
        pictures, net = data(entries, batch_size=4, device_batch_size=device_batch_size), module(lr=1e-3)
        assert pictures.shared_out(1) == (device_batch_size, accumulate)
        for norm in net.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.momentum = 1.0
        net.net(torch.stack([sample["image"] for sample in pictures.val]).float() / 255)
        net.on_train_start = net.eval  # with these statistics: batches of other sizes have others
        training = trainer(max_epochs=1, limit_val_batches=0, accumulate_grad_batches=accumulate)
        training.fit(net, pictures)
        assert training.global_step == 2  # of 4 pictures and 1
        return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])

    whole, parts, before = (
        weights(4, 1),
        weights(2, 2),
        torch.cat([p.detach().flatten() for p in module().parameters()]),
    )
    # measured: 3e-7 of what the two steps changed, sums in another order; 0.5 when batches count alike
    assert (whole - parts).norm() < 1e-5 * (whole - before).norm()


def test_pictures_are_learnt_by_heart(entries):
    net = module(lr=0.1)
    crops = ClassDataset(entries, size=32)
    training = trainer(max_epochs=30, limit_val_batches=0)
    training.fit(net, ClassesDataModule(crops, None, batch_size=5))
    # measured: 6.9 = ln 1000 at first, 0.0 after the last; a network that only leaves out the other classes has 0.69
    assert training.callback_metrics["imagenet/train/loss"] < 0.3


def test_validation_counts_the_first_and_the_first_five(entries):
    net, pictures = module(prefix=""), data(entries)

    class Said(torch.nn.Module):
        """Ranks class 0 fourth and class 1 last but one."""

        def forward(self, image):
            logits = torch.zeros(len(image), 1000)
            logits[:, 10:13], logits[:, 0], logits[:, 1] = 9, 5, -1
            return logits

    net.net = Said()
    validating = trainer()
    (logged,) = validating.validate(net, pictures, verbose=False)
    assert logged == {"val/top1": 0, "val/top5": 0.5}  # two of the four pictures are of class 0
    net.net.forward = lambda image: torch.eye(1000)[torch.zeros(len(image), dtype=torch.long)]
    assert trainer().validate(net, pictures, verbose=False)[0]["val/top1"] == 0.5


def test_the_names_that_are_logged_have_the_stages_prefix(entries):
    _, training = trained(entries, max_steps=-1, max_epochs=1)
    names = ("train/cross_entropy", "train/loss", "val/top1", "val/top5")
    assert set(training.callback_metrics) == {f"imagenet/{name}" for name in names}


def test_an_epoch_shows_every_picture_once(entries):
    pictures = data(entries)
    assert [len(batch["label"]) for batch in pictures.train_dataloader()] == [3, 2]
    assert [len(batch["label"]) for batch in pictures.val_dataloader()] == [3, 1]
    names = [name for batch in pictures.train_dataloader() for name in batch["name"]]
    assert sorted(names) == sorted(entry.stem for entry in entries if entry.split == "train")
    assert ClassesDataModule(pictures.train, None).val_dataloader() == []


def test_the_rate_falls_after_each_third(entries):
    # the published run: 5,005 steps an epoch, so thirds are 30 epochs
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = staircase(optimizer, total_steps=7)
    rates = []
    for _ in range(7):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.1] * 3 + [0.01] * 3 + [0.001])
    assert staircase(optimizer, total_steps=450_450).step_size == 30 * 5005


def test_splits_of_other_classes_are_refused(entries):
    with pytest.raises(AimmatError, match=r"only one of train and val has a class folder n01443537; both must have"):
        data([entry for entry in entries if entry.split == "train" or entry.path.parent.name == "n01440764"])


def test_more_classes_than_the_classifier_are_refused(entries):
    crops = ClassDataset(entries)
    crops.classes = tuple(map(str, range(1001)))
    with pytest.raises(
        AimmatError, match="train has 1,001 class folders, but the classifier tells 1,000 classes apart"
    ):
        ClassesDataModule(crops, None)


def test_a_picture_that_cannot_be_read_stops_or_is_skipped(tmp_path, capsys):
    entries = read_dataset("imagenet", MAKE_TREE("imagenet", tmp_path, {"train": 5, "val": 2}))
    broken = entries[0].path
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(AimmatError, match=f"cannot read {broken}"):
        trainer(max_epochs=1).fit(module(), data(entries))
    skipping = data(entries, on_error="skip")
    trainer(max_epochs=1).fit(module(), skipping)
    assert f"skipped: cannot read {broken}" in capsys.readouterr().err


def test_the_stage_of_the_config_trains_on_class_folders(tmp_path):
    MAKE_TREE("imagenet", tmp_path, {"train": 2, "val": 2})
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        overrides = [f"paths.data_dir={tmp_path}", "model.width=0.0625"]
        config = compose("train", overrides)
    stage, model = config.stage.imagenet, OmegaConf.to_container(config.model, resolve=True)
    pictures = instantiate(stage.data, num_workers=0, train={"size": 32}, val={"size": 32})
    net = instantiate(stage.module)(
        model=model, optimizer=instantiate(stage.optimizer), schedule=instantiate(stage.schedule), prefix="imagenet/"
    )
    training = trainer(max_epochs=stage.max_epochs, limit_train_batches=1, limit_val_batches=1, max_steps=1)
    training.fit(net, pictures)
    assert (pictures.batch_size, pictures.train.augment, pictures.val.augment) == (256, True, False)
    group = training.optimizers[0].param_groups[0]
    assert (group["initial_lr"], group["momentum"], group["weight_decay"]) == (0.1, 0.9, 1e-4)
    assert group["lr"] == pytest.approx(0.01)  # the only step was the first third
    assert training.callback_metrics["imagenet/val/top5"] >= 0


@pytest.mark.parametrize(("mp", "giga"), [(True, 4.02), (False, 3.66)])
def test_a_picture_costs_what_the_config_says(mp, giga):
    net = Classifier({"name": "aimnet", "mp": mp})
    net.input_channels = 3
    assert round(count_macs(net, 224) / 1e9, 2) == giga
    assert f"{giga:.1f} G" in (config_dir() / "stage" / "imagenet.yaml").read_text()
