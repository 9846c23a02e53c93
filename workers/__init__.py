"""The processing loop and one module per stage: records in, rows and dead letters out."""

import os

# OpenBLAS reads it when numpy is loaded, so it stands in front of everything. Its threads spin while they wait: with them a
# backlog of audio took the segmenter twice the CPU time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
