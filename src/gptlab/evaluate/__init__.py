"""Evaluation: what a model has learned, in numbers that can be compared."""
