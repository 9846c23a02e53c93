"""The memory plan adds up, and refuses what cannot work with one sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.phi4.limits import Limits
from speech.phi4.memory import GB, PHI4, TooSmall, plan, table


def test_the_published_size_is_known() -> None:
    decoder = PHI4.embeddings + PHI4.linears
    assert 3.80e9 < decoder < 3.86e9
    assert 455e6 < PHI4.adapter < 465e6
    assert 2 * PHI4.kv_elements == 128 * 1024  # bytes a token in bf16


@given(gigabytes=st.integers(16, 200), share=st.floats(0, 0.9), most=st.integers(1, 2_000))
def test_everything_together_fits_the_device(gigabytes: int, share: float, most: int) -> None:
    found = plan(gigabytes * GB, limits=Limits(), summary_share=share, most_utterances=most)
    assert found.weight_bytes + found.work_bytes + found.kv_bytes <= found.device_bytes
    assert found.merged == (gigabytes >= 32)
    assert found.summary_slots >= 1
    assert 1 <= found.utterance_slots <= most
    limits = found.limits(Limits())
    assert sum(limits.slot_sizes) == found.kv_tokens


def test_what_others_use_is_left_to_them() -> None:
    alone, beside = plan(80 * GB, limits=Limits()), plan(80 * GB, limits=Limits(), used_bytes=10 * GB)
    assert beside.utterance_slots < alone.utterance_slots
    assert beside.weight_bytes + beside.work_bytes + beside.kv_bytes <= 80 * GB


def test_the_weights_are_those_of_the_paper() -> None:
    assert round(plan(80 * GB, limits=Limits()).weight_bytes / GB) == 15
    assert 9 < plan(24 * GB, limits=Limits()).weight_bytes / GB < 10


def test_a_card_of_24_gb_that_reports_a_little_less_is_one() -> None:
    assert plan(int(15.8 * GB), limits=Limits()).utterance_slots >= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device_bytes": 12 * GB}, "has 12.0 GB: Phi-4 needs 16 GB"),
        ({"device_bytes": 80 * GB, "bf16": False}, "bfloat16"),
        ({"device_bytes": 16 * GB, "merged": True}, "for the KV cache"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(TooSmall, match=message):
        plan(limits=Limits(), **arguments)  # type: ignore[arg-type]


def test_the_table_names_every_card() -> None:
    lines = table().splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["16 GB", "24 GB", "48 GB", "80 GB"]
    assert "unmerged" in lines[3]
    assert "base and merged" in lines[4]


def test_the_plan_can_be_read() -> None:
    assert str(plan(80 * GB, limits=Limits())).startswith(
        "memory plan: 80.0 GB = weights 15.0 (base and merged speech)"
    )


@pytest.mark.parametrize(("gigabytes", "sizes"), [(16, (1, 2, 4, 8)), (80, (1, 2, 4, 8, 16, 32, 64, 128))])
def test_graphs_are_those_that_the_slots_can_fill_unless_a_setting_says_otherwise(
    gigabytes: int, sizes: tuple[int, ...]
) -> None:
    found = plan(gigabytes * GB, limits=Limits())
    assert found.limits(Limits()).graph_sizes == sizes
    assert found.limits(Limits.from_json('{"graph_sizes":[]}')).graph_sizes == ()
    assert found.limits(Limits.from_json('{"graph_sizes":[3]}')).graph_sizes == (3,)
    assert f"up to {sizes[-1]} as CUDA graphs" in str(found)


def test_slots_are_what_the_memory_holds_unless_a_setting_says_otherwise() -> None:
    free = plan(80 * GB, limits=Limits())
    for text, slots in (
        ('{"utterance_slots":8}', (8, free.summary_slots)),
        ('{"summary_slots":16}', (69, 16)),  # 16 x 24,576 tokens take 52 of the 60 GB
        ('{"utterance_slots":64,"summary_slots":0}', (64, 0)),
    ):
        limits = Limits.from_json(text)
        found = plan(80 * GB, limits=limits)
        assert (found.utterance_slots, found.summary_slots) == slots
        assert found.weight_bytes + found.work_bytes + found.kv_bytes <= 80 * GB
        planned = found.limits(limits)
        assert planned.slot_sizes == [896] * slots[0] + [24_576] * slots[1] + [512] * 4
        assert max(planned.graph_sizes or ()) <= sum(slots)
    with pytest.raises(TooSmall, match=r"summaries \(2\) and utterances \(900\) take"):
        plan(80 * GB, limits=Limits.from_json('{"utterance_slots":900,"summary_slots":2}'))


def test_without_a_plan_or_a_setting_the_slots_are_those_of_a_cpu() -> None:
    assert Limits().pools == [(16, 896), (1, 24_576)]
    assert Limits.from_json('{"utterance_slots":0}').pools == [(0, 896), (1, 24_576)]


def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from speech.phi4.start import StartOptions, start

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(TooSmall, match="torch sees no GPU here"):
        start(tmp_path, StartOptions(device="cuda"))


def test_limits_are_text_and_back() -> None:
    limits = replace(Limits(), queue=7)
    assert Limits.from_json(limits.canonical_json()) == limits
    assert Limits.from_json('{"queue":7}') == limits
    with pytest.raises(ValueError, match="limits"):
        Limits.from_json('{"cue":7}')
