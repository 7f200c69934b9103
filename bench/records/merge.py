"""Merge finished runs into the committed record: one Parquet file per table. Imports no torch.

python -m bench.records.merge SOURCE TARGET

SOURCE and TARGET are results directories, as in ``results/tiny results/reference/tiny``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from bench.command import Parser, run_command
from bench.errors import UserError
from bench.records import store


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
    new_ids = pa.array(runs["run_id"])
    for table in reversed(store.SCHEMAS):  # runs last, as for a single run
        path = target / f"{table}.parquet"
        merged = store.read_arrow(source, table)
        if path.exists():
            old = store.load(path, table)
            kept = old.filter(pc.invert(pc.is_in(old["run_id"], new_ids)))
            merged = pa.concat_tables([merged, kept])
        order = pd.Series(merged["run_id"].to_pylist()).argsort(kind="stable")
        store.write_arrow(path, merged.take(pa.array(order)))
    return len(store.load(target / "runs.parquet", "runs"))


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
