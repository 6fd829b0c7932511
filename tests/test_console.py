"""What a command says and returns when something goes wrong."""

import pytest

from aimmat.console import guarded, sentence
from aimmat.schema import AimmatError


def failing(error):
    def command():
        raise error

    return command


def test_a_command_that_ends_well_returns_0():
    assert guarded(lambda: None) == 0


def test_an_error_is_one_sentence_and_exit_code_1(capsys):
    assert guarded(failing(AimmatError("no such picture; name another"))) == 1
    assert capsys.readouterr().err == "error: no such picture; name another\n"


def test_ctrl_c_is_exit_code_130(capsys):
    assert guarded(failing(KeyboardInterrupt("in epoch 2"))) == 130
    assert capsys.readouterr().err == "stopped: in epoch 2\n"


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(28, "No space left on device", "runs/a"), "runs/a cannot be used: no space left on device; choose"),
        (PermissionError(13, "Permission denied", "/root/x"), "/root/x cannot be used: permission denied; choose"),
        (OSError(28, "No space left on device", "/tmp/x", None, "runs/b"), "runs/b cannot be used: no space left"),
        (ValueError("width is -1"), r"width is -1 \(ValueError; set AIMMAT_TRACEBACK=1 to see where\)"),
        (RuntimeError(), "RuntimeError; set AIMMAT_TRACEBACK=1 to see where"),
        (
            AimmatError("Caught in worker 0.\n  File x\naimmat.schema.AimmatError: a.png is truncated"),
            "^a.png is truncated$",
        ),
    ],
)
def test_every_error_becomes_one_line(error, says):
    import re

    assert re.search(says, sentence(error))
    assert "\n" not in sentence(error)
