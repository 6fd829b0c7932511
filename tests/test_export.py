"""Exported files: that they say what the network says, at any size, and that one that does not is never left behind."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import aimmat
from aimmat import models
from aimmat.export import export
from aimmat.export.__main__ import main
from aimmat.export.formats import FORMATS
from aimmat.export.graphs import graph_of
from aimmat.functional import fuse
from aimmat.inference import Hybrid
from aimmat.models.layers import (
    Network,
    PyramidPooling,
    SpatialAttention,
    SqueezeExcite,
    conv_bn_relu,
    unpool,
    upsample,
)
from aimmat.schema import AimmatError, Prediction
from aimmat.weights import load_network, save_network

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Of alpha, on average: float32 differs by 1e-7 between runtimes, and a class or maximum that changes places moves one
# pixel in thousands.
CLOSE = 1e-4


class Small(Network):
    """Every block of AimNet once: its exports take seconds where AimNet's take half a minute."""

    stride = 4

    def __init__(self, *, protocol="paper"):
        super().__init__()
        self.protocol = protocol
        self.stem = conv_bn_relu(3, 8)
        self.context, self.excite, self.attention = PyramidPooling(8), SqueezeExcite(8), SpatialAttention()
        self.classes, self.details = torch.nn.Conv2d(8, 3, 3, padding=1), torch.nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, image):
        self.check(image)
        stem = self.stem(self.normalise(image))
        half, fine = F.max_pool2d(stem, 3, 2, 1, return_indices=True)
        quarter, coarse = F.max_pool2d(half, 3, 2, 1, return_indices=True)
        guide = upsample(self.excite(self.context(quarter)), 4)
        logits = 10 * self.classes(guide)
        x = unpool(quarter, coarse, tuple(half.shape[-2:]))
        x = unpool(x, fine, tuple(stem.shape[-2:]))
        x = torch.cat((x, stem), dim=1) * (1 + self.attention(guide))
        matting = self.details(x).sigmoid()
        return Prediction(logits, matting, fuse(logits, matting, True, self.protocol))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights of a small network, its exports, and one of AimNet's weights."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(models.NETWORKS, "small", Small)
        torch.manual_seed(0)
        inference = {"name": "hybrid", "matting_scale": 0.5}
        save_network(folder / "w.safetensors", Small(), {"model": {"name": "small"}, "inference": inference})
        release = {"model": {"name": "small", "protocol": "release"}, "inference": {"name": "hybrid"}}
        save_network(folder / "release.safetensors", Small(protocol="release"), release)
        aimnet = models.build("aimnet", width=0.0625)
        save_network(folder / "aimnet.safetensors", aimnet, {"model": {"name": "aimnet", "width": 0.0625}})
        weights = folder / "w.safetensors"
        export("onnx", weights, folder / "network.onnx")
        export("onnx", weights, folder / "hybrid.onnx", strategy="hybrid")
        export("onnx", weights, folder / "fixed.onnx", strategy="hybrid", size=(60, 90))
        export("torchscript", weights, folder / "network.pt")
        export("torchscript", weights, folder / "hybrid.pt", strategy="hybrid")
        yield folder


@pytest.fixture
def net(folder):
    return load_network(folder / "w.safetensors")[0]


