"""Where a rationale first goes wrong: the step at which a text-only teacher switches its answer, and baselines."""
