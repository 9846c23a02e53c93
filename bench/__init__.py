"""What Earful can do on this machine, measured on real servers: `python -m bench`, figures in docs/benchmarks.md."""

import os

# The tight loops hear with one thread, as Triton does; OpenBLAS reads it when numpy is loaded, so it stands in front of everything.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
