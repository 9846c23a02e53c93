"""Phi-4-Multimodal's speech path: loading, log-mel, audio encoder, decoder with both modes, KV cache.

Nothing is imported here: `speech.phi4.model` is where to begin. Only torch, safetensors and numpy are needed to run it.
"""
