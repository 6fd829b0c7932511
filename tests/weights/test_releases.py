import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from aimmat.remote import cache_dir
from aimmat.schema import AimmatError
from aimmat.weights import releases
from aimmat.weights.releases import RELEASES, Release, fetch, to_markdown

BODY = bytes(range(256)) * 2000  # 512 kB, several of the downloader's chunks
HALF = len(BODY) // 2


class Site(ThreadingHTTPServer):
    """A server on this machine that behaves as a test tells it to."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.etag, self.kind = BODY, '"1"', "application/octet-stream"
        self.status = 200
        self.ranges = True  # knows Range
        self.if_range = True  # knows If-Range
        self.chunked = False  # does not say how long an answer is
        self.cut_at = self.pause_at = None  # hangs up, or falls silent, after so many bytes of an answer
        self.go_on = threading.Event()  # ends a pause
        self.asked = []  # the headers of each request for the file

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/file"

    def handle_error(self, *_):
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        site = self.server
        if self.path == "/moved":
            self.answer(302, {"Location": "/file", "Content-Length": "0"})
            return
        site.asked.append(self.headers)
        start, status, headers = 0, site.status, {"Content-Type": site.kind}
        if site.ranges and "Range" in self.headers and (not site.if_range or self.headers["If-Range"] == site.etag):
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            status = 206 if start < len(site.body) else 416
            headers["Content-Range"] = f"bytes {start}-{len(site.body) - 1}/{len(site.body)}"
        if site.etag:
            headers["ETag"] = site.etag
        body = site.body[start:]
        if site.chunked:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        self.answer(status, headers)
        self.wfile.write(body[: site.cut_at or site.pause_at])
        if site.pause_at:
            site.go_on.wait(60)
            self.wfile.write(body[site.pause_at :])
        self.close_connection = True

    def answer(self, status, headers):
        self.send_response(status)
        for header in headers.items():
            self.send_header(*header)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def site(monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Site() as site:
        thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield site
        site.go_on.set()
        site.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def offer(site, monkeypatch):
    """Puts a release named "test" into the table; called again, one with other facts."""

    def put(**changes):
        facts = {"name": "test", "kind": "matting", "address": site.address, "file": "test.pth", "licence": "MIT"}
        monkeypatch.setitem(RELEASES, "test", Release(**facts | {"source": "this test"} | changes))

    put()
    return put


def files(cache):
    """What lies in a cache, but for the lock, which stays."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def refusal(cache, name="test"):
    """The sentence with which a download fails."""
    with pytest.raises(AimmatError) as caught:
        fetch(name, cache)
    assert not (cache / "test.pth").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def broken_off(site, cache):
    """Leaves a partial file in the cache."""
    site.cut_at = HALF
    sentence = refusal(cache)
    site.cut_at = None
    size = (cache / "test.pth.part").stat().st_size
    assert 0 < size <= HALF
    return size, sentence


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestFetch:
    def test_downloads_into_a_new_folder_and_prints_a_hash_that_nobody_knew(self, tmp_path, capsys):
        path = fetch("test", tmp_path / "a" / "b")
        assert path == tmp_path / "a" / "b" / "test.pth"
        assert path.read_bytes() == BODY
        assert files(path.parent) == ["test.pth"]
        said = capsys.readouterr()
        assert hashlib.sha256(BODY).hexdigest() in said.err
        assert len(said.err.splitlines()) == 1  # no progress where there is no terminal, nothing of pooch's
        assert said.out == ""

    def test_a_known_hash_is_compared_and_nothing_is_said(self, tmp_path, offer, capsys):
        offer(sha256=hashlib.sha256(BODY).hexdigest())
        assert fetch("test", tmp_path).read_bytes() == BODY
        assert capsys.readouterr() == ("", "")

    def test_another_hash_is_refused_and_no_other_file_is_harmed(self, tmp_path, offer):
        (tmp_path / "other.pth").write_bytes(b"good")
        offer(sha256="0" * 64)
        sentence = refusal(tmp_path)
        assert f"expected {'0' * 64} but got {hashlib.sha256(BODY).hexdigest()}" in sentence
        assert files(tmp_path) == ["other.pth"]

    def test_a_file_in_the_cache_is_taken_as_it_is_without_the_network(self, tmp_path, site, offer):
        offer(sha256="0" * 64)
        (tmp_path / "test.pth").write_bytes(b"put there by hand")
        assert fetch("test", tmp_path).read_bytes() == b"put there by hand"
        assert site.asked == []

    def test_the_cache_is_the_environments(self, tmp_path, monkeypatch):
        monkeypatch.setenv("AIMMAT_CACHE", str(tmp_path))
        assert fetch("test") == tmp_path / "test.pth"

    def test_a_redirect_is_followed(self, tmp_path, site, offer):
        offer(address=site.address.replace("/file", "/moved"))
        assert fetch("test", tmp_path).read_bytes() == BODY

    def test_an_answer_of_unknown_length_is_taken(self, tmp_path, site):
        site.chunked = True
        assert fetch("test", tmp_path).read_bytes() == BODY

    def test_two_at_once_download_once(self, tmp_path, site):
        site.pause_at = HALF
        found = []
        threads = [threading.Thread(target=lambda: found.append(fetch("test", tmp_path))) for _ in range(2)]
        for thread in threads:
            thread.start()
        wait_for(lambda: site.asked)
        time.sleep(0.2)  # enough for the other one to ask, if nothing kept it
        assert found == []
        site.go_on.set()
        for thread in threads:
            thread.join()
        assert found == [tmp_path / "test.pth"] * 2
        assert len(site.asked) == 1
        assert found[0].read_bytes() == BODY


