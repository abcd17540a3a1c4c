"""The model: one page that puts the parts together (`gpt.py`), and what can be counted of it."""
