"""Estimates against arithmetic by hand, and the command that makes them."""

from dataclasses import replace

import pytest

from bench import plan
from bench.experiments.presets import preset
from bench.planning.estimate import Machine, estimate
from bench.planning.memory import Shape
from bench.staleness import ON_POLICY

# 4 blocks of 12 h^2 + 13 h, embedding and head 2 x 100 h, last norm 2 h, with h = 10: 7,340
SHAPE = Shape(hidden=10, layers=4, inner=40, vocabulary=100)


def machine(devices=2):
    return Machine(devices=devices, memory_bytes=10**9, flops=1e6, bandwidth=1e6)


def run(algorithm="online_dpo", **changes):
    found = preset("tiny").run_config(algorithm, ON_POLICY)
    return replace(
        found,
        **{"prompts_per_batch": 3, "max_completion_tokens": 5, "microbatch_rows": 0} | changes,
    )


def test_parameters_of_the_example():
    assert SHAPE.language_model == 4 * (12 * 100 + 13 * 10) + 2 * 100 * 10 + 2 * 10 == 7340
    assert SHAPE.scorer == 7340 - 1000 + 10 == 6350


def test_an_update_of_pairs_by_hand():
    (one,) = estimate(machine(), run(), SHAPE, SHAPE, prompt_tokens=7).split
    # The policy reads 3 x 7 tokens of prompts and 6 x 5 of completions, the reward model 6 x 12.
    assert one.train_s == pytest.approx((8 * 7340 * 51 + 2 * 6350 * 72) / 1e6)
    # Weights 4 x 7340 bytes, cache 2 x 4 x 10 x 4 layers x 6 rows x 9.5 tokens: .047600 s;
    # 2 x 7340 x 6 FLOP take longer: .088080 s for each of 5 tokens. Prompts: 2 x 7340 x 21.
    assert one.generate_s == pytest.approx((2 * 7340 * 21 + 5 * 2 * 7340 * 6) / 1e6)
    assert (one.publish_s, one.load_s) == (pytest.approx(1.6148e-5), pytest.approx(5.872e-6))


def test_a_token_takes_at_least_the_time_to_read_weights_and_cache():
    slow = Machine(devices=2, memory_bytes=10**9, flops=1e12, bandwidth=1e6)
    (one,) = estimate(slow, run(), SHAPE, SHAPE, prompt_tokens=7).split
    assert one.generate_s == pytest.approx(5 * (4 * 7340 + 320 * 6 * 9.5) / 1e6, rel=1e-4)


def test_micro_batches_are_read_twice_and_a_value_model_is_trained_too():
    (whole,) = estimate(machine(), run(), SHAPE, None, prompt_tokens=7).split
    (parts,) = estimate(machine(), run(microbatch_rows=2), SHAPE, None, prompt_tokens=7).split
    assert parts.train_s / whole.train_s == pytest.approx(10 / 8)
    (ppo,) = estimate(machine(), run("ppo"), SHAPE, None, prompt_tokens=7).split
    assert ppo.train_s / whole.train_s == pytest.approx((6 * (7340 + 6350) + 2 * 7340) / (8 * 7340))


def test_ranks_share_the_work_of_the_learner():
    (two,) = estimate(machine(), run(), SHAPE, None, prompt_tokens=7).split
    (four,) = estimate(machine(devices=4), run(), SHAPE, None, prompt_tokens=7).split
    assert (four.train_s, four.generate_s) == (pytest.approx(two.train_s / 3), two.generate_s)


def test_one_device_takes_turns_and_hands_nothing_over():
    found = estimate(machine(devices=1), run(), SHAPE, None, prompt_tokens=7)
    assert (found.split, found.whole[0].publish_s, found.whole[0].load_s) == ((), 0.0, 0.0)


def test_the_papers_models_on_four_devices_of_80_gb(capsys):
    command = ["--preset", "paper", "--models", "410m,2.8b", "--devices", "4x80"]
    assert plan.main(command) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "split: 410m fits." in said
    assert "2.8b, online_dpo: needs 127.8 GB on cuda:0, which has 80.0 GB" in said
    assert "The learner has 3 of 4 devices" in said
    assert "Estimated, not measured: 300 TFLOP/s sustained" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--devices", "80"], "--devices 80: allowed is COUNTxGB, such as 4x80"),
        (["--devices", "0x80"], "--devices 0x80: allowed is"),
        (["--devices", "1x80", "--tflops", "0"], "--tflops 0.0: allowed is a number above 0"),
        (["--devices", "1x80", "--tflops", "nan"], "--tflops nan: allowed is a number above 0"),
        (
            ["--devices", "1x80", "--whole-s", "1"],
            "times are estimated, or given by flag, not both",
        ),
    ],
)
def test_impossible_devices_are_one_line(flags, said, capsys):
    assert plan.main(["--preset", "paper", *flags]) == 2
    assert said in " ".join(capsys.readouterr().err.split())
