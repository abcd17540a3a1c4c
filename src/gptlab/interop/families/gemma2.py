"""Gemma 2: local and global layers in turn, scores and logits capped."""

from gptlab.interop.families._gemma import GemmaLike


class Gemma2(GemmaLike):
    architecture = "Gemma2ForCausalLM"
    global_every = 2
    attention_softcap = 50.0
    head_softcap = 30.0
