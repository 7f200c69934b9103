"""Generation engines: one file each, ``generate(prompts, sampling, seeds) -> Rollouts``."""
