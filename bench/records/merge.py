"""Merge finished runs into the committed record: one Parquet file per table. Imports no torch.

python -m bench.records.merge SOURCE TARGET

SOURCE and TARGET are results directories, as in ``results/tiny results/reference/tiny``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from bench.command import Parser, run_command
from bench.errors import UserError
from bench.records import store
from bench.records.schemas import SCHEMAS, by_run, in_order


def merge(source: Path, target: Path, *, allow_dirty: bool = False) -> int:
    """Merge all complete runs of ``source`` into ``target``; return how many it then holds.

    A run that is already there is replaced. Rows are ordered by ``run_id``.

    Raises:
        UserError: there are no runs, a file cannot be read or written, or a run was made with
            uncommitted changes to the code.
    """
    runs = store.read(source, "runs")
    dirty = runs[runs["git_dirty"]]
    if len(dirty) and not allow_dirty:
        raise UserError(
            f"{len(dirty)} of {len(runs)} runs in {source} were made with uncommitted "
            f"code (first: {dirty['run_id'].iloc[0]}); commit and repeat them, or give "
            "--allow-dirty"
        )
    write({table: by_run(store.read_arrow(source, table)) for table in SCHEMAS}, target)
    return len(store.load(store.single(target, "runs"), "runs"))


def write(added: Mapping[str, Mapping[str, pa.Table]], target: Path) -> None:
    """Put runs into the one file per table of a results directory; ``runs`` last, as for one run.

    Args:
        added: by table, then by ``run_id``, the rows of complete runs; each replaces a run that is
            already there.
        target: the results directory.

    Raises:
        UserError: a file cannot be read or written. What was there is still there.
    """
    for table in reversed(SCHEMAS):
        rows = {**by_run(store.compacted(target, table)), **added[table]}
        store.write_arrow(store.single(target, table), in_order(rows, SCHEMAS[table]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = Parser(
        prog="python -m bench.records.merge", description="merge finished runs into a record"
    )
    parser.add_argument("source", type=Path, metavar="SOURCE")
    parser.add_argument("target", type=Path, metavar="TARGET")
    parser.add_argument(
        "--allow-dirty", action="store_true", help="also take runs of uncommitted code"
    )

    def command() -> None:
        options = parser.parse_args(arguments)
        count = merge(options.source, options.target, allow_dirty=options.allow_dirty)
        print(f"{options.target}: {count} runs")

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
