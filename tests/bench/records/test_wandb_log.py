"""Runs at Weights & Biases: what is written offline is read back from wandb's own files."""

import sys
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import get_args

import pytest

from bench import train
from bench.errors import UserError
from bench.experiments import arms, cells
from bench.loop import Progress
from bench.records import store, to_wandb, wandb_log
from bench.staleness import lag
from bench.types import Records
from reproductions import run as script
from reproductions.reproduction import Reproduction
from tests.bench import fakes, runs

ID = "0123456789ab-s0"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Work in an empty directory, and return what reads back the runs that were written there."""
    wandb = pytest.importorskip("wandb")
    from tests.bench import wandb_files

    def read():
        wandb.teardown()  # its service writes to the end only when it ends
        return wandb_files.runs(tmp_path)

    monkeypatch.chdir(tmp_path)
    yield read
    wandb.teardown()  # it reads its environment once


@pytest.fixture
def sent(monkeypatch):
    """Put a fake in place of wandb; return the rows that were logged for each run."""

    class Sent(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def log(self, row, step):
            self.append((step, row))

    found = {}
    wandb = ModuleType("wandb")
    wandb.__spec__ = ModuleSpec("wandb", None)
    wandb.Settings = dict
    wandb.errors = SimpleNamespace(Error=OSError)
    wandb.init = lambda **options: found.setdefault(options["id"], Sent())
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return found


def job(config):
    (models,) = fakes.MODELS.values()
    return cells.Job("a run", ID, config.updates, cells.Cell(config, models))


def follow(config):
    """Do a run, which is sent as it goes."""
    trained = cells.train_cell(job(config), lambda *_: None, origin=fakes.PROVENANCE,
                               wandb="offline")  # fmt: skip
    return trained.result


def test_history_is_by_updates_done():
    steps = [
        {"run_id": "a", "step": 0, "loss": 0.5, "metrics": {"kl": 0.1}},
        {"run_id": "a", "step": 1, "loss": 0.25, "metrics": {}},
    ]
    evals = [
        {"run_id": "a", "step": 0, "win_rate": 0.5, "kl_nats": float("nan")},
        {"run_id": "a", "step": 2, "win_rate": 0.75, "kl_nats": 2.0},
    ]
    assert wandb_log.history(steps, evals) == {
        0: {"eval/win_rate": 0.5},
        1: {"train/loss": 0.5, "train/kl": 0.1},
        2: {"train/loss": 0.25, "eval/win_rate": 0.75, "eval/kl_nats": 2.0},
    }


def test_a_run_that_is_followed_has_its_configuration_and_all_its_numbers(offline, monkeypatch):
    def real(config, _models, on_progress, _execution, _ranks):  # the loop with a random model
        return runs.run(config, runs.inline(config))[0].execute(on_progress)

    monkeypatch.setattr("bench.loop.train", real)
    config = runs.config(lag(1))
    result = follow(config)
    written = offline()[ID]
    assert written["name"] == "online_dpo lag(1) fake seed 0"
    assert (written["group"], written["project"]) == (config.config_hash(), "async-rlhf-bench")
    run = written["config"].pop("run")
    assert (run["seed"], run["config_hash"]) == (0, config.config_hash())
    assert written["config"] == config.cell()
    # evaluated after 0, 3, 6 and 8 updates: as the loop's own records say, and nothing twice
    assert sorted(written["rows"]) == list(range(9))
    for step in result.steps:
        row = written["rows"][step.step + 1]
        expected = {name: value for name, value in asdict(step).items() if value is not None}
        metrics = expected.pop("metrics")
        del expected["step"]
        train_row = {f"train/{name}": value for name, value in {**expected, **metrics}.items()}
        assert {name: row[name] for name in row if name.startswith("train/")} == train_row
    for record in result.evals:
        row = written["rows"][record.step]
        expected = {f"eval/{name}": value for name, value in asdict(record).items()}
        del expected["eval/step"]
        assert {name: row[name] for name in row if name.startswith("eval/")} == expected
    assert [e.step for e in result.evals] == [0, 3, 6, 8]


def two_updates(config, sent, monkeypatch):
    """Make a run one of two updates; return a list that gets the number of rows sent after each."""
    result, seen = fakes.result(config), []
    result.steps, result.evals = result.steps[:2], result.evals[:2]

    def reporting(_config, _models, on_progress, _execution, _ranks):
        for done in (1, 2):
            records = Records(result.steps[:done], result.evals[:1], [], [], [])
            on_progress(Progress(done, 0.5, records=records))
            seen.append(len(sent.get(ID, [])))
        return result

    monkeypatch.setattr("bench.loop.train", reporting)
    return seen


def test_rows_are_sent_as_the_run_goes_each_once(sent, monkeypatch):
    seen = two_updates(fakes.config(), sent, monkeypatch)
    follow(fakes.config())
    # the first evaluation and an update; an update; the second evaluation, at the same update
    assert seen == [2, 3]
    assert [step for step, _ in sent[ID]] == [0, 1, 2, 2]
    assert "eval/win_rate" in sent[ID][-1][1]


def test_a_timed_run_is_sent_when_it_has_ended(sent, monkeypatch):
    config = arms.arm(fakes.config(), "whole")
    seen = two_updates(config, sent, monkeypatch)
    follow(config)
    assert seen == [0, 0]
    assert [step for step, _ in sent[ID]] == [0, 1, 2]


def test_a_figure_is_a_run_of_its_own(offline, tmp_path, capsys):
    def draw(_record):
        from matplotlib import pyplot

        return pyplot.figure()

    one = Reproduction(name="fig_one", caption="A figure.", grid=lambda _: [fakes.config()],
                       draw=draw)  # fmt: skip
    fakes.write(tmp_path / "mine", fakes.config())
    asked = ["--preset", "smoke", "--replot", "--wandb", "offline", "--out", str(tmp_path / "mine")]
    assert script.main([one], asked) == 0, capsys.readouterr().err
    written = offline()["fig_one-smoke"]
    assert written["name"] == "fig_one smoke"
    (image,) = tmp_path.glob("wandb/offline-run-*/files/media/images/fig_one_0_*.png")
    assert image.read_bytes() == (tmp_path / "mine/figures/fig_one.png").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        lambda out: train.main(["--wandb", "offline", "--out", out]),
        lambda out: script.main(
            [Reproduction(name="fig_one", caption="")], ["--wandb", "offline", "--out", out]
        ),
        lambda out: to_wandb.main([out]),
    ],
    ids=["train", "figure", "to_wandb"],
)
def test_without_wandb_one_line_is_said_before_any_work(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(wandb_log, "find_spec", lambda _: None)
    assert command(str(tmp_path / "out")) == 2
    assert capsys.readouterr().err == ("error: wandb is not installed: install the extra [wandb]\n")
    assert not (tmp_path / "out").exists()


def test_online_needs_a_key_before_any_work(monkeypatch):
    wandb = pytest.importorskip("wandb")

    def refuse():
        raise wandb.errors.UsageError("No API key configured.\nLog in.")

    monkeypatch.setattr(wandb, "login", refuse)
    with pytest.raises(UserError, match=r"^wandb: No API key configured\. Log in\.$"):
        wandb_log.require("online")


def test_the_modes_are_those_of_wandb():
    wandb = pytest.importorskip("wandb")
    assert get_args(wandb.Settings.model_fields["mode"].annotation) == wandb_log.MODES


def test_finished_runs_have_their_own_numbers(offline, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    some = [fakes.config(seed=0), fakes.config(seed=1)]
    ids = [fakes.write(tmp_path / "results", run) for run in some]
    nothing = fakes.result(fakes.config(seed=2), "diverged")
    nothing.steps, nothing.evals = [], []
    ids.append(
        store.write_run(
            tmp_path / "results", fakes.config(seed=2), nothing, preset="smoke",
            weights_digest="0123456789ab", provenance=fakes.PROVENANCE,
        )
    )  # fmt: skip
    assert to_wandb.main([str(tmp_path / "results")]) == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert f"3 runs of {tmp_path}/results are in project async-rlhf-bench" in out
    written = offline()
    assert sorted(written) == sorted(ids)
    for run, run_id in zip(some, ids, strict=False):
        expected = fakes.result(run)
        rows = written[run_id]["rows"]
        losses = {step: row["train/loss"] for step, row in rows.items() if step > 0}
        assert losses == {one.step + 1: one.loss for one in expected.steps}
        wins = {step: row["eval/win_rate"] for step, row in rows.items() if "eval/win_rate" in row}
        assert wins == {e.step: e.win_rate for e in expected.evals}
        assert written[run_id]["config"]["run"]["status"] == "completed"
    assert written[ids[2]]["rows"] == {}
