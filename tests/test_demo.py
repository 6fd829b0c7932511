"""The demo: what its server answers, and its page in a browser as somebody uses it."""

import csv
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from contextlib import contextmanager
from email import message_from_bytes
from io import BytesIO
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageCms
from torch import nn

import aimmat
from aimmat.demo import main
from aimmat.demo.work import Limits, Shares, type_of
from aimmat.inference import Predictor, Resize
from aimmat.schema import Prediction
from aimmat.weights import save_network

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
from aimmat.demo.server import SAMPLES, application  # noqa: E402, it needs both

spec = importlib.util.spec_from_file_location("chromium", Path(__file__).with_name("chromium.py"))
chromium = importlib.util.module_from_spec(spec)
spec.loader.exec_module(chromium)
needs_chromium = pytest.mark.skipif(chromium.PROGRAM is None, reason="there is no Chromium here")

PACKAGE = Path(aimmat.__file__).parent
LIMITS = Limits(bytes=100_000, pixels=96 * 96)
NOISE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
HALVES = np.zeros((64, 96, 3), np.uint8)  # blue on the left, red on the right
HALVES[:, :48, 2] = HALVES[:, 48:, 0] = 255


class Red(nn.Module):
    """Red is foreground, what is not red background: what the page has to show can be told from the picture."""

    stride = 32

    def __init__(self):
        super().__init__()
        self.calls, self.at_once, self.most, self.free = 0, 0, 0, threading.Event()
        self.free.set()

    def forward(self, image):
        self.calls, self.at_once = self.calls + 1, self.at_once + 1
        self.most = max(self.most, self.at_once)
        assert self.free.wait(30)
        self.at_once -= 1
        red = image[:, :1]
        if (image == 0).all():
            raise RuntimeError("a picture that this network cannot bear")
        return Prediction(torch.cat([9 * (1 - red), red * 0, 9 * red], dim=1), red, red)


@contextmanager
def serving(predictor, limits=LIMITS, title="tiny"):
    """The URL of a server in a thread of this process."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(application(predictor, title, limits), lifespan="off", ws="none", log_level="error")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return Predictor(aimmat.build("aimnet", width=0.0625), device="cpu")


@pytest.fixture(scope="module")
def tiny_url(tiny):
    with serving(tiny) as url:
        yield url


@pytest.fixture
def red():
    return Red()


@pytest.fixture
def red_url(red):
    with serving(Predictor(red, Resize(scale=1), device="cpu")) as url:
        yield url


def encoded(pixels, format="PNG", **options):
    file = BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, format, **options)
    return file.getvalue()


def get(url, **options):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **options), timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def post(url, content, name="photo.png", headers=None):
    return get(f"{url}/predict?name={quote(name)}", data=content, headers=headers or {}, method="POST")


def results(url, content, name="photo.png"):
    """The parts of an answer: what is JSON read, pictures opened."""
    status, headers, body = post(url, content, name)
    assert status == 200, body
    message = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
    parts = {part.get_param("name", header="Content-Disposition"): part for part in message.get_payload()}
    contents = {name: part.get_payload(decode=True) for name, part in parts.items()}
    facts = json.loads(contents.pop("facts"))
    return facts, {name: Image.open(BytesIO(content)) for name, content in contents.items()}


def refused(url, content, status, name="photo.png", headers=None):
    """The sentence of an error."""
    came, found, body = post(url, content, name, headers)
    assert (came, found["Content-Type"]) == (status, "application/json")
    (text,) = json.loads(body).values()
    assert text
    assert "\n" not in text
    return text


def bomb(width, height):
    """A PNG of a few bytes that declares many pixels."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunks = [(b"IHDR", head), (b"IDAT", b"\0"), (b"IEND", b"")]
    crc = [zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + check for (kind, data), check in zip(chunks, crc, strict=True)
    )


# what the server answers


