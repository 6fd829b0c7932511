"""Contact sheets."""

import pytest
from PIL import Image

from aimmat.prepare import main


@pytest.mark.parametrize("data", ["sample", "synthetic"])
def test_a_contact_sheet_shows_scenes_beside_their_alphas(tmp_path, data, capsys):
    path = tmp_path / "sheet.png"
    assert main(["sheet", data, "-o", str(path), "--count", "7", "--size", "64"]) == 0
    with Image.open(path) as page:
        assert page.size == (6 * (2 * 192 + 6), 2 * (192 + 18))
        assert page.convert("L").crop((0, 0, 192, 192)).getextrema() != (255, 255)
    assert str(path) in capsys.readouterr().out


def test_a_missing_folder_is_named(tmp_path, capsys):
    assert main(["sheet", str(tmp_path / "none"), "-o", str(tmp_path / "sheet.png")]) == 1
    assert "none, which is not a folder" in capsys.readouterr().err
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_of_nothing_is_refused(tmp_path, capsys):
    assert main(["sheet", "synthetic", "--count", "0", "-o", str(tmp_path / "sheet.png")]) == 1
    assert "--count must be 1 or more" in capsys.readouterr().err
