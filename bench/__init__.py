"""What Earful can do on this machine, measured on real servers: `python -m bench`, figures in docs/benchmarks.md."""
