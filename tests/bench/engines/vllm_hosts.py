"""What a worker hosts to test vLLM's engine; it imports no test framework."""

from bench.engines.vllm import VllmEngine


class InFlight(VllmEngine):
    """Updates the weights, or fails, in the middle of a batch."""

    def generate_with_update(self, prompts, sampling, seeds, snapshot, after_steps):
        calls = iter(range(after_steps + 1))
        return self.generate(
            prompts, sampling, seeds, lambda: snapshot if next(calls, 0) == after_steps else None
        )

    def fail_after(self, prompts, sampling, seeds, steps):
        calls = iter(range(steps))

        def newer():
            if next(calls, None) is None:
                raise RuntimeError("no more")

        return self.generate(prompts, sampling, seeds, newer)
