"""The one training loop of the package, and what it needs: objective, optimiser, schedule, keeper."""
