"""Settings of all tests."""

from hypothesis import HealthCheck, settings

# time is no part of any claim, and a busy machine is slow; with $CI set the examples are the same every time
settings.register_profile("dpe_ray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dpe_ray")
