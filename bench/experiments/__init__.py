"""Grids of runs: presets, arms, sweeps and the search for hyper-parameters."""
