"""Hugging Face models in and out: `gptlab import` and `gptlab export`.

A family (`families/`) maps `config.json` to our `Model` and back, and names the tensors; the rest
serves all of them. `transformers` is not needed.
"""
