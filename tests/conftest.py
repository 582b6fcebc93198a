"""What holds for every test."""

from hypothesis import settings

# The same examples in every run, however slow the machine: a test that fails by chance helps nobody.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.load_profile("steady")
