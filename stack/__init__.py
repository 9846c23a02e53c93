"""The local stack: starts, watches and stops Kafka, PostgreSQL, Triton and the workers on one machine."""
