"""What wandb wrote offline, read back from its files with its own messages.

A ``.wandb`` file is a log of LevelDB's format (its doc/log_format.md) after 7 bytes of wandb's own:
blocks of 32 KiB with chunks of checksum (4 bytes), length (2), kind (1) and data. A message is one
whole chunk, or goes from a first over middle ones to a last.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32 * 1024
WHOLE, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """Yield all messages of a file; where wandb is not installed the test is skipped."""
    messages = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    content = path.read_bytes()
    assert content.startswith(HEADER)
    at, message = len(HEADER), b""
    while at + 7 <= len(content):
        if BLOCK - at % BLOCK < 7:  # the rest of a block that is too short for a chunk
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        message += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            yield messages.Record.FromString(message)
            message = b""


def runs(directory: Path) -> dict[str, dict[str, Any]]:
    """Return name, group, configuration and rows of each run that was written below a directory.

    The rows are by step, without what wandb adds.
    """
    found = {}
    for path in directory.glob("wandb/offline-run-*/run-*.wandb"):
        run: dict[str, Any] = {"rows": {}}
        for record in records(path):
            if record.WhichOneof("record_type") == "run":
                config = {one.key: json.loads(one.value_json) for one in record.run.config.update}
                config.pop("_wandb", None)
                run |= {"name": record.run.display_name, "group": record.run.run_group,
                        "project": record.run.project, "config": config}  # fmt: skip
                run_id = record.run.run_id
            elif record.WhichOneof("record_type") == "history":
                row = {item.key or item.nested_key[0]: json.loads(item.value_json)
                       for item in record.history.item}  # fmt: skip
                run["rows"][record.history.step.num] = {
                    name: value for name, value in row.items() if not name.startswith("_")
                }
        found[run_id] = run
    return found
