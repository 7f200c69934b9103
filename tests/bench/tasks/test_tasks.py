"""Tasks are found by name."""

import pytest

from bench.errors import UserError
from bench.tasks import TASKS, task_config
from bench.tasks.tldr_tiny.task import TldrTiny


@pytest.mark.parametrize("name", TASKS)
def test_each_task_is_called_what_its_configuration_says(name: str) -> None:
    assert task_config(name).name == name


def test_a_configuration_builds_its_task() -> None:
    config = task_config("tldr_tiny")(train_prompts=3, tuning_prompts=2, eval_prompts=1)
    task = config.build()
    assert isinstance(task, TldrTiny)
    assert [len(task.prompts(split)) for split in ("train", "tuning", "eval")] == [3, 2, 1]
    assert config.released("0.1m") is None


@pytest.mark.parametrize("name", ["nothing", "base", "os"])
def test_an_unknown_name_is_refused_and_the_known_are_listed(name: str) -> None:
    with pytest.raises(UserError, match=f"task '{name}': allowed are arithmetic, chat_worth, "):
        task_config(name)
