"""Frames, statistics, verdicts and figures from the recorded tables. Never imports torch."""
