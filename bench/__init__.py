"""The shared core: tasks, stages, engines, algorithms, the training loop and the sweep."""
