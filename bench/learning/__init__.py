"""One update: scores, log-probs, the optimiser step, and where a run goes on."""
