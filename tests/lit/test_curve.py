"""metrics.csv is the one curve of a run, also of one that goes on."""

from aimmat.lit import CurveLogger


def test_a_line_gathers_what_is_logged_of_a_step(tmp_path):
    logger = CurveLogger(tmp_path)
    logger.log_metrics({"lr": 0.5}, 0)
    logger.log_metrics({"loss": 1.25}, 0)
    logger.log_metrics({"loss": 0.1}, 1)
    logger.finalize("success")
    assert (tmp_path / "metrics.csv").read_text() == "stage,step,lr,loss\n,0,0.5,1.25\n,1,,0.1\n"


def test_steps_are_those_of_their_stage(tmp_path):
    logger = CurveLogger(tmp_path)
    for stage in ("saliency", "matting"):
        logger.stage = stage
        logger.log_metrics({"lr": 1.0}, 0)
    logger.flush()
    assert (tmp_path / "metrics.csv").read_text() == "stage,step,lr\nsaliency,0,1.0\nmatting,0,1.0\n"


def test_a_run_that_goes_on_keeps_what_there_is_and_replaces_what_it_makes_again(tmp_path):
    logger = CurveLogger(tmp_path)
    for step, loss in enumerate((3.0, 2.0, 9.0)):
        logger.log_metrics({"loss": loss}, step)
    logger.flush()
    logger = CurveLogger(tmp_path)
    for step, loss in ((2, 1.0), (3, 0.5)):
        logger.log_metrics({"loss": loss, "sad": loss}, step)
    logger.flush()
    assert (tmp_path / "metrics.csv").read_text() == "stage,step,loss,sad\n,0,3.0,\n,1,2.0,\n,2,1.0,1.0\n,3,0.5,0.5\n"


def test_the_first_line_is_written_at_once_and_later_ones_now_and_then(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("aimmat.lit.curve.time.monotonic", lambda: now[0])
    logger = CurveLogger(tmp_path)
    for step in range(4):
        logger.log_metrics({"loss": 1.0}, step)
        logger.save()
        now[0] += 4
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 4  # at 100 and, 10 seconds later, at 112
    logger.log_metrics({"loss": 1.0}, 4)
    logger.save()
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 1 + 4
