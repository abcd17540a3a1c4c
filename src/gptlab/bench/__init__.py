"""Bench: how fast something is beside something else, on a machine that others use too.

Each arm works in a process of its own (`worker.py`, `contestants/`); `protocol.py` lets them take
turns, `ratios.py` says what their speeds show, `record.py` is what is kept of it.
"""