def noise(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def assert_close(found, wanted):
    for name, theirs, ours in zip(("semantic", "matting", "alpha"), found, wanted, strict=True):
        if name == "semantic":
            theirs, ours = theirs.softmax(dim=1), ours.softmax(dim=1)
        assert theirs.shape == ours.shape
        assert (theirs - ours).abs().mean() < CLOSE


# what is computed


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize("shape", [(3, 3, 4, 4), (1, 3, 124, 36), (2, 3, 100, 212)])
@torch.inference_mode()
def test_the_network_is_the_same_at_sizes_and_batches_that_no_certificate_has(folder, net, suffix, shape):
    kind = {form.suffix: form for form in FORMATS.values()}[suffix]
    assert_close(kind.open(folder / f"network{suffix}")(noise(*shape)), net(noise(*shape))[:3])


@pytest.mark.parametrize("suffix", [".onnx", ".pt"])
@pytest.mark.parametrize("shape", [(3, 3, 5, 7), (1, 3, 31, 400), (2, 3, 203, 130), (1, 3, 8, 3300)])
@torch.inference_mode()
def test_the_hybrid_strategy_is_one_graph_for_pictures_of_any_size(folder, net, suffix, shape):
    kind = {form.suffix: form for form in FORMATS.values()}[suffix]
    wanted = Hybrid(matting_scale=0.5)(net, noise(*shape))
    assert_close(kind.open(folder / f"hybrid{suffix}")(noise(*shape)), wanted[:3])


@torch.inference_mode()
def test_torchscript_computes_the_same_bits(folder, net):
    found = FORMATS["torchscript"].open(folder / "network.pt")(noise(2, 3, 64, 96))
    assert all(torch.equal(*pair) for pair in zip(found, net(noise(2, 3, 64, 96))[:3], strict=True))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_bound_to_no_device(folder):
    graph = torch.jit.load(str(folder / "network.pt")).inlined_graph
    assert "Device" not in str(graph)  # a constant "cpu" would fail on a GPU


@torch.no_grad()
def test_unpooling_is_exported_with_its_winners():
    class Pools(torch.nn.Module):
        def forward(self, x):
            pooled, indices = F.max_pool2d(x, 3, 2, 1, return_indices=True)
            return unpool(pooled * torch.arange(1.0, 1 + pooled.shape[-1]), indices, (2 * pooled.shape[-2], 12))

    x = noise(2, 3, 8, 12)
    program = torch.export.export(Pools(), (x,), strict=False)
    assert "scatter" in str(program.graph)
    assert torch.equal(program.module()(x), Pools()(x))


@pytest.mark.parametrize("name", ["torchscript", pytest.param("onnx", marks=pytest.mark.slow)])
def test_aimnet_is_exported(folder, tmp_path, name):
    path = tmp_path / f"x{FORMATS[name].suffix}"
    certificate = export(name, folder / "aimnet.safetensors", path)  # which fails above the tolerance
    assert len(certificate["compared"]) == 6


@torch.inference_mode()
def test_the_release_is_exported_for_one_size(folder, tmp_path):
    path = tmp_path / "x.pt"
    export("torchscript", folder / "release.safetensors", path, strategy="hybrid", size=(50, 70))
    net, _ = load_network(folder / "release.safetensors")
    wanted = Hybrid(protocol="release")(net, noise(2, 3, 50, 70))
    assert_close(FORMATS["torchscript"].open(path)(noise(2, 3, 50, 70)), wanted[:3])


@torch.inference_mode()
def test_openvino_runs_the_hybrid_strategy_and_tells_nobody(folder, tmp_path, monkeypatch, net):
    pytest.importorskip("openvino")
    told = []
    monkeypatch.setattr("openvino_telemetry.Telemetry.send_event", lambda *event: told.append(event))
    export("openvino", folder / "w.safetensors", tmp_path / "x.xml", strategy="hybrid")
    assert sorted(os.listdir(tmp_path)) == ["x.bin", "x.xml", "x.xml.json"]
    wanted = Hybrid(matting_scale=0.5)(net, noise(3, 3, 203, 88))
    assert_close(FORMATS["openvino"].open(tmp_path / "x.xml")(noise(3, 3, 203, 88)), wanted[:3])
    assert not told


# what the file says of itself


def test_dimensions_have_names_and_the_card_travels(folder):
    import onnx

    file = onnx.load(folder / "network.onnx")
    dimensions = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    sides = ["height", "width"]
    assert dimensions == {
        "image": ["batch", 3, *sides],
        "semantic": ["batch", 3, *sides],
        "matting": ["batch", 1, *sides],
        "alpha": ["batch", 1, *sides],
    }
    card = json.loads({entry.key: entry.value for entry in file.metadata_props}["aimmat"])
    assert card["model"] == {"name": "small"}
    assert card["export"]["strategy"] == "network"
    assert card["normalisation"]["mean"] == [0.485, 0.456, 0.406]


def test_a_certificate_has_three_sizes_two_batches_and_sample_pictures(folder):
    certificate = json.loads((folder / "network.onnx.json").read_text())
    sizes = {(entry["batch"], *entry["size"]) for entry in certificate["compared"]}
    assert len(sizes) == 6
    assert {batch for batch, *_ in sizes} == {1, 2}
    assert {"largest", "mean", "pixels"} == set(certificate["compared"][0]["alpha"])
    assert set(certificate["samples"]) == {"SO", "STM", "NS"}
    assert {"aimmat", "torch", "onnx", "onnxruntime"} <= set(certificate["versions"])
    assert all(sample["sad_torch"] > 0 for sample in certificate["samples"].values())


# what load makes of it


def test_load_gives_the_network_back_with_its_parts_and_its_strategy(folder, net):
    picture = (noise(90, 70, 3).numpy() * 255).astype(np.uint8)
    ours, theirs = (aimmat.load(folder / name, "cpu") for name in ("w.safetensors", "network.onnx"))
    assert theirs.strategy == ours.strategy == Hybrid(matting_scale=0.5)
    assert np.abs(ours(picture) - theirs(picture)).mean() < CLOSE
    assert np.abs(ours.cutout(picture).astype(int) - theirs.cutout(picture)).mean() < 255 * CLOSE


def test_load_shows_a_hybrid_file_the_picture_as_it_is(folder):
    picture = noise(1, 3, 90, 71)
    ours, theirs = (aimmat.load(folder / name, "cpu") for name in ("w.safetensors", "hybrid.onnx"))
    assert np.abs(ours(picture) - theirs(picture)).mean() < CLOSE


def test_load_brings_pictures_to_the_only_size_of_a_file_and_back(folder):
    ours, theirs = (aimmat.load(folder / name, "cpu") for name in ("w.safetensors", "fixed.onnx"))
    assert np.abs(ours(noise(1, 3, 60, 90)) - theirs(noise(1, 3, 60, 90))).mean() < CLOSE
    assert theirs(noise(1, 3, 31, 47)).shape == (31, 47)


def test_load_takes_anybodys_file(folder, tmp_path):
    import onnx

    file = onnx.load(folder / "network.onnx")
    del file.metadata_props[:]
    onnx.save(file, tmp_path / "x.onnx")
    predictor = aimmat.load(tmp_path / "x.onnx", "cpu", output="alpha", mean=[0, 0, 0], std=[1, 1, 1], stride=4)
    assert predictor(noise(1, 3, 30, 41)).shape == (30, 41)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protocol": "release"}, "computes what protocol=paper says; export it again with --protocol release"),
        ({"stride": 8}, "says its own switches; leave out stride"),
    ],
)
def test_what_a_file_has_settled_cannot_be_changed(folder, options, sentence):
    with pytest.raises(AimmatError, match=sentence):
        aimmat.load(folder / "network.onnx", **options)


