"""Pictures read from URLs and archives, fetched once."""

import io
import os
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from aimmat import remote
from aimmat.data import CutoutScenes, read_manifest, write_manifest
from aimmat.images import read_cutout, read_image
from aimmat.schema import AimmatError


def encoded(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def png(colour=(200, 10, 20), size=(6, 4)):
    return encoded(Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour))


class Site(ThreadingHTTPServer):
    """Serves `files`; what is in `wrong` goes wrong as named there."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.wrong, self.asked = {}, {}, []
        self.address = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.partition("?")[0]
        self.server.asked.append(name)
        content, wrong = self.server.files.get(name), self.server.wrong.get(name)
        if content is None or wrong == "forbidden":
            self.send_error(404 if content is None else 403)
            return
        if wrong == "slow":
            time.sleep(0.2)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if wrong == "truncated" else content)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site():
    server = Site()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(remote.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache):
    return [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]


def archive(path, members):
    """A tar or zip with these members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, content in members.items():
                file.writestr(name, content)
    else:
        with tarfile.open(path, "w") as file:
            for name, content in members.items():
                found = tarfile.TarInfo(name)
                found.size = len(content)
                file.addfile(found, io.BytesIO(content))
    return path


def test_a_picture_is_fetched_once_and_then_read_from_the_cache(site, cache):
    site.files["/a/cat.png"] = png()
    url = f"{site.address}/a/cat.png"
    assert (read_image(url) == (200, 10, 20)).all()
    site.files.clear()
    assert read_image(url).shape == (4, 6, 3)
    assert site.asked == ["/a/cat.png"]
    (path,) = kept(cache)
    assert path == remote.local(url)
    assert path.name.endswith("-cat.png")


def test_files_and_memory_are_urls_too(tmp_path, cache):
    (tmp_path / "sea.png").write_bytes(png())
    assert read_image(f"file://{tmp_path}/sea.png").shape == (4, 6, 3)
    assert kept(cache) == []  # it lies here already
    with fsspec.open(f"memory://{tmp_path.name}/sky.png", "wb") as file:
        file.write(png((1, 2, 3, 4)))
    colour, alpha = read_cutout(f"memory://{tmp_path.name}/sky.png")
    assert (colour == (1, 2, 3)).all()
    assert (alpha == 4).all()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_of_an_archive_are_read_in_place(site, tmp_path, cache, kind):
    members = {f"part/{i}.png": png((i, 0, 0), (3 + i, 4)) for i in range(5)}
    path = archive(tmp_path / f"shard.{kind}", members)
    site.files[f"/shard.{kind}"] = path.read_bytes()
    for where in (path, f"file://{path}", f"{site.address}/shard.{kind}"):
        for i in (3, 0, 4):
            assert (read_image(f"{kind}://part/{i}.png::{where}") == (i, 0, 0)).all()
    assert site.asked == [f"/shard.{kind}"]
    assert len(kept(cache)) == 1


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_that_changes_is_read_anew(tmp_path, kind):
    path = archive(tmp_path / f"shard.{kind}", {"a.png": png((1, 1, 1))})
    assert (read_image(f"{kind}://a.png::{path}") == 1).all()
    archive(path, {"first.png": png(), "a.png": png((2, 2, 2))})
    os.utime(path, ns=(0, 0))  # two writes can fall into one tick of the clock
    assert (read_image(f"{kind}://a.png::{path}") == 2).all()


class Remote(Dataset):
    """The first value of each picture."""

    def __init__(self, urls):
        self.urls = urls

    def __len__(self):
        return len(self.urls)

    def __getitem__(self, index):
        return int(read_image(self.urls[index])[0, 0, 0])


def values(pictures, workers):
    return [
        int(value)
        for batch in DataLoader(pictures, 3, num_workers=workers, timeout=60 * bool(workers))
        for value in batch
    ]


def test_workers_fetch_though_their_parent_has_fetched(site):
    # a fork leaves behind the thread in which fsspec talks to servers
    site.files |= {f"/{i}.png": png((i, 0, 0)) for i in range(8)}
    pictures = Remote([f"{site.address}/{i}.png" for i in range(8)])
    assert pictures[0] == 0
    assert values(pictures, workers=2) == list(range(8))
    assert sorted(site.asked) == sorted(site.files)  # each once


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_workers_read_an_archive_that_their_parent_has_open(tmp_path, kind):
    # a fork shares the place in an open file: two that read in turns would get each other's bytes
    noise = np.random.default_rng(0).integers(0, 256, (150, 150, 3), np.uint8)
    members = {f"{i}.png": encoded(Image.fromarray(noise.clip(i, None))) for i in range(60)}
    path = archive(tmp_path / f"shard.{kind}", members)
    pictures = Remote([f"{kind}://{name}::{path}" for name in members])
    assert values(pictures, workers=2) == values(pictures, workers=0) == values(pictures, workers=2)


