"""Does a change help? Studies of variants over seeds, and an answer that can be believed.

`results.py` is the document that a study leaves and that every report is made of. What it says of
differences comes from `statistics.py`, in words from `verdict.py`; both are functions of numbers.
"""
