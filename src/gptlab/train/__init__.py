"""Training: a recipe goes in, a run folder comes out. The loop is one page: `loop.py`."""
