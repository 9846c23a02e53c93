"""Aspect sentiment: which aspects a text names, and how it feels about each (CVIB).

Serving needs numpy, onnxruntime, tokenizers and pycld2 only (`encode`, `segment`, `serve`, `taxonomy`, `predict`, `judge`);
`gates`, `losses`, `model`, `train`, `tagger` and `export` need torch (requirements/torch.txt).
"""

from __future__ import annotations
