"""Tasks are found by name."""

import pytest

from bench.errors import UserError
from bench.tasks import build_task, task_names
from bench.tasks.tldr_tiny import TldrTiny


def test_task_names_are_the_modules_without_the_protocol() -> None:
    assert task_names() == ["tldr", "tldr_tiny"]


def test_build_task_builds_the_named_task() -> None:
    sizes = {"train_prompts": 3, "tuning_prompts": 2, "eval_prompts": 1}
    assert isinstance(build_task("tldr_tiny", sizes), TldrTiny)


@pytest.mark.parametrize("name", ["nothing", "base", "os"])
def test_build_task_refuses_an_unknown_name_and_lists_the_known(name: str) -> None:
    with pytest.raises(UserError, match=f"task '{name}': allowed are tldr, tldr_tiny"):
        build_task(name, {})
