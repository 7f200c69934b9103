"""The win rate of a perfect policy, from the stored configurations of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from bench.errors import UserError
from bench.tasks import task_config
from bench.tasks.base import Split


def ceiling(cells: Iterable[Mapping[str, Any]]) -> tuple[float | None, tuple[str, ...]]:
    """Return the ceiling of the win rate that the runs share, and a line if it cannot be found.

    None: there are no runs, their task knows no best completion, or they are evaluated differently.

    Args:
        cells: parsed ``config_json`` of each cell.
    """
    asked = {
        (
            str(cell["stage"]["task"]),
            json.dumps(cell["stage"]["task_params"], sort_keys=True),
            cell["evaluation"]["split"],
            int(cell["evaluation"]["prompts"]),
        )
        for cell in cells
    }
    try:
        found = {_ceiling(*evaluation) for evaluation in asked}
    except (UserError, TypeError) as error:  # data are elsewhere, or parameters of another version
        return None, (f"Ceiling of the win rate unknown: {error}",)
    return (found.pop() if len(found) == 1 else None), ()


@cache  # a task takes a second to make
def _ceiling(task: str, params: str, split: Split, prompts: int) -> float | None:
    return task_config(task)(**json.loads(params)).win_rate_ceiling(split, prompts)