def test_who_asks_at_the_same_time_waits_for_the_first(site):
    site.files["/cat.png"], site.wrong["/cat.png"] = png(), "slow"
    url, found = f"{site.address}/cat.png", []
    threads = [threading.Thread(target=lambda: found.append(read_image(url).shape)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(4, 6, 3)] * 3
    assert site.asked == ["/cat.png"]


def test_what_a_download_leaves_is_whole_or_nothing(site, cache):
    site.files["/cat.png"] = png(size=(60, 60))
    site.wrong["/cat.png"] = "truncated"
    url = f"{site.address}/cat.png"
    with pytest.raises(AimmatError, match="broke off"):
        read_image(url)
    assert kept(cache) == []
    site.wrong.clear()
    assert read_image(url).shape == (60, 60, 3)


class Short(MemoryFileSystem):
    """Loses the second half of a file without a word."""

    protocol = "short"

    def get_file(self, rpath, lpath, callback=None, **options):
        callback.set_size(len(png()))
        with open(lpath, "wb") as file:
            file.write(png()[: len(png()) // 2])


def test_a_file_shorter_than_announced_is_not_kept(cache):
    fsspec.register_implementation("short", Short, clobber=True)
    with pytest.raises(AimmatError, match=f"the download broke off at {len(png()) // 2} of {len(png())} bytes"):
        read_image("short://cat.png")
    assert kept(cache) == []


def test_what_goes_wrong_is_one_sentence(site, tmp_path):
    site.files |= {"/secret.png": png(), "/page.png": b"\n<!DOCTYPE html><p>Sign in", "/x.png": b"no picture"}
    site.wrong["/secret.png"] = "forbidden"
    tar, cut = archive(tmp_path / "a.tar", {"a.png": png()}), archive(tmp_path / "cut.tar", {"a.png": png()})
    cut.write_bytes(cut.read_bytes()[:600])
    packed = tmp_path / "b.zip"
    packed.write_bytes(archive(tmp_path / "c.zip", {"a.png": png()}).read_bytes()[:40])
    with tarfile.open(tmp_path / "gz.tar", "w:gz") as file:
        file.add(tar, "a.tar")
    closed = Site()  # takes no requests: its port is closed again at once
    closed.server_close()
    for url, says in {
        f"{site.address}/nowhere.png": "cannot fetch .*/nowhere.png: there is no such file",
        f"{site.address}/secret.png": "refuses with 403",
        f"{site.address}/page.png": "a web page came instead",
        f"{site.address}/x.png": "no image in a format",
        f"{closed.address}/a.png": "the network is closed, or the server is out of reach",
        "gopher://host/a.png": "gopher",
        f"memory://{tmp_path.name}/none.png": "there is no such file",
        f"file://{tmp_path}/none.png": "no such file",
        f"tar://b.png::{tar}": "its archive has no b.png",
        f"zip://a.png::{tar}": "damaged or no plain zip",
        f"tar://a.png::{cut}": "damaged or no plain tar",
        f"zip://a.png::{packed}": "damaged or no plain zip",
        f"tar://a.tar::{tmp_path}/gz.tar": "unpack it if it is compressed",
        f"tar://a.png::{tmp_path}/none.tar": "no such file",
        f"tar://a.png::{site.address}/none.tar": "cannot fetch .*/none.tar: there is no such file",
        "tar://a.png": "write tar://MEMBER::ARCHIVE",
    }.items():
        with pytest.raises(AimmatError, match=says) as caught:
            read_image(url)
        assert "\n" not in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(site, tmp_path, monkeypatch):
    site.files["/cat.png"] = png()
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv(remote.CACHE, str(tmp_path / "file"))
    with pytest.raises(AimmatError, match="name another folder in AIMMAT_CACHE"):
        read_image(f"{site.address}/cat.png")


def test_two_urls_of_one_name_are_two_files(site):
    for i in (1, 2):
        site.files[f"/{i}/cat.png"] = png((i, i, i))
    assert [int(read_image(f"{site.address}/{i}/cat.png")[0, 0, 0]) for i in (1, 2)] == [1, 2]


def test_one_manifest_mixes_files_urls_and_shards(site, tmp_path):
    site.files["/sky.png"] = png((0, 0, 200), (64, 64))
    ball = np.zeros((32, 32, 4), np.uint8)
    ball[1:-1, 1:-1] = (200, 0, 0, 255)
    archive(tmp_path / "shards" / "0.tar", {"fg/ball.png": encoded(Image.fromarray(ball))})
    Image.new("RGB", (64, 64), (0, 0, 200)).save(tmp_path / "sea.png")
    (tmp_path / "manifest.csv").write_text(
        "file,role,type,category,split\n"
        "tar://fg/ball.png::shards/0.tar,foreground,SO,toy,train\n"
        f"{site.address}/sky.png,background,,,train\n"
        "sea.png,background,,,train\n"
    )
    entries = read_manifest(tmp_path / "manifest.csv")
    assert entries[0].path == f"tar://fg/ball.png::{tmp_path}/shards/0.tar"
    source = CutoutScenes(entries, "train", 32, fill=(1, 1))
    names = set()
    for seed in range(20):
        scene = source.draw(0, np.random.default_rng(seed))
        assert scene.foreground[16, 16].tolist() == [200, 0, 0]
        assert scene.background[0, 0].tolist() == [0, 0, 200]
        names.add(scene.name)
    assert names == {"ball+sky", "ball+sea"}
    write_manifest(tmp_path / "again.csv", entries)
    assert read_manifest(tmp_path / "again.csv") == entries
