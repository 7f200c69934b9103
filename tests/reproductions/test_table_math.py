"""The table on maths: what is run at each preset, and what is told of made-up runs."""

import math

import pytest
from rich.console import Console

from bench.errors import UserError
from bench.experiments.arms import timed_arm
from bench.experiments.presets import preset
from bench.records import store
from bench.staleness import ON_POLICY, lag
from bench.tasks import arithmetic
from plots.analysis import claims, registry
from reproductions import run as script
from reproductions.fig_offpolicy_ppo import REPRODUCTION as PPO
from reproductions.loading import load
from reproductions.options import Options, parse
from reproductions.reproduction import CLAIMS
from reproductions.table_math import REPRODUCTION, SYNC, tabulate
from tests.bench import fakes

WORTH = REPRODUCTION.asked(Options(preset=preset("worth")))


def told(cells, options):
    return [(REPRODUCTION.arm(c, options.preset), c.algorithm.name, str(c.schedule)) for c in cells]


def test_the_first_algorithm_has_all_arms_with_four_completions():
    cells = REPRODUCTION.grid(WORTH)
    assert told(cells, WORTH) == [
        ("sync", "online_dpo", "on_policy"), ("sync, all cores", "online_dpo", "on_policy"),
        ("async", "online_dpo", "lag(1)"), ("sync", "rloo", "on_policy"),
        ("sync", "ppo", "on_policy"),
    ]  # fmt: skip
    assert {cell.algorithm.completions_per_prompt for cell in cells} == {4}
    assert cells[0].algorithm.identity()["completions_per_prompt"] == 4
    assert {(cell.stage.task.name, cell.stage.model) for cell in cells} == {("arithmetic", "0.06m")}
    assert [timed_arm(cell) for cell in cells] == ["split", "whole", "overlapped", "split", "split"]


def test_smoke_is_not_timed():
    smoke = REPRODUCTION.asked(parse("", ["--preset", "smoke", "--algorithms", "ppo,rloo"]))
    cells = REPRODUCTION.grid(smoke)
    assert told(cells, smoke) == [
        ("sync", "ppo", "on_policy"), ("async", "ppo", "lag(1)"), ("sync", "rloo", "on_policy"),
    ]  # fmt: skip
    assert {timed_arm(cell) for cell in cells} == {None}


def test_at_the_papers_preset_it_is_gsm8k_and_another_task_only_where_it_is_named():
    paper = REPRODUCTION.asked(parse("", ["--preset", "paper", "--engine", "vllm"]))
    (first, *_) = REPRODUCTION.grid(paper)
    assert (first.stage.task.name, first.stage.model, first.updates) == ("gsm8k", "1b", 512)
    assert (first.prompts_per_batch, first.engine) == (252, "vllm")
    named = parse("", ["--preset", "worth", "--task", "tldr_tiny"])
    assert REPRODUCTION.asked(named) is named
    usual = parse("", ["--preset", "worth"])
    assert PPO.asked(usual) is usual


