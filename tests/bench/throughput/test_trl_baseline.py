import threading

import pytest

from bench.throughput import workload
from bench.throughput.trl_baseline import TrlOnlineDpo


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # TRL's, of what transformers renames
def test_a_call_is_one_optimiser_step_and_nothing_runs_between_or_after(tmp_path):
    config = workload.config("online_dpo")
    with TrlOnlineDpo(config, workload.save(tmp_path), tmp_path / "trl") as trl:
        for step in (1, 2):
            trl.step()
            assert trl.trainer.state.global_step == step
        assert len(trl.trainer.stats["val/contain_eos_token"]) == 2
        assert not any(trl.trainer.stats["val/contain_eos_token"])
    assert "trl" not in [thread.name for thread in threading.enumerate()]


def fails(**batch):
    raise ZeroDivisionError(sorted(batch))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_failure_of_the_trainer_is_raised(tmp_path):
    config = workload.config("online_dpo")
    trl = TrlOnlineDpo(config, workload.save(tmp_path), tmp_path / "trl")
    trl.trainer.reward_funcs = [fails]
    with pytest.raises(RuntimeError, match="did not finish") as raised, trl:
        trl.step()
    assert isinstance(raised.value.__cause__, ZeroDivisionError)
