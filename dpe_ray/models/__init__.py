"""Doors to models: clients of endpoints, engines that this run serves, the policy that is trained."""
