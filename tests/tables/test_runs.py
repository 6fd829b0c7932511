"""Runs are found and read back from their folders; what cannot be read is said in one sentence."""

import re
from pathlib import Path
from runpy import run_path

import pytest
from omegaconf import OmegaConf

from aimmat.schema import AimmatError
from aimmat.tables import write_rows
from aimmat.tables.runs import find_runs, read_run, read_runs, run_name, switches

made = run_path(str(Path(__file__).parent / "folders.py"))
make_run, settings, some_rows, ON = made["make_run"], made["settings"], made["some_rows"], made["ON"]


def test_a_run_is_read_back(tmp_path):
    run = read_run(make_run(tmp_path / "a", "uni tl se", seed=3))
    assert (run.name, run.method, run.seed) == ("demo-uni+tl+se-s3", "demo-uni+tl+se", 3)
    assert run.switches == {"uni": True, "tl": True, "mp": False, "se": True, "sa": False}
    assert run.ablation == "uni_tl_se"
    assert run.rows == some_rows()
    assert run.epochs == {"saliency": 2, "matting": 7}


@pytest.mark.parametrize("row", ON)
def test_switches_and_name_are_read_from_plain_and_from_composed_configs(row):
    config = settings(ON[row], seed=5, protocol="release")
    for either in (config, OmegaConf.create(config)):
        assert {name for name, on in switches(either).items() if on} == set(ON[row].split())
        assert run_name(either) == f"demo-{'+'.join(ON[row].split()) or 'none'}-release-s5"


def test_the_trainers_cap_holds_for_every_stage(tmp_path):
    assert read_run(make_run(tmp_path / "a", trainer={"max_epochs": 3})).epochs == {"saliency": 2, "matting": 3}


def test_the_test_set_is_the_data_set_of_the_test_not_what_the_run_calls_its_data(tmp_path):
    sample, paper = read_run(make_run(tmp_path / "a")), read_run(make_run(tmp_path / "b", data="aim500"))
    assert (sample.test_set, sample.natural) == ("sample", False)
    assert (paper.config["data_name"], paper.test_set, paper.natural) == ("paper", "aim500", True)


def test_figures_of_the_semantic_decoder_are_read_by_group(tmp_path):
    run = make_run(tmp_path / "a")
    assert read_run(run).semantic == {}
    (run / "semantic.csv").write_text("group,iou,accuracy\nall,0.25,0.5\nSO,0.75,1\n")
    assert read_run(run).semantic == {"all": {"iou": 0.25, "accuracy": 0.5}, "SO": {"iou": 0.75, "accuracy": 1.0}}


def test_costs_are_those_of_the_stages_that_left_them(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "matting").mkdir()
    (run / "matting" / "cost.json").write_text('{"seconds": 61.5, "steps": 21, "epochs": 7, "devices": 1}')
    assert read_run(run).costs == {"matting": {"seconds": 61.5, "steps": 21, "epochs": 7, "devices": 1}}


def test_scores_without_settings_are_a_run_called_as_their_folder(tmp_path):
    write_rows(tmp_path / "theirs" / "rows.csv", some_rows())
    run = read_run(tmp_path / "theirs")
    assert (run.name, run.method, run.seed, run.ablation, run.switches) == ("theirs", "theirs", None, None, {})
    assert (run.test_set, run.natural, run.epochs, run.costs) == ("unknown images", None, {}, {})
    assert run.measured_by == "aim"
    write_rows(tmp_path / "matlab" / "rows.csv", some_rows(), method="theirs", protocol="matlab")
    assert read_run(tmp_path / "matlab").measured_by == "matlab"


def test_a_run_that_is_not_finished_says_how_to_go_on(tmp_path):
    run = make_run(tmp_path / "a", rows=[])
    with pytest.raises(AimmatError, match=re.escape(f"{run} is not finished") + ".*resume=" + re.escape(str(run))):
        read_run(run)


def test_a_run_without_a_test_of_mattes_is_finished_all_the_same(tmp_path):
    run = make_run(tmp_path / "a", rows=[])
    (run / "backbone.pth").touch()
    with pytest.raises(AimmatError, match="trained a backbone, which has no test of mattes; leave it out"):
        read_run(run)


def test_what_is_no_run_is_said_in_one_sentence(tmp_path):
    with pytest.raises(AimmatError, match=r"is not a run's folder: it has neither config.yaml nor rows.csv"):
        read_run(tmp_path)
    run = make_run(tmp_path / "a")
    (run / "config.yaml").write_text("seed: [1")
    with pytest.raises(AimmatError, match=r"config.yaml is not the settings of a run \(ParserError"):
        read_run(run)
    (run / "config.yaml").write_text("seed: 1")
    with pytest.raises(AimmatError, match=r"config.yaml is not the settings of a run \(KeyError"):
        read_run(run)
    (run / "config.yaml").write_text("")
    with pytest.raises(AimmatError, match=r"config.yaml is not the settings of a run"):
        read_run(run)
    (run / "rows.csv").write_text("name,type,category,sad\n")
    with pytest.raises(AimmatError, match="holds no image"):
        read_run(run)


def test_a_sweep_is_its_jobs_in_the_order_of_their_numbers(tmp_path):
    for job in (10, 2, 0):
        make_run(tmp_path / "sweep" / str(job))
    (tmp_path / "sweep" / "multirun.yaml").write_text("")
    names = [run.name for run in find_runs([tmp_path / "sweep"])]
    assert names == ["0", "2", "10"]
    assert [run.name for run in find_runs([tmp_path])] == names  # a folder of sweeps


def test_a_run_is_not_searched_for_runs_inside(tmp_path):
    run = make_run(tmp_path / "a")
    make_run(run / "wandb" / "copy")
    assert find_runs([tmp_path]) == [run]


def test_patterns_paths_and_repetitions(tmp_path):
    a, b, other = (make_run(tmp_path / name) for name in ("run_a", "run_b", "other"))
    assert find_runs([tmp_path / "run_*"]) == [a, b]
    assert find_runs([other, a, tmp_path / "*"]) == [other, a, b]
    with pytest.raises(AimmatError, match=r"there is no folder .*nothing_[*]; name runs"):
        find_runs([tmp_path / "nothing_*"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(AimmatError, match=r"there is no run in .*empty"):
        find_runs([tmp_path / "empty"])


def test_what_is_not_finished_is_left_out_by_name_unless_nothing_else_is_there(tmp_path):
    make_run(tmp_path / "0", seed=1)
    make_run(tmp_path / "1", seed=2, rows=[])
    (tmp_path / "2" / ".hydra").mkdir(parents=True)  # a job that was refused before it wrote its settings
    runs, left_out = read_runs([tmp_path])
    assert [run.seed for run in runs] == [1]
    assert [sentence.split(" is not finished")[0] for sentence in left_out] == [
        f"the run {tmp_path / job}" for job in ("1", "2")
    ]
    with pytest.raises(AimmatError, match=r"1 is not finished.*\(and 1 more\)"):
        read_runs([tmp_path / "1", tmp_path / "2"])
