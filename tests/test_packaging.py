"""What a wheel holds, and that it trains without the checkout beside it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A wheel, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    call = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(call, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "conf/train.yaml",
        "conf/experiment/demo.yaml",
        "data/sample/manifest.csv",
        "demo/page.html",
        "tables/gallery.html",
        "tables/paper.csv",
    ],
)
def test_a_wheel_holds_what_is_no_python(site, name):
    assert (site / "aimmat" / name).is_file()


def test_a_wheel_holds_every_picture_of_the_sample_set(site):
    def pictures(root):
        return sorted(path.name for path in (root / "data" / "sample").rglob("*.*") if path.suffix != ".md")

    assert pictures(site / "aimmat") == pictures(ROOT / "src" / "aimmat")


def test_the_command_finds_its_configs_in_a_wheel(site, tmp_path):
    code = "import aimmat.train as t, sys; sys.argv[1:] = ['--cfg', 'job']; print(t.__file__); sys.exit(t.main())"
    call = [sys.executable, "-c", code]
    env = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(call, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(site))
    assert "task_name: demo" in done.stdout
