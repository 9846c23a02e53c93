"""Phi-4's engine at full size with random weights, beside transformers' generate: `python -m bench.phi4`.

Needs torch, transformers, peft, tokenizers, safetensors and numpy, and nothing outside this repository: speed does not
depend on what weights say. Stop tokens are off and answers have a set length, 110 tokens for 30 s, in both.
"""
