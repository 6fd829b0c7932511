import json
import os
import pickle
import re
from zipfile import ZipFile

import pytest
import torch
from safetensors.torch import save_file

from aimmat.schema import AimmatError
from aimmat.weights.files import find, fit, read, write
from aimmat.weights.releases import RELEASES

WEIGHTS = {"first.weight": torch.arange(6.0).view(2, 3), "first.bias": torch.ones(2)}


@pytest.fixture
def at(tmp_path):
    return tmp_path / "a.pth"


def assert_read(path, card=None):
    found = read(path)
    assert found.card == card
    assert found.weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.weights[name], value) for name, value in WEIGHTS.items())


class Code:
    """What a pickle may hide: something that runs when it is read."""

    def __reduce__(self):
        return (os.mkdir, ("executed",))


@pytest.mark.parametrize("zipped", [True, False], ids=["today", "before-zip"])
@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS},
        {"epoch": 3, "state_dict": WEIGHTS, "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "lr": 1e-3}},
        {"model": WEIGHTS, "args": None},
        {f"module.{name}": value for name, value in WEIGHTS.items()},
        {f"_orig_mod.module.{name}": torch.nn.Parameter(value) for name, value in WEIGHTS.items()},
        WEIGHTS | {"epoch": 3},
    ],
    ids=["bare", "state_dict", "beside others", "model", "parallel", "compiled", "with a number"],
)
def test_tensors_are_found_in_every_wrapper(at, content, zipped):
    torch.save(content, at, _use_new_zipfile_serialization=zipped)
    assert_read(at)


def test_safetensors_are_read_with_and_without_a_card(tmp_path):
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert_read(tmp_path / "a.safetensors")
    save_file(WEIGHTS, tmp_path / "b.safetensors", {"aimmat": json.dumps({"model": {}})})
    assert_read(tmp_path / "b.safetensors", {"model": {}})


def test_safetensors_are_known_by_their_content_too(at):
    save_file(WEIGHTS, at, {"aimmat": '{"model": {}}'})
    assert_read(at, {"model": {}})


@pytest.mark.parametrize("name", ["aim.pth", "models/r34.pth.tar", "aim.pt"])
def test_an_archive_with_one_checkpoint_is_read_through(tmp_path, at, name):
    torch.save({"state_dict": WEIGHTS}, at)
    with ZipFile(tmp_path / "aim.zip", "w") as archive:
        archive.writestr("README.md", "weights")
        archive.writestr(f"__MACOSX/._{name}", "what a Mac adds")
        archive.write(at, name)
    assert_read(tmp_path / "aim.zip")


def save(at, content, **options):
    torch.save(content, at, **options)
    return at


def cut(at, share):
    at.write_bytes(at.read_bytes()[: int(at.stat().st_size * share)])


def archive(at, *names):
    with ZipFile(at, "w") as file:
        for name in names:
            file.writestr(name, "no checkpoint")


PICKLED = "it holds pickled Python objects (posix.mkdir), which are not executed"
PAGE = "it is a web page, saved in place of the file (Google Drive sends one"
NO_CHECKPOINT = "it is no checkpoint, neither safetensors nor what torch.save writes"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: save(at, {"state_dict": WEIGHTS, "code": Code()}), PICKLED),
        (lambda at: save(at, {"code": Code()}, _use_new_zipfile_serialization=False), PICKLED),
        (lambda at: save(at, torch.nn.Linear(2, 2)), "pickled Python objects (torch.nn.modules.linear.Linear), which"),
        (lambda at: at.write_bytes(b""), "the file is empty (0 bytes); copy or download it again"),
        (lambda at: at.write_text("<!DOCTYPE html><html><head><title>Google Drive - Virus scan"), PAGE),
        (lambda at: at.write_text("\n <html>\n<head>"), PAGE),
        (lambda at: at.write_bytes(b"\xef\xbb\xbf<HTML lang='en'>"), PAGE),
        (lambda at: at.write_text("import os"), NO_CHECKPOINT),
        (lambda at: cut(save(at, WEIGHTS), 0.5), "it is truncated, the end of the archive is missing"),
        (lambda at: cut(save(at, WEIGHTS, _use_new_zipfile_serialization=False), 0.02), "it is damaged or no"),
        (lambda at: cut(save(at, WEIGHTS, _use_new_zipfile_serialization=False), 0.4), "it is damaged or no"),
        (lambda at: cut(save(at, WEIGHTS, _use_new_zipfile_serialization=False), 0.97), "it is damaged or no"),
        (lambda at: at.write_bytes(pickle.dumps(WEIGHTS)), "it is damaged or no checkpoint (no pickle that torch.save"),
        (lambda at: archive(at, "cat.txt"), "one .pth, .pth.tar or .pt file, this one holds cat.txt; unpack it"),
        (lambda at: archive(at, *"abcdef"), "this one holds a, b, c, d, e, ...; unpack it"),
        (lambda at: archive(at, "a.pth", "b.pth"), "this one holds a.pth, b.pth; unpack it"),
        (lambda at: archive(at), "this one holds nothing; unpack it"),
        (lambda at: archive(at, "a.pth"), "it is damaged or no checkpoint (no pickle that torch.save writes)"),
        (lambda at: archive(at, "a/data.pkl"), "it is damaged or no checkpoint"),
        (lambda at: save(at, torch.ones(2)), "it holds no tensors by name but a Tensor"),
        (
            lambda at: save(at, {"epoch": 3, "state_dict": {}}),
            "it holds no tensors by name, there is epoch, state_dict",
        ),
        (lambda at: save(at, {}), "it holds no tensors by name, there is nothing"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_sentence(at, make, message, monkeypatch):
    monkeypatch.chdir(at.parent)
    make(at)
    with pytest.raises(AimmatError, match=re.escape(f"cannot load {at}: ") + ".*" + re.escape(message)) as caught:
        read(at)
    assert "\n" not in str(caught.value)
    assert os.listdir() == ["a.pth"]  # nothing was executed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"import os", "it is truncated or no safetensors file"),
        (b"<!doctype html>", PAGE),
        (b"", "the file is empty"),
    ],
)
def test_no_safetensors_are_named_too(tmp_path, content, message):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(AimmatError, match=re.escape(f"cannot load {path}: {message}")):
        read(path)