def test_a_picture_gives_what_the_predictor_says_at_its_own_size(tiny, tiny_url):
    facts, parts = results(tiny_url, encoded(NOISE))
    matte = np.rint(tiny(NOISE).astype(np.float64) * 255)
    assert (facts["width"], facts["height"]) == (96, 64)
    np.testing.assert_array_equal(np.asarray(parts["matte"]), matte)
    np.testing.assert_array_equal(np.asarray(parts["cutout"])[..., 3], matte)
    np.testing.assert_array_equal(np.asarray(parts["cutout"]), tiny.cutout(NOISE))
    trimap = np.asarray(parts["trimap"])
    shares = {word: (trimap == level).mean() for word, level in zip(Shares._fields, (0, 128, 255), strict=True)}
    assert facts["shares"] == pytest.approx(shares)
    assert sum(shares.values()) == pytest.approx(1)  # no other level
    assert (parts["photo"].format, parts["photo"].size) == ("JPEG", (96, 64))


def test_the_type_of_a_red_half_is_salient_opaque(red_url):
    facts, parts = results(red_url, encoded(HALVES))
    assert facts["type"] == "SO"
    assert facts["shares"] == {"background": 0.5, "transition": 0, "foreground": 0.5}
    np.testing.assert_array_equal(np.asarray(parts["cutout"])[..., 3], HALVES[..., 0])


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (Shares(1, 0, 0), None),
        (Shares(0, 0, 1), "SO"),
        (Shares(0.2, 0.6, 0.2), "SO"),  # a quarter of the subject
        (Shares(0.2, 0.61, 0.19), "STM"),
        (Shares(0.15, 0.85, 0), "STM"),
        (Shares(0.14, 0.86, 0), "NS"),
        (Shares(0, 1, 0), "NS"),
    ],
)
def test_the_type_follows_from_the_shares(shares, expected):
    assert type_of(shares) == expected


def test_a_network_without_semantics_has_neither_trimap_nor_type():
    class Bare(Red):
        def forward(self, image):
            return Prediction(None, None, image[:, :1])

    with serving(Predictor(Bare(), Resize(scale=1), device="cpu")) as url:
        facts, parts = results(url, encoded(HALVES))
    assert facts["type"] is facts["shares"] is None
    assert sorted(parts) == ["cutout", "matte", "photo"]


@pytest.mark.parametrize(
    ("format", "mode"),
    [("PNG", "RGBA"), ("PNG", "L"), ("PNG", "P"), ("PNG", "I;16"), ("JPEG", "CMYK"), ("WEBP", "RGB"), ("TIFF", "RGB")],
)
def test_every_format_and_mode_is_taken(red_url, format, mode):
    picture = Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257) if mode == "I;16" else None
    picture = picture or Image.fromarray(NOISE).convert(mode)
    _, parts = results(red_url, encoded(picture, format))
    assert parts["cutout"].size == parts["photo"].size == (96, 64)
    assert parts["photo"].mode == "RGB"


def test_a_turned_picture_is_upright_and_keeps_its_profile(red_url):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    _, parts = results(red_url, encoded(HALVES, "JPEG", exif=exif, icc_profile=profile))
    for name in ("photo", "cutout"):
        assert parts[name].size == (64, 96)
        assert parts[name].info["icc_profile"] == profile
        assert parts[name].getexif().get(ExifTags.Base.Orientation, 1) == 1


@pytest.mark.parametrize("size", [(1, 1), (4, 2000)])
def test_pictures_of_odd_sizes_are_taken(tiny_url, size):
    _, parts = results(tiny_url, encoded(np.full((*size, 3), 99, np.uint8)))
    assert parts["cutout"].size == size[::-1]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no image"),
        (b"a shopping list", "no image"),
        (encoded(NOISE)[:2000], "truncated or damaged"),
        (encoded(NOISE, "JPEG")[:900], "truncated or damaged"),
    ],
)
def test_what_is_no_picture_is_named(tiny_url, content, says):
    text = refused(tiny_url, content, 400, "../a list &  ö'\".png")
    assert text.startswith("cannot read a list &  ö'\".png: ")
    assert says in text


def test_too_many_bytes_are_refused_and_so_are_those_of_unsaid_length(tiny_url):
    assert "0.1 MB" in refused(tiny_url, b"x" * 100_001, 413)
    chunks = (b"x" * 50_000 for _ in range(40))  # urllib sends what has no length in chunks
    assert refused(tiny_url, chunks, 413).startswith("photo.png has 2.0 MB; the page takes up to 0.1 MB")


