"""The speech LoRA: read from its own configuration, merged or not, and never in LANGUAGE mode."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file, save_file  # noqa: E402

from speech.phi4.checkpoint import decoder_linears  # noqa: E402
from speech.phi4.config import CheckpointError, read_config  # noqa: E402
from speech.phi4.loading import check_checkpoint  # noqa: E402
from speech.phi4.lora import AdapterConfig, open_adapter, read_adapter_config  # noqa: E402
from speech.phi4.model import Mode, Phi4Model, PrefillRow  # noqa: E402
from speech.phi4.tiny import TARGET, make_adapter, make_tiny  # noqa: E402

SUFFIXES = ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]


@pytest.fixture(name="copy")
def _copy(tiny: Path, tmp_path: Path) -> Path:
    """A checkpoint to spoil."""
    return Path(shutil.copytree(tiny, tmp_path / "copy"))


def configure(folder: Path, **values: Any) -> None:
    """Sets keys of the adapter's configuration; None removes one."""
    path = folder / "speech-lora" / "adapter_config.json"
    data = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def logits(model: Phi4Model, mode: Mode) -> Any:
    """Of a short prompt."""
    row = PrefillRow(slot=0, start=0, embeds=model.embed([5, 6, 7, 8]), mode=mode, long_rope=False)
    return model.prefill(model.new_cache(slots=1, slot_tokens=8), [row])[0]


