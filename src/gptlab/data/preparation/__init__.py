"""Preparation: from any text to shards of tokens, whatever the size, interrupted or not.

    source ── pieces ── parts, in parallel ── documents ── shards, then the manifest

`source.py` cuts the source into pieces that follow from it alone. `part.py` turns a piece into a
part on the disk; `pools.py` does so in processes, `on_ray.py` on a cluster. A part that is whole
stays, whatever happens. `documents.py` decides of all documents which are kept and which are for
validation; `assembly.py` writes the shards in the source's order, and the manifest last. So the
bytes are the same for any number of workers and of interruptions. `run.py` is all of it in order.
"""
