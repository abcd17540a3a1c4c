"""Data: where text comes from (`sources`), how it is split and tokenized, how it is served.

`corpus.py` makes token ids of documents, `batching` lays them out in rows, `batches.py` serves them.
"""

from gptlab.data.sources import Data as Data
