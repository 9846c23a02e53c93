"""Checkpoints: the layout that is read, and each that is refused with the sentence that helps."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from speech.phi4.checkpoint import open_weights  # noqa: E402
from speech.phi4.config import CheckpointError, parse_config, read_config  # noqa: E402
from speech.phi4.loading import check_checkpoint  # noqa: E402
from speech.phi4.model import Clip, Mode, Phi4Model, PrefillRow  # noqa: E402
from speech.phi4.modes import UnsupportedMode  # noqa: E402
from speech.phi4.service import Speech  # noqa: E402
from speech.phi4.tiny import VOCABULARY, make_tiny, special_id  # noqa: E402
from tests.speech.phi4.reference import noise  # noqa: E402

CLIP = Clip(samples=noise(1.0, seed=1))


@pytest.fixture(name="copy")
def _copy(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def change(folder: Path, **values: Any) -> None:
    """Sets keys of config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def outputs(model: Phi4Model) -> list[Any]:
    """Embeddings of a clip, and logits of a prompt in both modes."""
    cache = model.new_cache(slots=2, slot_tokens=8)
    rows = [
        PrefillRow(slot=i, start=0, embeds=model.embed([1, 2, 3]), mode=mode, long_rope=False)
        for i, mode in enumerate((Mode.LANGUAGE, Mode.SPEECH))
    ]
    return [model.encode([CLIP])[0], model.prefill(cache, rows)]


def test_the_tiny_checkpoint_has_the_real_layout_and_size(tiny: Path) -> None:
    files = {str(path.relative_to(tiny)) for path in tiny.rglob("*") if path.is_file()}
    assert {
        "config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json",
        "speech-lora/adapter_config.json", "speech-lora/adapter_model.safetensors",
    } <= files  # fmt: skip
    assert sum(int(np.prod(shape)) for shape in open_weights(tiny).shapes.values()) < 150_000
    tokenizer = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == VOCABULARY
    assert tokenizer.encode("<|user|><|audio|>").ids == [special_id("<|user|>"), special_id("<|audio|>")]
    assert tokenizer.decode(tokenizer.encode("Grüße, 東京 🎧").ids) == "Grüße, 東京 🎧"


def test_the_same_seed_makes_the_same_checkpoint(tiny: Path, tmp_path: Path) -> None:
    again = make_tiny(tmp_path / "again")
    for name in ("config.json", "model.safetensors", "tokenizer.json", "speech-lora/adapter_model.safetensors"):
        assert (again / name).read_bytes() == (tiny / name).read_bytes(), name


def test_shards_with_an_index_give_the_same_model(tmp_path: Path, models: Any) -> None:
    folder = make_tiny(tmp_path / "shards", max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    for mine, theirs in zip(outputs(Phi4Model.load(folder)), outputs(models()), strict=True):
        assert torch.equal(mine, theirs)


def test_a_head_of_its_own_is_used_where_embeddings_are_not_tied(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "untied", tie_word_embeddings=False)
    before = outputs(Phi4Model.load(folder))[1]
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] *= 2
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert torch.allclose(outputs(Phi4Model.load(folder))[1], 2 * before)


def test_a_bfloat16_checkpoint_serves_in_bfloat16_and_in_float32(tmp_path: Path) -> None:
    folder = make_tiny(tmp_path / "bf16", dtype=torch.bfloat16)
    wide, narrow = outputs(Phi4Model.load(folder)), outputs(Phi4Model.load(folder, dtype=torch.bfloat16))
    for a, b in zip(wide, narrow, strict=True):
        assert b.dtype == torch.bfloat16
        assert float((a - b.float()).abs().max()) < 0.1 * float(a.abs().max())


def test_the_published_configuration_is_understood() -> None:
    """Numbers of the published model: 24/8 heads, 96 of 128 dimensions turned, 1.1902, 128 KiB of cache a token."""
    data = {
        "num_attention_heads": 24, "tie_word_embeddings": True, "sliding_window": 262144, "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 4096, "max_position_embeddings": 131072,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [1.0] * 47 + [47.77]},
        "audio_config": {"bias_max_distance": 500},
    }  # fmt: skip
    config = parse_config(data)
    assert (config.heads, config.kv_heads, config.head_dim, config.rope.dims) == (24, 8, 128, 96)
    assert config.rope.attention_factor == pytest.approx(1.1902, abs=5e-5)
    assert config.kv_bytes_per_token(2) == 128 * 1024
    assert config.eos_ids == (199999, 200020)
    assert config.audio_token_id == 200011
    assert config.audio.reduced_mels == 10
    assert not config.long_rope(4096)
    assert config.long_rope(4097)
    with pytest.raises(ValueError, match="131072 positions"):
        config.long_rope(131073)


