"""Postgres: tables, ledger, upserts, views, roles. Imports nothing of Earful but errors."""
