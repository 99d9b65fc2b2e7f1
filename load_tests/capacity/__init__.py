"""From what one request costs to what many need: environments, quotas and money.

Every figure is either measured (`make bench` saves its own in `load_tests/results/bench.json`), a list price or quota
with its date and source (`prices`, `quotas`), or an assumption that stands in `formulae.Assumptions` and can be
changed. Nothing here was tried on AWS. `python -m load_tests.capacity` prints it.
"""
