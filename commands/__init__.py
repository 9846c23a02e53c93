"""The command `earful`, one module per group of commands; cli.py puts them together."""
