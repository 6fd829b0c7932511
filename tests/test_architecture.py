"""docs/architecture.md shows the tree as it is: what it names exists, and no file or folder is left out."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TREE = re.search(
    r"## Tree\n\n```\n(.*?)```", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), re.DOTALL
)[1]
PACKAGES = dict(re.findall(r"^  (\w+)/ +(.*)$", TREE, re.MULTILINE))


def children(folder):
    """Names of its modules and folders."""
    found = {path.stem for path in folder.iterdir() if path.is_dir() or path.suffix == ".py"}
    return found - {"__init__", "__main__", "__pycache__"}


def words(text):
    return set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", text)))


@pytest.mark.parametrize("package", PACKAGES)
def test_the_line_of_a_package_names_its_files(package):
    line, there = PACKAGES[package], children(ROOT / "src" / "aimmat" / package)
    assert words(line.partition(":")[0]) <= there
    assert there <= words(line) or "..." in line


def test_every_package_command_and_group_of_settings_is_in_the_tree():
    head, conf = re.match(r"(.*?)^conf/(.*?)^notebooks/", TREE, re.DOTALL | re.MULTILINE).groups()
    there = children(ROOT / "src" / "aimmat")
    assert there == PACKAGES.keys() | set(re.findall(r"(\w+)\.py", head)) - {"__init__"}
    groups = children(ROOT / "conf") - {"local"}  # settings of one machine, under no version control
    assert groups == words(conf.partition("|")[2])
