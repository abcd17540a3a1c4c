"""The swappable parts: a folder per slot, a file per variant.

What the slots share stands here: what a part may ask of its model (`needs.py`), what travels
through a forward pass (`context.py`), and layers whose parameters have a role (`layers.py`).
"""