def test_an_exported_file_is_not_taken_for_one_that_wants_normalised_pictures(folder):
    with pytest.raises(AimmatError, match="normalises its input itself"):
        models.build("onnx", path=str(folder / "network.onnx"))


def test_a_damaged_file_or_card_ends_in_one_sentence(folder, tmp_path):
    import onnx

    (tmp_path / "no.onnx").write_text("no ONNX")
    with pytest.raises(AimmatError, match="it is no ONNX file"):
        aimmat.load(tmp_path / "no.onnx")
    file = onnx.load(folder / "network.onnx")
    file.metadata_props[0].value = '{"export": {}}'
    onnx.save(file, tmp_path / "card.onnx")
    with pytest.raises(AimmatError, match="its aimmat card is damaged"):
        aimmat.load(tmp_path / "card.onnx")


# what is refused, and that nothing is left


def broken(tamper):
    """An exporter to TorchScript with a fault."""
    form = FORMATS["torchscript"]
    return form._replace(write=lambda graph, path, card: form.write(tamper(graph), path, card))


def test_a_wrong_normalisation_fails_and_leaves_what_was_there(folder, tmp_path, monkeypatch, net):
    net.mean *= 1.05  # a twentieth beside the truth
    monkeypatch.setitem(FORMATS, "torchscript", broken(lambda graph: graph_of(net)))
    (tmp_path / "x.pt").write_text("before")
    with pytest.raises(AimmatError, match=r"differs by .* tolerated is .* no file was written"):
        export("torchscript", folder / "w.safetensors", tmp_path / "x.pt", overwrite=True)
    assert os.listdir(tmp_path) == ["x.pt"]
    assert (tmp_path / "x.pt").read_text() == "before"