@pytest.mark.parametrize("size", [(97, 96), (8000, 8000), (12_000, 12_000), (60_000, 60_000)])
def test_too_many_pixels_are_refused_before_they_are_decoded(tiny_url, size):
    assert "megapixels" in refused(tiny_url, bomb(*size), 413)


def test_a_side_that_no_browser_draws_is_refused(tiny):
    with serving(tiny, Limits()) as url:
        assert "32767 a side" in refused(url, bomb(32_768, 1), 413)


def test_other_sites_cannot_have_pictures_computed(red, red_url):
    refused(red_url, encoded(HALVES), 403, headers={"Sec-Fetch-Site": "cross-site"})
    assert red.calls == 0
    assert post(red_url, encoded(HALVES), headers={"Sec-Fetch-Site": "same-origin"})[0] == 200


def test_a_picture_that_fails_costs_no_other(red_url):
    text = refused(red_url, encoded(NOISE * 0), 500, "night.png")
    assert text.startswith("night.png could not be computed: a picture that this network cannot bear")
    assert results(red_url, encoded(HALVES))


def test_one_picture_is_computed_at_a_time_and_the_others_wait(red, red_url):
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(post(red_url, encoded(HALVES))[0])) for _ in range(4)]
    red.free.clear()
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert get(red_url)[0] == 200  # the page is answered meanwhile
    red.free.set()
    for thread in threads:
        thread.join(30)
    assert answers == [200] * 4
    assert (red.calls, red.most) == (4, 1)


def test_nobody_computes_for_those_who_left(red, red_url):
    content, port = encoded(HALVES), int(red_url.rpartition(":")[2])
    red.free.clear()
    first = threading.Thread(target=post, args=(red_url, content))
    first.start()
    while red.calls == 0:
        time.sleep(0.01)
    with socket.create_connection(("127.0.0.1", port)) as second:
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        second.sendall(head.encode() + content)
        time.sleep(0.3)  # it waits by now
    time.sleep(0.3)  # and has left by now
    red.free.set()
    first.join(30)
    assert post(red_url, content)[0] == 200
    assert red.calls == 2


def test_the_page_needs_nothing_from_elsewhere(tiny_url):
    status, headers, body = get(tiny_url)
    assert status == 200
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    html = body.decode()
    assert set(re.findall(r"https?://[^'\"/]+", html)) == {"http://www.w3.org"}  # the name of SVG, not a place
    assert "{{" not in html
    assert {place[:5] for place in re.findall(r"(?:href|src)=[\"']([^\"']+)", html)} == {"data:"}


def test_a_name_of_weights_cannot_leave_its_place_in_the_page(tiny):
    with serving(tiny, title="</script><script>alert(1)") as url:
        html = get(url)[2].decode()
    assert html.count("</script>") == 2
    assert "</script><script>alert(1)" in json.loads(re.search('json">(.*?)</script>', html)[1])["title"]


def test_the_samples_are_those_that_come_along_and_name_who_took_them(tiny_url):
    with (PACKAGE / "data" / "sample" / "manifest.csv").open(newline="") as file:
        authors = {row["file"]: row["author"] for row in csv.DictReader(file) if row["role"] == "photo"}
    assert {f"photos/{name}" for name in SAMPLES} == set(authors)
    for name, title in SAMPLES.items():
        assert authors[f"photos/{name}"] in title
        assert get(f"{tiny_url}/sample/{name}")[2] == (PACKAGE / "data" / "sample" / "photos" / name).read_bytes()
    assert get(f"{tiny_url}/sample/..%2Fmanifest.csv")[0] == 404


# the command


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("run") / "model.safetensors"
    save_network(path, aimmat.build("aimnet", width=0.0625), {"model": {"name": "aimnet", "width": 0.0625}})
    return path


