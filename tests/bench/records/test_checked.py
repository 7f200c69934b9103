"""A file's checksum covers every byte of it."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from bench.records import checked

TABLE = pa.table({"a": [1.5, 2.5], "b": [3.5, 4.5]}, metadata={b"schema_version": b"2"})
CONTENT = checked.encode(TABLE)


def test_a_table_and_its_columns_come_back():
    assert checked.decode(CONTENT).equals(TABLE)
    assert checked.decode(CONTENT, ["b"]).equals(TABLE.select(["b"]))
    assert pq.read_table(pa.BufferReader(CONTENT)).equals(TABLE)
    assert checked.decode(CONTENT).schema.metadata[b"schema_version"] == b"2"


def test_the_checksum_is_of_the_whole_file():
    saved = pq.ParquetFile(pa.BufferReader(CONTENT)).metadata.metadata[b"xxh3_128"]
    before = CONTENT.replace(saved, b"the checksum of this file is not")
    assert len(before) == len(CONTENT)
    assert saved.decode() == xxhash.xxh3_128_hexdigest(before)


def test_no_changed_bit_gives_another_table():
    refused = 0
    for at in range(8 * len(CONTENT)):
        damaged = bytearray(CONTENT)
        damaged[at // 8] ^= 1 << at % 8
        try:
            assert checked.decode(bytes(damaged)).equals(TABLE)
        except (pa.ArrowException, OSError, ValueError):
            refused += 1
    assert refused > 7.9 * len(CONTENT)  # all but those of the checksum's own name


def test_a_column_that_points_to_anothers_pages_is_refused():
    """The footer says where pages are: twice the same place, and the file is sound but for that."""
    plain = pa.BufferOutputStream()
    pq.write_table(TABLE, plain, write_page_checksum=True)
    assert checked.decode(plain.getvalue().to_pybytes()).equals(TABLE)  # has no checksum
    other = checked.encode(TABLE.select(["b", "a"]).rename_columns(["a", "b"]))
    saved, others = (
        pq.ParquetFile(pa.BufferReader(one)).metadata.metadata[b"xxh3_128"]
        for one in (CONTENT, other)
    )
    with pytest.raises(ValueError, match="the checksum is of another content"):
        checked.decode(other.replace(others, saved))
