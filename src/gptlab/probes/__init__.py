"""Probes: small tasks that tell architectures apart, in minutes on two cores.

A task is a file of `tasks/`. `sizing.py` makes a recipe's model small, `learning.py` trains it on a
task, `grid.py` tries learning rates and seeds, `reading.py` asks a trained run instead.
"""
