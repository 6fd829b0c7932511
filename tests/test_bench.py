import subprocess
import sys

import pytest

from aimmat.bench import main, measure


def test_help_names_every_argument(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("model", "sizes", "device", "threads", "width"))


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("sizes", "arguments are written key=value, got 'sizes'; --help lists them"),
        ("model=amnet", "there is no network 'amnet' (did you mean 'aimnet'?); the networks are aimnet, "),
        ("widht=1", "aimnet has no switch 'widht' (did you mean 'width'?)"),
        ("width=wide", "aimnet's width is a number above 0 and at most 4, got 'wide'; 1 is the paper's"),
        ("sizes=320,100", "sizes of aimnet are multiples of 32, got 100"),
        ("sizes=320,big", "sizes takes whole numbers above 0, got 'big'"),
        ("threads=0", "threads takes whole numbers above 0, got '0'"),
        ("device=cuda:99", "there is no device 'cuda:99' here; the devices are auto, cpu"),
    ],
)
def test_a_wrong_argument_ends_in_one_sentence_and_code_1(capsys, argument, sentence):
    assert main([argument]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_an_argument_given_twice_is_refused(capsys):
    assert main(["width=1", "width=2"]) == 1
    assert capsys.readouterr().err == "width is given twice, as 1 and as 2; keep one\n"


def test_the_table_has_a_line_for_each_size(capsys):
    assert main(["model=aimnet", "width=0.125", "sa=false", "sizes=32,64", "device=cpu", "threads=1"]) == 0
    text = capsys.readouterr().out
    assert "861,964 parameters" in text
    for heading in ("32 x 32", "64 x 64", "MACs", "latency", "peak memory", "1 thread"):
        assert heading in text


def test_several_networks_stand_in_one_table(capsys):
    assert main(["model=aimnet,u2net", "width=0.125", "sizes=32", "device=cpu", "threads=1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "32 x 32" in line]
    assert [line.split()[1] for line in lines] == ["aimnet", "u2net"]


def test_memory_counts_the_process_and_time_is_positive():
    result = measure("aimnet", {"width": 0.125}, 32, "cpu")
    assert 0 < result["seconds"] < 60
    assert 50e6 < result["bytes"] < 50e9  # torch alone takes more than 50 MB


def test_measuring_needs_no_training_framework():
    code = (
        "import sys, aimmat.bench; "
        "print([m for m in ('lightning', 'hydra', 'omegaconf', 'wandb', 'torchmetrics') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
