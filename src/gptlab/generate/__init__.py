"""Generate: from a trained run to text.

`load(path)` opens a run folder as a `LanguageModel`, which generates and streams text.
"""

from gptlab.generate.language_model import LanguageModel as LanguageModel
from gptlab.generate.loading import load as load
