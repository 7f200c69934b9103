"""Runs on machines that never were: where each side goes, what is refused and what would fit."""

import json
from dataclasses import replace

import pytest

from bench import train
from bench.config import Execution
from bench.errors import UserError
from bench.experiments.presets import preset
from bench.planning import fit
from bench.planning.fit import needed, placed, require_fits, shapes
from bench.planning.memory import Shape
from bench.staleness import ON_POLICY, lag

H100, SMALL = 85_520_809_984, 32 * 2**30  # bytes; nvidia-smi: 81559 MiB
OVERLAPPED = Execution(source="overlapped")


def run(name="paper", model=None, algorithm="online_dpo", schedule=ON_POLICY):
    return preset(name).run_config(algorithm, schedule, model=model)


def at_once(config):
    """Return the same run with all rows generated at once."""
    return replace(config, engine_rows=None)


@pytest.fixture
def machine(monkeypatch):
    """Return a function that makes this machine one with GPUs, and much memory beside."""

    def install(*gpus_bytes, host_bytes=2**40):
        names = tuple(str(i) for i in range(len(gpus_bytes)))
        monkeypatch.setattr(fit, "inventory", lambda: names)
        monkeypatch.setattr(
            fit, "memory_bytes", lambda _: dict(zip(names, gpus_bytes, strict=True))
        )
        monkeypatch.setattr(fit, "host_bytes", lambda: host_bytes)
        return names

    return install


@pytest.mark.parametrize(
    ("execution", "gpus", "expected"),
    [
        (Execution(), (), ("cpu", None)),
        (OVERLAPPED, (), ("cpu", "cpu")),
        (Execution(), ("A", "B"), ("A", None)),
        (OVERLAPPED, ("A",), ("A", "A")),
        (OVERLAPPED, ("A", "B", "C"), ("A", "B")),
        (Execution(device="cuda:1"), ("A", "B"), ("B", None)),
        (Execution(source="overlapped", device="cuda:1"), ("A", "B"), ("B", "A")),
        (Execution(source="overlapped", engine_device="cpu"), ("A", "B"), ("A", "cpu")),
        (Execution(source="overlapped", device="cpu"), ("A",), ("cpu", "cpu")),
        (Execution(source="overlapped", workers="ray"), ("A",), ("A", None)),
    ],
)
def test_each_side_is_where_it_will_compute(execution, gpus, expected):
    assert placed(run(), execution, gpus) == expected


@pytest.mark.parametrize(
    ("model", "algorithm", "gigabytes"),
    [
        ("410m", "online_dpo", (38, 83)),
        ("410m", "rloo", (38, 53)),
        ("1b", "online_dpo", (59, 118)),
        ("2.8b", "online_dpo", (134, 279)),
    ],
)
def test_what_the_papers_models_need_in_one_process_on_one_gpu(model, algorithm, gigabytes):
    config = run(model=model, algorithm=algorithm)
    found = [needed(one, Execution(), ("0",)) for one in (config, at_once(config))]
    assert tuple(round(one["0"].peak / 1e9) for one in found) == gigabytes


@pytest.mark.parametrize(
    ("config", "execution", "gpus", "said"),
    [
        (
            at_once(run(model="1b")),
            Execution(),
            (H100,),
            "model 1b, online_dpo: needs 118.4 GB on 0, which has 85.5 GB; "
            "--engine-rows 512 would fit",
        ),
        (
            at_once(run(model="1b")),
            Execution(),
            (H100, 141 * 10**9),
            "--execution.source overlapped would fit",
        ),
        (
            run("small"),
            Execution(),
            (SMALL,),
            "needs 38.5 GB on 0, which has 34.4 GB; "
            "--engine-rows 128 --microbatch-rows 16 would fit",
        ),
        (
            run("small"),
            OVERLAPPED,
            (SMALL, SMALL),
            "--microbatch-rows 16 would fit",
        ),
        (
            run(model="2.8b"),
            Execution(),
            (H100,),
            "the smallest batch needs 96.3 GB, so only a smaller --model would fit",
        ),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_what_would(machine, config, execution, gpus, said):
    machine(*gpus)
    with pytest.raises(UserError) as raised:
        require_fits(config, execution)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_would_fit_does(machine):
    machine(H100)
    config = at_once(run(model="1b"))
    require_fits(replace(config, engine_rows=512), Execution())
    with pytest.raises(UserError):
        require_fits(config, Execution())
    # Another engine fits its cache to what is free: such parts are not its own.
    machine(2 * 10**9)
    with pytest.raises(UserError, match="so only a smaller --model would fit"):
        require_fits(replace(config, engine="vllm"), OVERLAPPED)


def test_runs_that_fit_and_devices_that_are_unknown_are_let_through(machine, monkeypatch):
    machine(H100)
    require_fits(run("small"), Execution())
    require_fits(run("tiny"), OVERLAPPED)
    monkeypatch.setattr(fit, "memory_bytes", lambda _: {})  # MIG, or another vendor's
    require_fits(run(model="2.8b"), Execution())
    machine(host_bytes=10**9)  # no GPU
    with pytest.raises(UserError, match=r"on cpu, which has 1\.0 GB"):
        require_fits(run("small"), Execution())


def test_a_lag_keeps_more_snapshots():
    base = needed(run(), Execution(), ("0",))["0"]
    later = needed(run(schedule=lag(3)), Execution(), ("0",))["0"]
    assert later.lasting["snapshots"] == 5 * base.lasting["snapshots"]


def test_shapes_are_those_of_the_checkpoints_in_a_hub_directory(tmp_path, monkeypatch):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 32, "vocab_size": 60}
    for name in ("sft-tldr", "rm-tldr6.9b"):
        folder = tmp_path / f"mnoukhov/pythia410m-{name}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(sizes))
    monkeypatch.setenv("ASYNC_RLHF_HUB_DIR", str(tmp_path))
    small = Shape(hidden=8, layers=1, inner=32, vocabulary=60)
    assert shapes(run("small")) == (small, small)


def test_the_front_door_refuses_before_anything_is_loaded(machine, monkeypatch, tmp_path, capsys):
    machine(SMALL)
    monkeypatch.setattr(train, "check", lambda *_, **__: pytest.fail("went on"))
    out = tmp_path / "results"
    assert train.main(["--preset", "small", "--out", str(out)]) == 2
    assert capsys.readouterr().err == (
        "error: model 410m, online_dpo: needs 38.5 GB on 0, which has 34.4 GB; "
        "--engine-rows 128 --microbatch-rows 16 would fit\n"
    )
    assert not out.exists()