def test_truncated_safetensors_and_a_card_that_is_none_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    for card in ("[1]", "{", '"a"', '[["model", 1]]'):
        save_file(WEIGHTS, path, {"aimmat": card})
        with pytest.raises(AimmatError, match="its aimmat card is no JSON object"):
            read(path)
    save_file({}, path)
    with pytest.raises(AimmatError, match="it holds no tensors"):
        read(path)
    save_file(WEIGHTS, path)
    cut(path, 0.9)
    with pytest.raises(AimmatError, match="it is truncated or no safetensors file"):
        read(path)


def test_a_tensor_without_plain_values_counts_as_missing(at):
    hollow = {"second.weight": torch.ones(2, device="meta"), "third.weight": torch.ones(2).to_sparse()}
    torch.save(WEIGHTS | hollow, at)
    assert_read(at)


def test_a_file_that_may_not_be_read_is_named(tmp_path):
    with pytest.raises(AimmatError, match=re.escape(f"cannot read {tmp_path}: Is a directory")):
        read(tmp_path)


def test_a_path_comes_before_a_release_of_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("AIMMAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    kept = tmp_path / "cache" / RELEASES["aim-duts"].file
    write(kept, b"downloaded before")
    assert find("aim-duts") == (kept, RELEASES["aim-duts"])
    write(tmp_path / "aim-duts", b"my own")
    assert find("aim-duts")[0].read_bytes() == b"my own"
    assert find("aim-duts")[1] is None


def test_a_name_that_is_nothing_lists_the_releases(tmp_path):
    with pytest.raises(AimmatError, match=r"none: no such file or folder, nor a release; releases are aim-matting, "):
        find(tmp_path / "none")


def test_a_folder_without_checkpoints_says_what_lies_there(tmp_path):
    with pytest.raises(AimmatError, match="here lies nothing; give the path"):
        find(tmp_path)
    (tmp_path / "figures" / "gallery").mkdir(parents=True)
    with pytest.raises(AimmatError, match="here lies figures/; give the path"):
        find(tmp_path)
    for index in range(10):
        (tmp_path / f"{index}.jpg").touch()
    with pytest.raises(AimmatError, match=r"here lies 0\.jpg, .*7\.jpg and 3 more; give the path"):
        find(tmp_path)


def test_a_missing_counter_counts_as_zero_but_not_a_missing_layer(at):
    expected = torch.nn.BatchNorm2d(2).state_dict()
    found = {name: value for name, value in expected.items() if name != "num_batches_tracked"}
    expected, found = ({f"norm.{name}": value for name, value in some.items()} for some in (expected, found))
    assert fit(at, "it", expected, found)["norm.num_batches_tracked"] == 0
    with pytest.raises(
        AimmatError, match=r"do not fit it: 5 missing \(norm \(all 5\)\); 1 not in the network \(a\.b\)"
    ):
        fit(at, "it", expected, {"a.b": torch.ones(1)})


def test_many_faults_of_a_kind_are_counted_by_module(at):
    wanted = {"head.bias": torch.ones(3)} | {f"body.{index}.bias": torch.ones(3) for index in range(300)}
    found = {name: torch.ones(2) for name in wanted}
    with pytest.raises(AimmatError) as caught:
        fit(at, "it", wanted, found, [f"alias.{index} from body.{index}.bias" for index in range(300)])
    assert str(caught.value) == (
        f"the weights in {at} do not fit it: 301 of another shape (head.bias (2,) instead of (3,), "
        "body.0.bias (2,) instead of (3,) and 299 more in body); "
        "300 aliases that differ (alias.0 from body.0.bias and 299 more in alias)"
    )


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "a.pth"
    write(path, b"old")
    write(path, b"new")
    assert (path.read_bytes(), os.listdir(path.parent)) == (b"new", ["a.pth"])
    for taken in (path.parent, path / "below"):
        with pytest.raises(AimmatError, match=re.escape(f"cannot write {taken}: ")):
            write(taken, b"")
    assert (path.read_bytes(), os.listdir(path.parent), os.listdir(tmp_path)) == (b"new", ["a.pth"], ["new"])
