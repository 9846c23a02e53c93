"""The processing loop and one module per stage: records in, rows and dead letters out."""
