"""The shared core: tasks, stages, engines, algorithms, the training loop and the sweep."""

from bench.command import end_at_once_when_interrupted

end_at_once_when_interrupted()
