"""What a run leaves on disk: its folder (`folder.py`) and its checkpoints (`checkpoint.py`).

Nothing is ever half there: a file is written under a temporary name, flushed to the disk, and only
then given its own name. Every change goes through `files.py`, where tests make it fail.
"""