def test_the_command_serves_this_machine_writes_nothing_and_ends_at_ctrl_c(weights, tmp_path):
    code = (
        "import sys, os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def hook(event, given):\n"
        "    writes = event == 'open' and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)\n"
        "    if writes or event in ('tempfile.mkstemp', 'tempfile.mkdtemp'): print('wrote', given, file=sys.stderr)\n"
        "from aimmat.demo import main\n"
        "import aimmat; load = aimmat.load\n"
        "def loaded(*given, **named):\n"
        "    predictor = load(*given, **named); sys.addaudithook(hook); return predictor\n"
        "aimmat.load = loaded\n"
        "code = main(sys.argv[1:])\n"
        "print([m for m in ('lightning', 'hydra', 'omegaconf', 'wandb', 'albumentations') if m in sys.modules])\n"
        "sys.exit(code)\n"
    )
    call = [sys.executable, "-c", code, "--weights", str(weights), "--port", "0"]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(call, cwd=tmp_path, env=env, **pipes) as server:
        try:
            url = re.search(r"http://127\.0\.0\.1:\d+", server.stdout.readline()).group()
            noise = np.random.default_rng(1).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
            results(url, encoded(noise))  # 3 MB: frameworks for forms put more than 1 MB into a temporary file
            server.send_signal(signal.SIGINT)
            out, err = server.communicate(timeout=30)
        finally:
            server.kill()
    assert server.returncode == 130
    assert err.strip() == "stopped"
    assert out.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no weights are given"),
        (["--weights", "x", "--port", "70000"], "--port must be from 0 to 65535, got 70000"),
        (["--weights", "x", "--port", "0", "--host", "256.1.1.1"], "cannot listen on port 0 of 256.1.1.1"),
        (["--weights", "x", "--max-mb", "0"], "--max-mb must be above 0 and at most 1000, got 0"),
        (["--weights", "x", "--max-megapixels", "nan"], "--max-megapixels must be above 0 and at most 89, got nan"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(arguments, says, capsys):
    assert main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_port_that_is_taken_and_missing_weights_are_named(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["--weights", "x", "--port", port]) == 1
    assert f"port {port} of 127.0.0.1: address already in use" in capsys.readouterr().err
    assert main(["--weights", str(tmp_path / "none.safetensors"), "--port", "0"]) == 1
    assert "none.safetensors" in capsys.readouterr().err


def test_the_extra_is_named_where_it_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["--weights", "x"]) == 1
    assert "pip install 'aimmat[demo]'" in capsys.readouterr().err


def test_help_waits_for_no_torch():
    code = "import sys, aimmat.demo; print([m for m in ('torch', 'starlette') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# the page in a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.Page(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(browser, red_url):
    browser.events.clear()
    browser.resize(1280, 900)
    browser.open(red_url)
    yield browser
    assert browser.complaints() == []


@pytest.fixture
def halves(tmp_path):
    path = tmp_path / "two halves.png"
    path.write_bytes(encoded(HALVES))
    return path


DONE = "!document.getElementById('done').hidden"
ERROR = "!document.getElementById('error').hidden && document.querySelector('#error p').textContent"


def colours(page, *shares):
    """Colours of the stage at shares of its width, a third from its top, as they are painted."""
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    x, y, width, height = page.run(
        "(({x, y, width, height}) => [x, y, width, height])(document.getElementById('stage').getBoundingClientRect())"
    )
    shot = page.shot()
    return [shot.getpixel((round(x + width * share), round(y + height / 3))) for share in shares]


def assert_close(colour, expected):
    assert max(abs(a - b) for a, b in zip(colour, expected, strict=True)) <= 12, colour  # of a JPEG and its scaling


RED, BLUE, CORAL = (255, 0, 0), (0, 0, 255), (0xF4, 0x97, 0x8E)