def write(place, seeds, outcomes, train_s=(1.0, 0.5)):
    """Write made-up runs at preset worth, their last win rates and outcomes by (arm, algorithm).

    Args:
        place: the results directory.
        seeds: of the runs.
        outcomes: by (arm, algorithm), for each seed which of 20 prompts are won.
        train_s: seconds of an update, synchronous and asynchronous.
    """
    for cell in REPRODUCTION.grid(WORTH):
        arm = REPRODUCTION.arm(cell, WORTH.preset)
        for at, seed in enumerate(seeds):
            run_id = fakes.write(place, cell.with_seed(seed), preset="worth")
            won = outcomes[arm, cell.algorithm.name][at]
            _change(place, run_id, "outcomes", lambda rows, won=won: _outcomes(rows, won))
            _change(place, run_id, "evals", lambda rows, won=won: _last(rows, len(won) / 20))
            second = train_s[arm == "async"]
            ties = [0.25, 0.75] * (cell.updates // 2)
            _change(
                place, run_id, "steps",
                lambda rows, ties=ties, second=second, cell=cell: [
                    {**row, "wait_s": second - 0.3, "score_s": 0.1, "learn_s": 0.1,
                     "publish_s": 0.1, "generate_s": 0.2,
                     "metrics": {"tie_fraction": tie} if cell.algorithm.name == "online_dpo"
                     else {}}
                    for row, tie in zip(rows, ties, strict=True)
                ],
            )  # fmt: skip


def _change(place, run_id, table, change):
    path = place / table / f"{run_id}.parquet"
    rows = store.load(path, table).to_pylist(maps_as_pydicts="strict")
    store.write_table(path, table, change(rows))


def _outcomes(rows, won):
    return [
        {**rows[0], "prompt_id": at, "outcome": "win" if at in won else "loss"} for at in range(20)
    ]


def _last(rows, win_rate):
    return [*rows[:-1], {**rows[-1], "win_rate": win_rate}]


def loaded(place):
    runs = REPRODUCTION.grid(WORTH)
    apart = REPRODUCTION.apart(runs, WORTH.preset)
    return load(place, runs, WORTH.preset, all_seeds=True, **apart)


SYNC_WON, ASYNC_WON = [range(10), range(8)], [range(2, 12), range(8)]
WON = {
    ("sync", "online_dpo"): SYNC_WON, ("async", "online_dpo"): ASYNC_WON,
    ("sync, all cores", "online_dpo"): SYNC_WON, ("sync", "rloo"): [range(4), range(6)],
    ("sync", "ppo"): [range(20), range(20)],
}  # fmt: skip


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    place = tmp_path_factory.mktemp("record")
    write(place, (0, 1), WON)
    return loaded(place)


def test_the_table_has_pass_at_1_mcnemar_tost_time_and_equal_groups(record):
    table = tabulate(record, WORTH)
    assert table[["algorithm", "arm"]].fillna("").to_numpy().tolist() == [
        ["sft", ""], ["online_dpo", "sync"], ["online_dpo", "async"],
        ["online_dpo", "sync, all cores"], ["ppo", "sync"], ["rloo", "sync"],
    ]  # fmt: skip
    # the made-up SFT win rate; (10 + 8) / 40, the same, the same; 1; (4 + 6) / 40
    assert table["pass_at_1"].tolist() == pytest.approx([0.5, 0.45, 0.45, 0.45, 1.0, 0.25])
    # 256 updates of 1 s, or of half a second
    assert table["train_s"].tolist()[1:] == pytest.approx([256, 128, 256, 256, 256])
    assert table["equal_groups"].tolist()[1:4] == pytest.approx([0.5] * 3)
    assert table["equal_groups"].tolist()[4:] == pytest.approx([float("nan")] * 2, nan_ok=True)
    compared = table.iloc[2]
    # seed 0: prompts 10 and 11 against 0 and 1, p = 1; seed 1: none; 2 x 1 is at most 1
    assert compared[["async_only", "sync_only", "mcnemar_p"]].tolist() == [2, 2, 1]
    assert (compared["difference"], compared["tost_p"]) == (0, 0)
    assert table.drop(index=2)[["mcnemar_p", "tost_p"]].isna().all(axis=None)


def test_a_seed_that_differs_shows_in_mcnemar_and_not_as_equal(tmp_path):
    worse = {**WON, ("async", "online_dpo"): [range(1), range(8)]}
    write(tmp_path, (0, 1), worse)
    row = tabulate(loaded(tmp_path), WORTH).iloc[2]
    # seed 0: nine prompts against none, p = 2 / 2^9; times two pairs
    assert row[["async_only", "sync_only"]].tolist() == [0, 9]
    assert row["mcnemar_p"] == pytest.approx(4 / 512)
    assert row["difference"] == pytest.approx(-0.225)  # (-.45 + 0) / 2
    # standard error .225: t = (-.225 + .02) / .225, one degree of freedom: Cauchy's distribution
    assert row["tost_p"] == pytest.approx(0.5 + math.atan(0.205 / 0.225) / math.pi)


def test_its_claims_are_judged(record):
    judged = claims.judge(registry.load(CLAIMS), "table_math", record, "worth")
    assert [v.claim.id for v in judged] == ["C16a", "C16a-area", "C16b"]
    # the same pass@1 in both seeds; half the time per update is a speed-up of 1
    assert [judged[at].interval.estimate for at in (0, 2)] == pytest.approx([0, 1])
    assert {v.interval.n for v in judged} == {2}
    assert {v.claim.published_seeds for v in judged} == {1}


def test_runs_without_outcomes_have_no_mcnemar(tmp_path):
    write(tmp_path, (0,), {key: won[:1] for key, won in WON.items()})
    for path in (tmp_path / "outcomes").iterdir():
        fakes.make_older(tmp_path, path.stem)
    table = tabulate(loaded(tmp_path), WORTH)
    assert not {"async_only", "sync_only", "mcnemar_p"} & set(table)
    assert table["difference"].iloc[2] == 0


def test_without_reasoning_gym_it_is_left_out_among_others_and_refused_alone(monkeypatch, capsys):
    monkeypatch.setattr(arithmetic, "find_spec", lambda _: None)
    line = 'task arithmetic: needs reasoning-gym: pip install -e ".[arithmetic]"'
    smoke = Options(preset=preset("smoke"))
    console = Console(width=200)
    assert script._possible([PPO, REPRODUCTION], smoke, console) == [PPO]
    assert capsys.readouterr().out == f"Left out: table_math: {line}\n"
    with pytest.raises(UserError, match=r"^task arithmetic: needs reasoning-gym"):
        script._possible([REPRODUCTION], smoke, console)
    drawn = Options(preset=preset("smoke"), replot=True)  # needs the runs alone
    assert script._possible([REPRODUCTION], drawn, console) == [REPRODUCTION]


def test_it_says_at_which_presets_it_is_made(capsys):
    assert script.main([REPRODUCTION], ["--preset", "tiny"]) == 2
    assert capsys.readouterr().err == (
        "error: --preset tiny: table_math is made at smoke, worth, paper\n"
    )


def test_schedules_tell_arms_apart_where_nothing_is_timed():
    smoke = REPRODUCTION.asked(Options(preset=preset("smoke")))
    sync, stale, *_ = REPRODUCTION.grid(smoke)
    assert (sync.schedule, stale.schedule) == (ON_POLICY, lag(1))
    assert REPRODUCTION.arms([sync, stale], smoke.preset) == {
        sync.config_hash(): SYNC, stale.config_hash(): "async",
    }  # fmt: skip