def test_both_spellings_of_the_rope_factors_mean_the_same(copy: Path) -> None:
    new = read_config(copy)
    data = json.loads((copy / "config.json").read_text())
    rope = data.pop("rope_parameters")
    data |= {
        "rope_theta": rope["rope_theta"],
        "partial_rotary_factor": rope["partial_rotary_factor"],
        "rope_scaling": {"type": "longrope", "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]},
    }
    assert parse_config(data) == new


@pytest.mark.parametrize(
    "sign",
    [{"model_type": "phi4mm"}, {"auto_map": {"AutoConfig": "configuration_phi4mm.Phi4MMConfig"}}, {"embd_layer": {}}],
)
def test_the_old_remote_code_layout_is_refused_with_the_revision_to_take(copy: Path, sign: dict[str, Any]) -> None:
    change(copy, **sign)
    with pytest.raises(CheckpointError, match=r"old remote-code layout.*refs/pr/70"):
        Phi4Model.load(copy)


def test_the_old_layout_is_known_by_its_tensors_too(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    name = "model.layers.0.mlp.down_proj.weight"
    weights[name.replace(".weight", ".base_layer.weight")] = weights.pop(name)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="old remote-code layout"):
        Phi4Model.load(copy)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"vocab_size": 319}, r"does not fit config.json: model.embed_tokens.weight is \[320, 48\], not \[319, 48\]"),
        ({"num_hidden_layers": 3}, r"lacks 6 of \d+ tensors"),
        ({"intermediate_size": 64}, "does not fit"),
        ({"num_key_value_heads": 3}, "does not fit"),
        ({"tie_word_embeddings": False}, "the first is lm_head.weight"),
        ({"num_attention_heads": 5}, "not a multiple"),
        ({"num_attention_heads": 6}, "short_factor has 6 values, 3 dimensions turn"),
        ({"hidden_act": "gelu"}, "only silu"),
        ({"sliding_window": 2048}, "sliding_window"),
        ({"audio_config": {"chunk_size": 8}}, "chunk_size"),
        ({"audio_config": {"time_reduction": 6}}, "time_reduction"),
        ({"audio_config": {"hidden_size": 16}}, "must equal the audio hidden_size"),
        ({"audio_config": {"bias_symmetric": True}}, "bias_symmetric"),
        ({"model_type": "phi3"}, "model_type is 'phi3'"),
        ({"hidden_size": "many"}, "not a configuration"),
        ({"num_attention_heads": 0}, "not a configuration"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope type 'yarn'"),
    ],
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(
    copy: Path, values: dict[str, Any], sentence: str
) -> None:
    change(copy, **values)
    with pytest.raises(CheckpointError, match=sentence):
        check_checkpoint(copy)


def test_the_end_of_an_answer_is_found_where_the_published_files_name_it(copy: Path) -> None:
    """config.json has the end of a document alone, generation_config.json both."""
    change(copy, eos_token_id=special_id("<|endoftext|>"))
    path = copy / "generation_config.json"
    path.write_text(json.dumps({"eos_token_id": [special_id("<|end|>"), special_id("<|endoftext|>")]}))
    assert set(read_config(copy).eos_ids) == {special_id("<|end|>"), special_id("<|endoftext|>")}
    path.unlink()
    assert read_config(copy).eos_ids == (special_id("<|endoftext|>"),)


def test_damaged_and_missing_files_are_one_sentence(copy: Path, tmp_path: Path) -> None:
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        check_checkpoint(copy)
    weights.unlink()
    with pytest.raises(CheckpointError, match="download is incomplete"):
        check_checkpoint(copy)
    weights.write_bytes(whole)
    (copy / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        check_checkpoint(copy)
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        check_checkpoint(tmp_path / "nothing")
    (copy / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        check_checkpoint(copy)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match="outside"):
        open_weights(copy)


def test_a_tokenizer_that_is_missing_or_another_is_one_sentence(copy: Path) -> None:
    path = copy / "tokenizer.json"
    other = json.loads(path.read_text())
    other["added_tokens"] = [one for one in other["added_tokens"] if one["content"] != "<|assistant|>"]
    for text, sentence in ((json.dumps(other), r"no <\|assistant\|>: it is not Phi-4's"), ("{", "is no tokenizer")):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=sentence):
            Speech.load(copy)
    path.unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing: the download is incomplete"):
        check_checkpoint(copy)


def test_another_front_end_is_refused(copy: Path) -> None:
    path = copy / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hop_length": 128}))
    with pytest.raises(CheckpointError, match="hop_length is 128"):
        check_checkpoint(copy)


def test_only_the_tensors_that_are_used_are_asked_for(copy: Path) -> None:
    """The vision tower and its adapter may be left out of a download."""
    with safe_open(copy / "model.safetensors", framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if "image_embed" not in name}  # noqa: SIM118
    save_file(kept, copy / "model.safetensors", metadata={"format": "pt"})
    check_checkpoint(copy)


def test_the_core_imports_torch_safetensors_and_numpy_only() -> None:
    """transformers, tokenizers, PEFT and all audio libraries stay out of the process."""
    loaded = "{name.split('.')[0] for name in sys.modules}"
    script = (
        f"import sys, numpy, torch, safetensors; before = {loaded}; import speech.phi4.model; "
        f"print(*({loaded} - before - set(sys.stdlib_module_names)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=100)
    assert set(run.stdout.split()) <= {"speech", "errors", "mpmath", "sympy"}


@pytest.mark.parametrize("mode", [Mode.VISION, Mode.VISION_SPEECH])
def test_pictures_are_named_and_refused(models: Any, mode: Mode) -> None:
    model = models()
    with pytest.raises(UnsupportedMode, match="not implemented"):
        model.encode([CLIP], mode)
    row = PrefillRow(slot=0, start=0, embeds=model.embed([1]), mode=mode, long_rope=False)
    with pytest.raises(UnsupportedMode, match="not implemented"):
        model.prefill(model.new_cache(slots=1, slot_tokens=4), [row])
