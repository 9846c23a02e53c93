"""Alembic's migrations; run them with store.migrate or `earful migrate`."""