def test_a_size_that_was_frozen_fails(folder, tmp_path, monkeypatch):
    class Frozen(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, image):
            return tuple(maps[:, :, :260, :290] for maps in self.module(image))

    def freeze(graph):
        return type(graph)(Frozen(graph.module), graph.names, graph.channels, graph.multiple, graph.size)

    monkeypatch.setitem(FORMATS, "torchscript", broken(freeze))
    with pytest.raises(AimmatError, match=r"the exported file gives .* instead of"):
        export("torchscript", folder / "w.safetensors", tmp_path / "x.pt", strategy="hybrid", size=(300, 300))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), 1, "error: cannot write {}: No space left on device\n"),
        (KeyboardInterrupt(), 130, "stopped\n"),
    ],
)
def test_a_full_disk_and_ctrl_c_leave_nothing(folder, tmp_path, monkeypatch, capsys, error, code, sentence):
    def write(graph, path, card):
        path.write_text("half")
        raise error

    monkeypatch.setitem(FORMATS, "torchscript", FORMATS["torchscript"]._replace(write=write))
    path = tmp_path / "x y'é.pt"
    assert main(["torchscript", str(folder / "w.safetensors"), "-o", str(path)]) == code
    assert capsys.readouterr().err == sentence.format(path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("onnx w.safetensors -o x.pt", "a file for onnx ends in .onnx, got"),
        ("onnx w.safetensors -o network.onnx", "exists; --overwrite replaces it"),
        ("onnx nothing -o x.onnx", "no such file or folder, nor a release"),
        ("onnx network.onnx -o x.onnx", "is itself an exported file; give the weights that it was made from"),
        ("onnx w.safetensors -o x.onnx --size 64", "--size is HEIGHTxWIDTH in pixels, such as 512x768, or dynamic"),
        ("onnx w.safetensors -o x.onnx --size 62x64", "the sides of the network's image are multiples of 4, got 62x64"),
        ("onnx release.safetensors -o x.onnx --strategy hybrid", "give --size HxW, or --protocol paper for any size"),
        ("onnx w.safetensors -o w.safetensors/x.onnx", "cannot write"),
    ],
)
def test_a_wrong_argument_ends_in_one_sentence_and_code_1(folder, capsys, arguments, sentence):
    before = sorted(os.listdir(folder))
    given = [
        word if word.startswith(("-", "6")) or k == 0 or word in ("hybrid", "nothing") else str(folder / word)
        for k, word in enumerate(arguments.split())
    ]
    assert main(given) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(os.listdir(folder)) == before


def test_what_torch_cannot_follow_ends_in_one_sentence(folder, tmp_path, monkeypatch):
    class Choosy(Small):
        def forward(self, image):
            return super().forward(image.flip(-1) if image.mean() > 0.5 else image)

    monkeypatch.setitem(models.NETWORKS, "small", Choosy)
    with pytest.raises(AimmatError, match=r"torch cannot follow its computation .*; export to torchscript, or give"):
        export("onnx", folder / "w.safetensors", tmp_path / "x.onnx")
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_named_with_its_extra(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("aimmat.export.find_spec", lambda name: None if name == "onnxscript" else True)
    with pytest.raises(AimmatError, match=r"needs onnxscript; install by pip install 'aimmat\[export\]'"):
        export("onnx", folder / "w.safetensors", tmp_path / "x.onnx")


def test_a_network_of_one_part_has_no_hybrid_strategy():
    class One(Small):
        def forward(self, image):
            return Prediction(None, None, super().forward(image).alpha)

    assert graph_of(One()).names == ("alpha",)
    with pytest.raises(AimmatError, match="takes a network with two decoders"):
        graph_of(One(), Hybrid())


def test_exporting_needs_no_training_framework(folder, tmp_path):
    code = (
        "import sys\nfrom aimmat.export.__main__ import main\n"
        f"assert main(['torchscript', {str(folder / 'aimnet.safetensors')!r}, '-o', {str(tmp_path / 'x.pt')!r}]) == 0\n"
        "print([m for m in ('lightning', 'hydra', 'omegaconf', 'wandb', 'torchmetrics') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[-1] == "[]"
    assert lines[0].startswith(f"{tmp_path / 'x.pt'}: alpha differs by 0.0e+00 at most")
    assert run.stderr == ""