class TestResume:
    def test_a_broken_download_goes_on_where_it_stopped(self, tmp_path, site):
        size, sentence = broken_off(site, tmp_path)
        assert f"broke off at {size / 1e6:.1f} MB, ask again to go on from there" in sentence
        assert fetch("test", tmp_path).read_bytes() == BODY
        assert [headers["Range"] for headers in site.asked] == [None, f"bytes={size}-"]
        assert files(tmp_path) == ["test.pth"]

    def test_a_killed_download_goes_on_where_it_stopped(self, tmp_path, site, offer):
        site.pause_at = HALF
        code = (
            "import sys; from aimmat.weights.releases import RELEASES, Release, fetch\n"
            "RELEASES['test'] = Release('test', 'matting', sys.argv[1], 'test.pth', 'MIT', 'this test')\n"
            "fetch('test', sys.argv[2])"
        )
        part = tmp_path / "test.pth.part"
        with subprocess.Popen([sys.executable, "-c", code, site.address, str(tmp_path)]) as child:
            wait_for(lambda: part.exists() and part.stat().st_size > 100_000)
            child.kill()
        site.pause_at = None
        assert fetch("test", tmp_path).read_bytes() == BODY
        assert int(site.asked[-1]["Range"].strip("bytes=-")) > 100_000

    @pytest.mark.parametrize("whole", [False, True])
    def test_a_broken_answer_of_unknown_length_is_noticed(self, tmp_path, site, whole):
        site.chunked = True
        site.cut_at = len(BODY) + 5 if whole else HALF  # all bytes came, but not the end of the last chunk
        assert "broke off" in refusal(tmp_path)

    def test_a_server_without_ranges_sends_it_all_again(self, tmp_path, site):
        broken_off(site, tmp_path)
        site.ranges = False
        assert fetch("test", tmp_path).read_bytes() == BODY

    @pytest.mark.parametrize("if_range", [True, False])
    @pytest.mark.parametrize("length", [len(BODY), 1000])  # 1000: fewer bytes than there are already
    def test_a_file_that_changed_is_downloaded_anew(self, tmp_path, site, if_range, length):
        broken_off(site, tmp_path)
        site.body, site.etag, site.if_range = BODY[::-1][:length], '"2"', if_range
        assert fetch("test", tmp_path).read_bytes() == site.body

    def test_without_a_version_nothing_is_pieced_together(self, tmp_path, site):
        site.etag = None
        _, sentence = broken_off(site, tmp_path)
        assert "ask again" not in sentence
        site.body = BODY[::-1]
        assert fetch("test", tmp_path).read_bytes() == site.body

    def test_bytes_of_no_version_are_not_taken_for_those_of_an_earlier_one(self, tmp_path, site):
        broken_off(site, tmp_path)
        site.body, site.etag = BODY[::-1], None
        broken_off(site, tmp_path)
        site.body, site.etag = BODY, '"1"'
        assert fetch("test", tmp_path).read_bytes() == BODY

    def test_progress_on_a_terminal_counts_what_was_there_already(self, tmp_path, site, monkeypatch, capsys):
        broken_off(site, tmp_path)
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes any stream for a terminal then
        fetch("test", tmp_path)
        assert "512.0/512.0 kB" in capsys.readouterr().err

    def test_a_web_page_in_between_costs_nothing(self, tmp_path, site):
        size, _ = broken_off(site, tmp_path)
        site.body, site.etag = b"<html>come back later</html>", None
        refusal(tmp_path)
        site.body, site.etag = BODY, '"1"'
        assert fetch("test", tmp_path).read_bytes() == BODY
        assert site.asked[-1]["Range"] == f"bytes={size}-"


