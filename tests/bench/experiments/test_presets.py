"""The presets: what their policies start from."""

from bench.experiments.presets import preset
from bench.staleness import ON_POLICY, Schedule


def test_policies_of_worth_have_their_own_sft_models_and_share_each_seeds_reward_model() -> None:
    worth = preset("worth")
    stages = [worth.stage(model) for model in ("0.06m", "0.1m", "0.4m")]
    assert len({stage.sft().name for stage in stages}) == 3
    assert len({stage.reward(3).name for stage in stages}) == 1
    assert stages[0].reward(3).name != stages[0].reward(4).name
    assert stages[0].reward(3).sft.name == stages[1].sft().name  # it starts from the 0.1m model


def test_a_reward_model_of_worth_may_have_any_of_its_sizes() -> None:
    worth = preset("worth")
    assert worth.stage("0.06m", "0.06m").reward(0).model == "0.06m"
    assert worth.stage("0.06m", "0.4m").reward(0).sft.name == worth.stage("0.4m").sft().name
    # Naming the preset's own choice changes nothing.
    for model in ("0.06m", "0.1m"):
        assert worth.stage(model, "0.1m").hash() == worth.stage(model).hash()


def test_rounds_of_64_batches_leave_worth_four_and_its_largest_one() -> None:
    worth = preset("worth")
    assert worth.n_values[-2:] == (64, 256)
    assert worth.run_config("rloo", Schedule("reuse", 64)).updates == 4 * 64
    assert worth.run_config("rloo", Schedule("reuse", 256)).updates == 256
    assert worth.run_config("ppo", ON_POLICY).algorithm.completions_per_prompt == 2
