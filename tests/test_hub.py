"""The Hugging Face Hub, from a server on this machine: what is pushed and loaded, what is said without a network."""

import hashlib
import http.server
import sys
import threading

import pytest
import torch
import yaml

import aimmat
from aimmat.hub import main
from aimmat.models import build
from aimmat.schema import AimmatError, Category, ImageType, Row
from aimmat.tables import write_rows
from aimmat.weights import load_network, save_network
from aimmat.weights.hub import FILE

# Not among the extras for development: where it is installed, notebooks warn of a widget that they lack.
huggingface_hub = pytest.importorskip("huggingface_hub")

MODEL = {"name": "aimnet", "width": 0.0625}


@pytest.fixture
def run(tmp_path):
    """A run's folder, whose card names folders of this machine."""
    torch.manual_seed(0)
    recipe = {"data": "sample", "seed": 3, "init": "/home/me/secret", "stages": {"matting": {"epochs": 1}}}
    card = {"model": MODEL, "licence": "CC-BY-4.0", "recipe": recipe, "run": "mine", "source": "/home/me/secret/x.pth"}
    save_network(tmp_path / "run" / FILE, build(**MODEL), card)
    scores = {"sad": 1.5, "mse": 0.25, "mad": 0.5, "grad": 1.0, "conn": 1.0}
    write_rows(tmp_path / "run" / "rows.csv", [Row("one", ImageType.SO, Category.TOY, scores)])
    return tmp_path / "run"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A Hub on this machine: files by their address, as the package asks for them."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def answer(self, body):
            content = files.get(self.path)
            if content is None:
                self.send_response(404)
                missing = "EntryNotFound" if "/org/empty/" in self.path else "RepoNotFound"
                self.send_header("X-Error-Code", missing)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def do_HEAD(self):
            self.answer(False)

        def do_GET(self):
            self.answer(True)

        def log_message(self, *_): ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield files
    server.shutdown()
    server.server_close()


def test_what_would_be_pushed_loads_and_names_nothing_of_ones_own(run, tmp_path, capsys):
    assert main(["push", str(run), "org/name", "--folder", str(tmp_path / "out")]) == 0
    assert "holds what would be pushed as org/name" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", FILE]
    net, card = load_network(tmp_path / "out")
    assert torch.equal(
        net.state_dict()["encoder.stem.0.weight"], load_network(run)[0].state_dict()["encoder.stem.0.weight"]
    )
    page = (tmp_path / "out" / "README.md").read_text()
    assert "secret" not in page + str(card)
    assert str(tmp_path) not in page + str(card)
    _, head, text = page.split("---\n", 2)
    head = yaml.safe_load(head)
    assert (head["license"], head["library_name"], head["pipeline_tag"]) == (
        "cc-by-4.0",
        "aimmat",
        "image-segmentation",
    )
    assert 'aimmat.load("org/name")' in text
    assert "| aimnet |" in text
    assert "1.50" in text  # SAD of the only picture
    assert '"seed": 3' in text
    assert main(["push", str(run), "org/name", "--folder", str(tmp_path / "out")]) == 1
    assert "exists; name a new folder" in capsys.readouterr().err


def test_a_network_of_the_hub_is_loaded_and_kept(run, site, tmp_path, monkeypatch):
    site[f"/org/name/resolve/main/{FILE}"] = (run / FILE).read_bytes()
    net = aimmat.load("org/name", "cpu").net
    expected = load_network(run)[0].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in net.state_dict().items())
    site.clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers: the cache does
    assert aimmat.load("hf:org/name", "cpu").net is not None
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between its tries
    with pytest.raises(AimmatError, match="it cannot be reached and its cache has no copy; check the network"):
        aimmat.load("org/other", "cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [("org/empty", f"it holds no {FILE}, so it is no network of aimmat"), ("org/none", "there is no such repository")],
)
def test_what_is_not_there_is_said(site, name, message):
    with pytest.raises(
        AimmatError, match=rf"cannot load {name}: no such file or folder, .*; and cannot get .*{message}"
    ):
        aimmat.load(name, "cpu")


def test_a_folder_of_that_name_comes_first(run, site, monkeypatch):
    monkeypatch.chdir(run.parent)
    (run.parent / "org").mkdir()
    run.rename(run.parent / "org" / "name")
    assert aimmat.load("org/name", "cpu").net is not None  # the Hub has nothing


def test_a_push_makes_the_repository_and_uploads_both_files(run, monkeypatch, capsys):
    calls = []

    class Api:
        def __init__(self, **_): ...

        def create_repo(self, name, private, exist_ok):
            calls.append((name, private, exist_ok))

        def upload_folder(self, repo_id, folder_path, commit_message):
            from pathlib import Path

            calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert main(["push", str(run), "org/name", "--private"]) == 0
    assert calls == [("org/name", True, True), ("org/name", ["README.md", FILE])]
    assert 'aimmat.load("org/name") loads it' in capsys.readouterr().out


def test_what_cannot_be_pushed_gets_one_sentence(run, tmp_path, monkeypatch, capsys):
    save_network(tmp_path / "bare.safetensors", build(**MODEL), {"model": MODEL})
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for arguments, message in (
        (["push", str(run), "name"], "a repository of the Hub is called ORG/NAME, got 'name'"),
        (["push", str(tmp_path / "bare.safetensors"), "org/name", "--folder", str(tmp_path / "o")], "have no licence"),
        (["push", str(run), "org/name"], "install it by pip install 'aimmat[hub]'"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_command_without_training_needs_no_training_framework():
    import subprocess

    code = "import sys, aimmat.hub; print([m for m in ('lightning', 'hydra', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
