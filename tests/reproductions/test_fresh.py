"""What ``--fresh`` deletes, and whose it is."""

import json

import pytest

from bench.errors import UserError
from bench.experiments.sweep import locked
from bench.records.marker import MARKER, mark, mark_made_by
from reproductions import fresh
from reproductions import run as script
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from tests.bench import fakes

NOT_OURS = "so it may not be this suite's"
STRANGERS = (
    "checkpoints/model.bin",
    "checkpoints/model-0123456789ab/weights.bin",
    "checkpoints/best/provenance.json",
    "logs/app.txt",
    "logs/app.log",
    "figures/plot.png",
    "figures/fig_offpolicy_ppo.psd",
    "samples/a.wav",
    "samples/sales.parquet",
    "runs/notes/today.txt",
    "unfinished/novel.txt",
    "tuning.parquet",
    "throughput/20240101T000000.parquet",
)
OWN = (
    "steps/0123456789ab-s0.parquet",
    "evals/0123456789ab-s12.parquet",
    "samples/0123456789ab-s0.parquet",
    "spans/0123456789ab-s0.parquet",
    "runs.parquet",
    "steps.parquet",
    "evals.parquet",
    "samples.parquet",
    "spans.parquet",
    "checkpoints/sft-0.1m-0123456789ab/provenance.json",
    "checkpoints/sft-0.1m-0123456789ab/model.safetensors",
    "checkpoints/reward-owner--name-0123456789ab-s12/provenance.json",
    "checkpoints/0.1m-0123456789ab/provenance.json",  # of before they were kept apart
    "checkpoints/0.1m-0123456789ab/sft/model.safetensors",
    "unfinished/0123456789ab-s0/state.json",
    "figures/fig_schedule.png",
    "figures/fig_schedule.svg",
    "figures/fig_schedule_split.trace.json",
    "figures/table_sft.parquet",
    "figures/ablation_lr_schedule.parquet",
    "logs/0123456789ab-s0.log",
    "logs/sft-0.1m-0123456789ab.log",
    "logs/reward-0.1m-0123456789ab-s0.log",
    "logs/worker-77.log",
    "report.html",
)


