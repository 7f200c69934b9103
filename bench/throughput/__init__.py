"""Throughput benchmarks, run by ``pytest --benchmark-only``.

Every number that matters is a ratio of two series timed in turn within one run, so that a busy
machine slows both. Nothing here fails because it was slow.
"""
