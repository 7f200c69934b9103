"""Throughput benchmarks, run by ``pytest --benchmark-only``.

Every number that matters is a ratio of two series timed in turn within one run, so that a busy
machine slows both. Nothing here fails because it was slow. ``reproductions/fig_throughput.py`` runs
and draws them; it says by the environment variables ``ASYNC_RLHF_BENCH_PRESET`` (smoke or tiny, the
default) what is measured and ``ASYNC_RLHF_BENCH_OUT`` where the table goes.
"""
