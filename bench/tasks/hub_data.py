"""Text columns of data sets on the hub, or in a hub directory (``bench.hub``), for real tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from bench.errors import UserError
from bench.hub import dataset_files

ROWS_PER_READ = 1024  # to bound memory


@dataclass(frozen=True)
class TextTable:
    """A split of a data set, whose files are there and have some columns of text.

    Attributes:
        dataset: its hub id.
        split: the name of its file split.
        columns: those that are read.
        folder: where its files are in the repository.

    Raises:
        UserError: a file or a column is missing, or a column is not of text.
    """

    dataset: str
    split: str
    columns: tuple[str, ...]
    folder: str = "data"
    files: Sequence[Path] = field(init=False)

    def __post_init__(self) -> None:
        """Find the files; nothing but their headers is read."""
        files = dataset_files(self.dataset, self.split, self.folder)
        for file in files:
            self._check(file)
        object.__setattr__(self, "files", files)

    def batches(self) -> Iterator[list[list[str]]]:
        """Yield some rows at a time: a list of texts for each column.

        Raises:
            UserError: a text is null.
        """
        table = pa.concat_tables(
            pq.read_table(file, columns=list(self.columns)) for file in self.files
        )
        first = 0
        for batch in table.to_batches(max_chunksize=ROWS_PER_READ):
            texts = [batch[name].to_pylist() for name in self.columns]
            for name, column in zip(self.columns, texts, strict=True):
                if None in column:
                    raise self.error(first + column.index(None), f"{name} is null, must be text")
            yield texts
            first += len(batch)

    def error(self, row: int, what: str) -> UserError:
        """Return what is wrong with a row, to be raised."""
        return UserError(f"data set {self.dataset}, {self.split} row {row}: {what}")

    def _check(self, file: Path) -> None:
        try:
            schema = pq.read_schema(file)
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(f"{file}: {str(error).splitlines()[0]}") from error
        if missing := [name for name in self.columns if name not in schema.names]:
            raise UserError(
                f"{file}: no column {', '.join(missing)}; must have {', '.join(self.columns)}, "
                f"has {', '.join(schema.names)}"
            )
        for name in self.columns:
            kind = schema.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise UserError(f"{file}: column {name} is of type {kind}, must be string")
