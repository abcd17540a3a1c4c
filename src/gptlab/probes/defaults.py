"""How much is tried unless somebody says otherwise; the command line tells it without torch."""

RATES = (1e-3, 3e-3, 1e-2)  # learning rates, tried with one seed
SEEDS = 3  # at the best of them
STEPS = 1000  # of a trial, at most
