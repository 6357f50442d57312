"""Filling the plan: agents annotate images of the pool, gates refuse, the quota book counts."""
