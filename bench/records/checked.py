"""Parquet with a checksum of the whole file. Imports no torch.

Parquet has checksums of its pages, but none of what says where a column's pages are: one bit there
can make one column's numbers another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

KEY = b"xxh3_128"  # in the file's metadata
UNKNOWN = b"the checksum of this file is not"  # in its place while it is computed, as long as it


def encode(table: pa.Table) -> bytes:
    """Return a table as a Parquet file."""
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: UNKNOWN}),
        buffer,
        compression="zstd",
        write_page_checksum=True,
    )
    content = buffer.getvalue().to_pybytes()
    return _with_last(content, UNKNOWN, _checksum(content))


def has_checksum(path: Path) -> bool:
    """Say whether a Parquet file has a checksum of the whole of it."""
    return KEY in (pq.read_metadata(path).metadata or {})


def decode(content: bytes | pa.Buffer, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a file's table, or some of its columns.

    A file without a checksum is not checked, but for the pages that are read.

    Raises:
        ValueError: the checksum is of another content.
        pyarrow.ArrowException: it is no Parquet file, or damaged.
        OSError: the same.
    """
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    saved = (file.metadata.metadata or {}).get(KEY)
    if saved is not None and _checksum_without(content, saved, file.metadata) != saved:
        raise ValueError("the checksum is of another content")
    return file.read(columns)


def _checksum_without(content: bytes | pa.Buffer, saved: bytes, footer: pq.FileMetaData) -> bytes:
    """Return what the checksum was computed as, of a file of any size without a copy of it."""
    view = memoryview(content)
    start = len(view) - footer.serialized_size - 8  # its length and Parquet's magic number follow
    at = start + bytes(view[start:]).rindex(saved)
    hashed = xxhash.xxh3_128(view[:at])
    hashed.update(UNKNOWN)
    hashed.update(view[at + len(saved) :])
    return hashed.hexdigest().encode()


def _checksum(content: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(content).encode()


def _with_last(content: bytes, old: bytes, new: bytes) -> bytes:
    return new.join(content.rsplit(old, 1))
