"""Postgres: tables, ledger, upserts, migrations. Imports nothing of Earful but errors."""
