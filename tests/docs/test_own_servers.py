"""docs/own-servers.md names what exists: every setting with its default, roles, rights."""

from __future__ import annotations

import re

import pytest

from settings import PROJECT, Settings
from stream.topics import Topics
from tests.docs.settings_table import PAGE, table, written

TEXT = PAGE.read_text("utf-8")


def test_the_table_is_that_of_the_settings() -> None:
    assert written() == table(), "python -m tests.docs.settings_table writes it anew"


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_roles_exist() -> None:
    roles = (PROJECT / "migrations" / "sql" / "0001_roles.sql").read_text("utf-8")
    assert all(f"'{role}'" in roles for role in re.findall(r"`(earful_(?:ingest|analyst|owner))`", TEXT))


def test_the_longest_prefix_is_the_one_that_topics_take() -> None:
    pattern = str(Settings.model_json_schema()["properties"]["topic_prefix"]["pattern"])
    for length, fits in ((225, True), (226, False)):
        prefix = "a" * length
        assert bool(re.fullmatch(pattern, prefix)) == fits
        if fits:
            Topics(prefix)
        else:
            with pytest.raises(ValueError, match="prefix"):
                Topics(prefix)