@needs_chromium
def test_a_picture_is_dropped_compared_and_downloaded(page, halves, tmp_path, red_url):
    page.drop("#drop", halves)
    page.until(DONE)
    assert page.run("document.activeElement.id") == "heading"
    assert page.run("[...document.querySelectorAll('.tag')].map((tag) => tag.style.opacity)") == ["1", "1"]
    assert page.run("document.getElementById('kind').textContent") == "Salient opaque"
    assert page.run("document.getElementById('key').textContent") == "foreground 50 %transition 0 %background 50 %"

    page.click("label[title=Coral]")
    for there, left in ((0.25, CORAL), (0.44, BLUE)):  # the slider is dragged from the middle to either place
        x, y = page.middle("#slider")
        width = page.run("document.getElementById('stage').clientWidth")
        page.run("slide(50)")
        page.drag((x, y), (x + width * (there - 0.5), y))
        assert float(page.run("document.getElementById('slider').value")) == pytest.approx(100 * there, abs=1)
        first, second, third = colours(page, there - 0.08, 0.4, 0.75)
        assert_close(first, BLUE)  # before
        assert_close(second, left)  # after, or before where the slider went beyond it
        assert_close(third, RED)  # foreground

    _, parts = results(red_url, encoded(HALVES))
    for part in ("cutout", "matte"):
        content = page.download(f"#get-{part}", tmp_path, f"two halves_{part}.png")
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(content))), np.asarray(parts[part]))
    laid = Image.open(BytesIO(page.download("#get-laid", tmp_path, "two halves_on_background.png"))).convert("RGB")
    assert laid.size == (96, 64)
    assert (laid.getpixel((10, 10)), laid.getpixel((80, 10))) == (CORAL, RED)


@needs_chromium
def test_matte_and_trimap_are_shown(page, halves):
    page.drop("body", halves)  # the whole page takes it
    page.until(DONE)
    page.run("slide(0)")
    for view in ("matte", "trimap"):
        page.click(f"label:has([value={view}])")
        page.until("document.getElementById('after').complete")
        assert colours(page, 0.25, 0.75) == [(0, 0, 0), (255, 255, 255)]
    assert page.run("document.getElementById('backgrounds').hidden")


@needs_chromium
def test_a_picture_of_ones_own_lies_behind(page, halves, tmp_path):
    green, note = tmp_path / "green.png", tmp_path / "note.png"
    green.write_bytes(encoded(np.full((30, 20, 3), (0, 160, 0), np.uint8)))
    note.write_text("a shopping list")
    page.drop("#drop", halves)
    page.until(DONE)
    page.run("slide(0)")
    page.put("#own", note)
    assert "note.png is no picture" in page.until(ERROR)
    page.put("#own", green)
    page.until("background.kind === 'picture'")
    left, right = colours(page, 0.25, 0.75)
    assert_close(left, (0, 160, 0))
    assert_close(right, RED)
    laid = Image.open(BytesIO(page.download("#get-laid", tmp_path, "two halves_on_background.png"))).convert("RGB")
    assert (laid.getpixel((10, 10)), laid.getpixel((80, 10))) == ((0, 160, 0), RED)


@needs_chromium
def test_any_colour_lies_behind(page, halves):
    page.drop("#drop", halves)
    page.until(DONE)
    page.run("slide(0)")
    page.run(
        "const picker = document.querySelector('[type=color]'); picker.value = '#123456';"
        "picker.dispatchEvent(new Event('input'))"
    )
    left, right = colours(page, 0.25, 0.75)
    assert_close(left, (0x12, 0x34, 0x56))
    assert_close(right, RED)
    page.click("label[title=Transparent]")
    assert page.run("document.getElementById('get-laid').hidden")
    assert set(colours(page, *np.linspace(0.1, 0.4, 20))) == {(0xD5, 0xD6, 0xDD), (255, 255, 255)}


@needs_chromium
def test_a_finger_moves_the_slider(page, halves):
    page.resize(390, 844)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    page.drop("#drop", halves)
    page.until(DONE)
    x, y = page.middle("#slider")
    width = page.run("document.getElementById('stage').clientWidth")
    page.swipe((x, y), (x + 0.3 * width, y))
    page.send("Emulation.setTouchEmulationEnabled", enabled=False)
    assert float(page.run("document.getElementById('slider').value")) == pytest.approx(80, abs=1)


