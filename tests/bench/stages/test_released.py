"""Checkpoints that a task does not have trained."""

from pathlib import Path

import pytest
from transformers import PreTrainedModel

from bench import hub
from bench.errors import UserError
from bench.stage_config import StageConfig
from bench.stages import find, resolve
from bench.tasks.tldr import STAGE_MODELS, TldrConfig


@pytest.fixture
def hub_dir(
    tmp_path: Path,
    policy: PreTrainedModel,
    reward_model: PreTrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    monkeypatch.setenv(hub.HUB_DIR, str(tmp_path))
    sft, reward = STAGE_MODELS["410m"]
    policy.save_pretrained(tmp_path / sft)
    reward_model.save_pretrained(tmp_path / reward)
    return tmp_path


def test_released_checkpoints_are_taken_from_where_the_task_says(hub_dir: Path) -> None:
    stage = StageConfig(task=TldrConfig(), model="410m")
    sft, reward = STAGE_MODELS["410m"]
    found = resolve(stage, 0, cache_dir=hub_dir / "unused")
    assert (found.sft_dir, found.reward_dir) == (hub_dir / sft, hub_dir / reward)
    assert not (hub_dir / "unused").exists()


def test_a_released_checkpoint_without_weights_is_not_to_be_deleted(hub_dir: Path) -> None:
    sft, _ = STAGE_MODELS["410m"]
    (hub_dir / sft / "model.safetensors").unlink()
    with pytest.raises(UserError) as raised:
        find(StageConfig(task=TldrConfig(), model="410m"), 0, [])
    assert str(raised.value) == (
        f"checkpoint {hub_dir / sft}: has no config.json or no safetensors; "
        "put the model's files there"
    )
