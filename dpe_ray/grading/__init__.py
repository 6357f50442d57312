"""From a completion to a verdict: the same for diagnosis, gates, rewards and evaluation."""