@needs_chromium
def test_bad_files_are_told_and_the_page_goes_on(browser, page, red, halves, tmp_path):
    large, note = tmp_path / "large.png", tmp_path / "note.png"
    large.write_bytes(encoded(np.random.default_rng(2).integers(0, 256, (200, 200, 3), dtype=np.uint8)))
    note.write_text("a shopping list")
    page.drop("#drop", large)
    assert page.until(ERROR).startswith("large.png has 121 kB; the page takes up to 100 kB")
    assert "Network.requestWillBeSent" not in [
        event["method"] for event in browser.events if "/predict" in json.dumps(event)
    ]  # it is not even sent
    page.drop("#drop", note)
    assert "Cannot read note.png: its content is no image" in page.until(f"({ERROR}).startsWith?.('Cannot') && {ERROR}")
    page.click("#error button")
    assert page.run("document.getElementById('error').hidden")
    page.drop("#drop", halves)
    page.until(DONE)
    page.drop("#stage", note)
    page.until(ERROR)
    assert page.run(DONE)  # the result that was there stays
    assert red.calls == 1
    browser.events = [event for event in browser.events if event.get("method") != "Log.entryAdded"]  # the two 400s


@needs_chromium
def test_the_keyboard_is_enough(page, halves):
    page.send("Page.setInterceptFileChooserDialog", enabled=True)
    page.key("Tab")
    assert page.run("document.activeElement.id") == "drop"
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.key("Enter")
    chooser = page.event("Page.fileChooserOpened")
    page.send("Page.setInterceptFileChooserDialog", enabled=False)
    page.send("DOM.setFileInputFiles", backendNodeId=chooser["backendNodeId"], files=[str(halves)])
    page.until(DONE)
    page.key("Tab")
    assert page.run("document.activeElement.id") == "slider"
    for _ in range(4):
        page.key("ArrowRight")
    assert page.run("document.getElementById('slider').getAttribute('aria-valuetext')") == "52 % before, 48 % after"
    page.key("Tab")
    page.key("ArrowRight")
    assert page.run("document.activeElement.value") == "matte"
    page.key("ArrowLeft")
    names = []
    while len(names) < 7:
        page.key("Tab")
        names.append(
            page.run("document.activeElement.id || document.activeElement.ariaLabel || document.activeElement.tagName")
        )
    assert names == ["Transparent", "Any colour", "Your own picture", "SUMMARY", "get-cutout", "get-matte", "again"]


@needs_chromium
def test_a_picture_is_pasted(page):
    page.run(
        f"const data = new DataTransfer(), bytes = new Uint8Array({list(encoded(HALVES))});"
        "data.items.add(new File([bytes], 'image.png', {type: 'image/png'}));"
        "document.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}));"
    )
    page.until(DONE)
    assert page.run("document.getElementById('get-cutout').download") == "image_cutout.png"


@needs_chromium
def test_a_newer_picture_takes_the_place_of_one_under_way_and_one_can_be_cancelled(page, red, halves, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(encoded(HALVES[:, ::-1]))
    red.free.clear()
    page.drop("#drop", halves)
    page.until("!document.getElementById('busy').hidden")
    page.click("#cancel")
    assert page.run("!document.getElementById('empty').hidden")
    page.drop("#drop", halves)
    page.drop("body", other)
    red.free.set()
    page.until(DONE)
    assert page.run("document.getElementById('get-matte').download") == "other_matte.png"


@needs_chromium
@pytest.mark.parametrize("width", [320, 360, 820, 1280])
def test_nothing_sticks_out_at_any_width(page, halves, width):
    def check():
        assert page.run("document.documentElement.scrollWidth") <= width
        targets = (
            "[...document.querySelectorAll('button:not(.quiet), a, .swatches label, .views label')]"
            ".filter((element) => element.checkVisibility()).map((element) => element.offsetHeight)"
        )
        assert page.run(f"Math.min(...{targets})") >= 24  # pixels, what WCAG 2.2 asks of a target

    page.resize(width, 740)
    check()
    page.drop("#drop", halves)
    page.until(DONE)
    page.click("label[title=Sky]")
    page.run("fail('a' + 'very'.repeat(80) + 'long word')")
    check()


@needs_chromium
def test_a_server_that_has_ended_is_told(browser, halves):
    browser.resize(1280, 900)
    with serving(Predictor(Red(), Resize(scale=1), device="cpu")) as url:
        browser.open(url)
    browser.drop("#drop", halves)
    assert "The server does not answer" in browser.until(ERROR)
    assert browser.run("!document.getElementById('empty').hidden")