def touch(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def files(root):
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def _sound(monkeypatch):
    """Let every run be possible, with no model to start from."""

    def stop(*_, **__):
        raise UserError("stopped before anything is trained")

    monkeypatch.setattr(script, "check", lambda *_: None)
    monkeypatch.setattr(script, "starting_models", stop)


def run_fresh(capsys, out):
    """Return the one line on stderr of a command that must end with status 2."""
    assert script.main([PPO], ["--fresh", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_of_a_marked_directory_only_what_is_the_suites_by_its_name_goes(tmp_path):
    touch(tmp_path, STRANGERS + OWN)
    mark(tmp_path)
    fresh.delete(tmp_path)
    assert files(tmp_path) == {*STRANGERS, MARKER}


def test_one_file_of_many_runs_may_be_anothers(tmp_path):
    touch(tmp_path, ["runs.parquet"])
    with pytest.raises(UserError, match=r"would delete runs.* in runs\.parquet; choose"):
        fresh.delete(tmp_path)
    assert files(tmp_path) == {"runs.parquet"}


def test_a_link_goes_and_not_what_it_points_to(tmp_path):
    touch(tmp_path / "elsewhere", ["provenance.json", "sft/model.safetensors"])
    (tmp_path / "out" / "checkpoints").mkdir(parents=True)
    link = tmp_path / "out" / "checkpoints" / "0.1m-0123456789ab"
    link.symlink_to(tmp_path / "elsewhere")
    mark(tmp_path / "out")
    fresh.delete(tmp_path / "out")
    assert not link.is_symlink()
    assert files(tmp_path / "elsewhere") == {"provenance.json", "sft/model.safetensors"}


@pytest.mark.usefixtures("_sound")
def test_a_strangers_directory_is_refused_and_nothing_in_it_touched(tmp_path, capsys):
    touch(tmp_path, STRANGERS)
    assert run_fresh(capsys, tmp_path) == (
        f"error: --fresh: {tmp_path} has no .async-rlhf-bench, so it may not be this suite's, and "
        "--fresh would delete runs, models, figures and logs in runs, samples, unfinished, "
        "checkpoints, figures, logs; choose another --out, or move these away"
    )
    assert files(tmp_path) == {*STRANGERS, ".lock"}
    # the lock of this attempt makes the directory no more the suite's
    assert NOT_OURS in run_fresh(capsys, tmp_path)


@pytest.mark.usefixtures("_sound")
@pytest.mark.parametrize("there", [(), ("README.md", "src/main.py")])
def test_a_directory_without_such_folders_is_taken(tmp_path, capsys, there):
    touch(tmp_path, there)
    assert run_fresh(capsys, tmp_path) == "error: stopped before anything is trained"


def test_results_made_before_the_marker_are_the_suites(tmp_path):
    run_id = fakes.write(tmp_path, fakes.config())
    touch(tmp_path, STRANGERS)
    with pytest.raises(UserError, match=NOT_OURS):
        fresh.delete(tmp_path)
    with locked(tmp_path):
        fresh.delete(tmp_path)
    assert not (tmp_path / "runs" / f"{run_id}.parquet").exists()
    assert files(tmp_path) == {*STRANGERS, ".lock"}


def test_parquet_files_of_others_make_no_directory_the_suites(tmp_path):
    import pandas as pd

    touch(tmp_path, [".lock", "runs/0123456789ab-s0.parquet"])
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "runs" / "0123456789ab-s1.parquet")
    with pytest.raises(UserError, match=NOT_OURS):
        fresh.delete(tmp_path)


def test_the_marker_says_what_made_it(tmp_path):
    mark(tmp_path)
    found = json.loads((tmp_path / MARKER).read_text())
    assert found == {"schema_version": 2, "made_by": "async-rlhf-bench 0.1.0"}


def test_the_marker_accrues_what_made_the_runs(tmp_path):
    one = {"git_revision": "f" * 40, "git_dirty": False, "python": "3.11.7", "torch": "2.13.0",
           "transformers": "5.23.0", "trl": None, "host_cpu": "not said"}  # fmt: skip
    mark(tmp_path)
    mark_made_by(tmp_path, one, {"tldr_tiny 0.1m": "a" * 12})
    before = (tmp_path / MARKER).read_bytes()
    mark_made_by(tmp_path, one, {"tldr_tiny 0.1m": "a" * 12})
    assert (tmp_path / MARKER).read_bytes() == before
    mark_made_by(tmp_path, one, {"tldr_tiny 0.1m": "b" * 12})
    mark_made_by(tmp_path, {**one, "git_revision": "e" * 40}, {"tldr_tiny 0.1m": "b" * 12})
    found = json.loads((tmp_path / MARKER).read_text())
    assert (found["schema_version"], found["made_by"]) == (2, "async-rlhf-bench 0.1.0")
    since = [entry.pop("since_utc") for entry in found["runs_made_by"]]
    del one["host_cpu"]
    assert found["runs_made_by"] == [
        {**one, "weights": {"tldr_tiny 0.1m": "a" * 12}},
        {**one, "weights": {"tldr_tiny 0.1m": "b" * 12}},
        {**one, "git_revision": "e" * 40, "weights": {"tldr_tiny 0.1m": "b" * 12}},
    ]
    assert since == sorted(since)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs_made_by": 3}'])
def test_a_damaged_marker_is_written_anew(tmp_path, text):
    (tmp_path / MARKER).write_text(text)
    mark_made_by(tmp_path, {}, {"tldr_tiny 0.1m": "a" * 12})
    assert len(json.loads((tmp_path / MARKER).read_text())["runs_made_by"]) == 1


def test_what_replot_and_a_sweep_write_is_marked(tmp_path):
    from tests.bench.experiments.test_sweep import run

    run(tmp_path / "swept", [fakes.config()])
    assert (tmp_path / "swept" / MARKER).is_file()
    fakes.write(tmp_path / "drawn", PPO.grid(script.parse("", []))[0], preset="tiny")
    assert script.main([PPO], ["--replot", "--out", str(tmp_path / "drawn")]) == 0
    assert (tmp_path / "drawn" / MARKER).is_file()


def test_a_directory_where_the_lock_should_be(tmp_path, capsys):
    (tmp_path / ".lock").mkdir()
    assert run_fresh(capsys, tmp_path) == (
        f"error: cannot write {tmp_path}/.lock: Is a directory; delete it"
    )


def test_a_file_where_the_logs_should_be(tmp_path):
    from tests.bench.experiments.test_sweep import run

    (tmp_path / "logs").touch()
    with pytest.raises(UserError) as raised:
        run(tmp_path, [fakes.config()])
    assert str(raised.value) == (
        f"results directory {tmp_path}/logs is not writable: File exists; choose another with --out"
    )
