"""Statistics, estimands and verdicts, from recorded tables."""