def test_merged_weights_are_base_plus_scale_times_b_a(tiny: Path, tmp_path: Path) -> None:
    """Against NumPy in float64, written into a base without any adapter."""
    base = load_file(tiny / "model.safetensors")
    adapter = load_file(tiny / "speech-lora" / "adapter_model.safetensors")
    for module in decoder_linears(read_config(tiny)):
        a, b = (adapter[f"base_model.model.{module}.lora_{part}.weight"].double().numpy() for part in "AB")
        merged = base[module + ".weight"].double().numpy() + 8.0 / 4 * (b @ a)
        base[module + ".weight"] = torch.from_numpy(merged.astype(np.float32))
    folder = Path(shutil.copytree(tiny, tmp_path / "merged"))
    save_file(base, folder / "model.safetensors", metadata={"format": "pt"})
    wanted = logits(Phi4Model.load(folder, lora="off"), Mode.LANGUAGE)
    for lora in ("merged", "unmerged"):
        got = logits(Phi4Model.load(tiny, lora=lora), Mode.SPEECH)
        assert torch.allclose(got, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_language_mode_is_bit_for_bit_the_same_with_and_without_the_adapter_loaded(tiny: Path, dtype: Any) -> None:
    texts = [
        logits(Phi4Model.load(tiny, lora=lora, dtype=dtype), Mode.LANGUAGE) for lora in ("off", "merged", "unmerged")
    ]
    assert torch.equal(texts[0], texts[1])
    assert torch.equal(texts[0], texts[2])


def test_speech_mode_without_the_adapter_is_the_base(models: Any) -> None:
    off, merged = models(lora="off"), models(lora="merged")
    assert torch.equal(logits(off, Mode.SPEECH), logits(off, Mode.LANGUAGE))
    assert float((logits(merged, Mode.SPEECH) - logits(merged, Mode.LANGUAGE)).abs().max()) > 0.1


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
def test_a_bfloat16_model_is_merged_in_float32_and_rounded_once(tmp_path: Path, stored: Any) -> None:
    """Not from weights that were rounded before: nearly every value would come out another."""
    folder = make_tiny(tmp_path / "tiny", dtype=stored, rank=5, alpha=7.0)
    exact = Phi4Model.load(folder, dtype=torch.float64)._decoder._layers[0].down.speech
    ours = Phi4Model.load(folder, dtype=torch.bfloat16)._decoder._layers[0].down.speech
    differing = float((ours != exact.to(torch.float32).to(torch.bfloat16)).float().mean())
    assert differing < 0.001  # float32's own rounding, next to a tie


def test_rank_alpha_and_scaling_come_from_the_file(copy: Path) -> None:
    plain = logits(Phi4Model.load(copy), Mode.SPEECH)
    base = logits(Phi4Model.load(copy, lora="off"), Mode.SPEECH)
    configure(copy, lora_alpha=0.0)
    assert torch.allclose(logits(Phi4Model.load(copy), Mode.SPEECH), base, atol=1e-6)
    configure(copy, lora_alpha=4.0, use_rslora=True)  # 4 / sqrt(4) is 8 / 4
    assert torch.equal(logits(Phi4Model.load(copy), Mode.SPEECH), plain)
    make_adapter(copy, seed=5, rank=7, alpha=3.5)
    assert read_adapter_config(copy / "speech-lora" / "adapter_config.json").scale == 0.5
    assert float((logits(Phi4Model.load(copy), Mode.SPEECH) - base).abs().max()) > 0.1


@pytest.mark.parametrize("target", [TARGET, SUFFIXES, TARGET.removeprefix(".*").removesuffix("$")])
def test_the_target_hits_exactly_the_decoders_linear_layers(tiny: Path, target: Any) -> None:
    """Also where it was written around the inner model (`layers.0...`), or as a list of suffixes."""
    config = AdapterConfig(
        rank=4, alpha=8.0, rank_stabilised=False, target=target if isinstance(target, str) else tuple(target)
    )
    linears = decoder_linears(read_config(tiny))
    assert len(linears) == 8
    assert all(config.hits(module) for module in linears)
    assert not config.hits("model.layers.0.input_layernorm")
    encoder = "model.embed_tokens_extend.audio_embed.encoder.encoders.0.feed_forward_in.down_proj"
    assert config.hits(encoder) is isinstance(
        target, list
    )  # PEFT would adapt the encoder here; open_adapter never does


def test_an_adapter_of_the_inner_model_is_the_same_adapter(copy: Path) -> None:
    wanted = logits(Phi4Model.load(copy), Mode.SPEECH)
    path = copy / "speech-lora" / "adapter_model.safetensors"
    tensors = {name.replace("model.model.", "model."): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    configure(copy, target_modules=TARGET.removeprefix(".*").removesuffix("$"))
    assert torch.equal(logits(Phi4Model.load(copy), Mode.SPEECH), wanted)


def test_an_adapter_of_some_layers_changes_those_only(copy: Path) -> None:
    path = copy / "speech-lora" / "adapter_model.safetensors"
    save_file({name: t for name, t in load_file(path).items() if "layers.1.mlp" in name}, path)
    configure(copy, target_modules=r"model\.layers\.1\.mlp\.\w+")
    adapter = open_adapter(copy / "speech-lora", decoder_linears(read_config(copy)))
    assert set(adapter.names) == {"model.layers.1.mlp.gate_up_proj", "model.layers.1.mlp.down_proj"}
    layers = Phi4Model.load(copy)._decoder._layers
    assert layers[0].down.speech is None
    assert layers[1].down.speech is not None


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"r": 8}, "does not fit"),
        ({"r": None}, "lacks r"),
        ({"target_modules": None}, "lacks r, lora_alpha or target_modules"),
        ({"target_modules": "nothing"}, "hits none"),
        ({"target_modules": r".*\.mlp\.\w+"}, "which its target_modules does not name"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"o_proj": 8}}, "rank_pattern"),
        ({"peft_type": "IA3"}, "only LORA"),
    ],
)
def test_an_adapter_that_would_be_computed_differently_is_refused(
    copy: Path, values: dict[str, Any], sentence: str
) -> None:
    configure(copy, **values)
    with pytest.raises(CheckpointError, match=sentence):
        Phi4Model.load(copy)


def test_missing_and_foreign_tensors_are_refused(copy: Path) -> None:
    path = copy / "speech-lora" / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file({name: t for name, t in tensors.items() if "layers.0.mlp.down_proj.lora_B" not in name}, path)
    with pytest.raises(CheckpointError, match=r"holds no lora_A and lora_B"):
        Phi4Model.load(copy)
    foreign = "base_model.model.model.embed_tokens_extend.audio_embed.encoder.encoders.0.self_attn.o_proj.lora_A.weight"
    save_file(tensors | {foreign: torch.zeros(4, 32)}, path)
    with pytest.raises(CheckpointError, match="none of the decoder's linear layers"):
        Phi4Model.load(copy)
    shutil.rmtree(copy / "speech-lora")
    with pytest.raises(CheckpointError, match="speech needs its adapter"):
        Phi4Model.load(copy)
    assert Phi4Model.load(copy, lora="off").lora == "off"
    with pytest.raises(ValueError, match="checked without its adapter"):
        Phi4Model.build(check_checkpoint(copy, lora="off"), lora="merged")
