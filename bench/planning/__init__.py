"""What a run will take, before it is run: time by schedule, staleness, memory by device."""
