"""Those who are measured: a file for each, imported in the worker's process only.

A file has a function for each kind of work that it takes part in, such as `train(job, beat)`. That
prepares itself, says `beat.ready(...)`, then works on and calls `beat()` after every piece of work:
the beat keeps it waiting while others have their turn, and ends it.
Where another interpreter runs a file, that has the file's own imports and no other part of gptlab.
"""
