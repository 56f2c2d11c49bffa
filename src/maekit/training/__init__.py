"""The one training loop of the package, with objective, optimiser, schedule and keeper."""
