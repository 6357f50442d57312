"""The loop: rounds, their records, the run directory and what is shown of it."""