class TestRefusals:
    def test_each_says_what_can_be_done_by_hand(self, tmp_path, site):
        site.status = 404
        assert refusal(tmp_path) == (
            f"cannot download test from {site.address}: the server answers 404 Not Found; open that address in a "
            f"browser, then give the file by its path or put it at {tmp_path / 'test.pth'}"
        )

    @pytest.mark.parametrize(
        ("kind", "body"),
        [
            ("text/html; charset=utf-8", b"anything"),
            ("application/octet-stream", b"\n<!DOCTYPE html><html>"),
            ("application/octet-stream", b"<HTML>"),
        ],
    )
    def test_a_web_page_is_no_file(self, tmp_path, site, kind, body):
        site.kind, site.body = kind, body
        assert "a web page came instead of the file" in refusal(tmp_path)
        assert files(tmp_path) == []

    def test_an_empty_answer_is_no_file(self, tmp_path, site):
        site.body = b""
        assert "the server sent nothing" in refusal(tmp_path)

    def test_a_closed_network(self, tmp_path, offer):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        offer(address=f"http://127.0.0.1:{port}/file")
        assert "the network is closed" in refusal(tmp_path)
        assert files(tmp_path) == []

    def test_a_proxy_that_is_not_there(self, tmp_path, offer, monkeypatch):
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
        offer(address="http://weights.invalid/file")  # never resolved here: that is the proxy's work
        assert "the proxy does not let it through" in refusal(tmp_path)

    def test_a_server_that_never_answers(self, tmp_path, offer, monkeypatch):
        monkeypatch.setattr(releases, "TIMEOUT", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as mute:
            offer(address=f"http://127.0.0.1:{mute.getsockname()[1]}/file")
            assert "the server does not answer within 0.2 seconds" in refusal(tmp_path)

    def test_a_server_that_falls_silent(self, tmp_path, site, monkeypatch):
        monkeypatch.setattr(releases, "TIMEOUT", 1.0)  # long enough for a busy machine to begin
        site.pause_at = HALF
        assert "the connection broke off" in refusal(tmp_path)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
    def test_a_full_disk(self, tmp_path):
        (tmp_path / "test.pth.part").symlink_to("/dev/full")
        assert refusal(tmp_path) == (
            f"cannot keep test at {tmp_path / 'test.pth'}: no space left on device; "
            f"make room, or name another folder in AIMMAT_CACHE"
        )

    def test_a_cache_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").touch()
        assert "AIMMAT_CACHE" in refusal(tmp_path / "file" / "cache")

    def test_an_unknown_name_is_answered_with_the_known_ones(self, tmp_path):
        assert "aim-matting, aim-duts, aim-r34mp, resnet34" in refusal(tmp_path, "aimnet")

    def test_google_drive_is_asked_past_its_question_about_large_files(self, tmp_path, monkeypatch):
        asked = []

        def get(address, **_):
            asked.append(address)
            raise requests.ConnectionError

        monkeypatch.setattr(requests, "get", get)
        assert RELEASES["aim-matting"].address in refusal(tmp_path, "aim-matting")
        key = RELEASES["aim-matting"].address.partition("id=")[2]
        assert asked == [f"https://drive.usercontent.google.com/download?export=download&id={key}&confirm=t"]


class TestTable:
    def test_names_and_files_are_unique(self):
        assert all(name == release.name for name, release in RELEASES.items())
        assert len({release.file for release in RELEASES.values()}) == len(RELEASES)

    @pytest.mark.parametrize(
        ("test", "type_average"),
        [
            ("AIM-500, hybrid 1/4 + 1/3", 81.16),
            ("AIM-500, hybrid 1/4 + 1/2", 85.93),  # 86.27 is printed, which is not the mean of the types beside it
        ],
    )
    def test_the_figures_of_aim_agree_among_themselves(self, test, type_average):
        figures = RELEASES["aim-matting"].figures[test]
        types = {"SO": 424, "STM": 43, "NS": 33}
        categories = {"animal": 200, "portrait": 100, "transparent": 34, "plant": 75}
        categories |= {"furniture": 45, "toy": 36, "fruit": 10}
        averages = {"type": type_average, "cat": figures["sad/cat/avg"]}
        for kind, counts in (("type", types), ("cat", categories)):
            means = {group: figures[f"sad/{kind}/{group}"] for group in counts}
            overall = sum(count * means[group] for group, count in counts.items()) / 500
            assert overall == pytest.approx(figures["sad"], abs=0.011)  # all are printed with two decimals
            assert sum(means.values()) / len(means) == pytest.approx(averages[kind], abs=0.011)

    def test_markdown_shows_every_release_and_what_nobody_tried(self, monkeypatch):
        monkeypatch.delitem(RELEASES, "test")
        text = to_markdown()
        for release in RELEASES.values():
            (line,) = [line for line in text.splitlines() if line.startswith(f"| `{release.name}` |")]
            assert release.address in line
            assert "untried" in line
        assert "`aim-matting`, AIM-500, hybrid 1/4 + 1/3: sad 41.72, mse 0.0153" in text


def test_the_cache_is_the_users_unless_the_environment_names_one(tmp_path, monkeypatch):
    monkeypatch.delenv("AIMMAT_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir().name == "aimmat"
    monkeypatch.setenv("AIMMAT_CACHE", "~/weights")
    assert cache_dir() == Path.home() / "weights"


def test_the_table_is_there_without_the_libraries_of_a_download():
    code = "import sys, aimmat.weights.releases; print({'pooch', 'requests', 'filelock'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout == "set()\n"
