"""Pictures for tests: drawn in a moment, no two alike, bright discs and dark crosses on noise; and random encoders that read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

KINDS = ("vit", "siglip", "dinov2", "convnext")


def drawn(kind: str, seed: int, *, side: int = 32) -> PIL.Image.Image:
    """A disc or a cross somewhere on noise; the same lightness on the whole, so that a sum of pixels does not tell them apart."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(60, 120, (side, side, 3))
    y, x = draw.integers(side // 4, 3 * side // 4, 2)
    rows, columns = np.mgrid[:side, :side]
    r = side // 6
    shape = (rows - y) ** 2 + (columns - x) ** 2 <= r * r
    if kind == "cross":
        shape = ((abs(rows - y) <= 1) | (abs(columns - x) <= 1)) & (abs(rows - y) <= 2 * r) & (abs(columns - x) <= 2 * r)
    pixels[shape] = 240
    return PIL.Image.fromarray(pixels.astype(np.uint8))


def write_pictures(folder: Path, count: int, *, kinds: tuple[str, ...] = ("cross", "disc"), first: int = 0) -> Path:
    """Write a folder of class folders, `count` pictures of each kind."""
    for number, kind in enumerate(kinds):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for place in range(first, first + count):
            drawn(kind, 1000 * number + place).save(folder / kind / f"{place:03}.png")
    return folder


def write_table(folder: Path, count: int) -> Path:
    """Write pictures and a table of rows that name them."""
    write_pictures(folder / "photos", count)
    rows = [
        {"image": f"photos/{path.parent.name}/{path.name}", "label": path.parent.name} for path in sorted(folder.rglob("*.png"))
    ]
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def config_of(kind: str) -> Any:
    """Return the configuration of a small encoder of pictures of 28 x 28 pixels."""
    from transformers import ConvNextConfig, Dinov2Config, SiglipConfig, ViTConfig

    sizes: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 28, "patch_size": 7,
        "initializer_range": 0.1,
    }  # fmt: skip
    if kind == "vit":
        return ViTConfig(**sizes, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    if kind == "dinov2":
        return Dinov2Config(**{name: size for name, size in sizes.items() if name != "intermediate_size"}, layerscale_value=1.0)
    if kind == "convnext":
        return ConvNextConfig(patch_size=4, hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=28, initializer_range=0.2)
    text = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return SiglipConfig(vision_config=sizes, text_config={**text, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})


def make_encoder(folder: Path, kind: str = "vit") -> Path:
    """Write a random encoder without a head, as those are published that learned without labels, with its image processor."""
    import torch
    from transformers import AutoModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = AutoModel.from_config(config_of(kind))
    network.save_pretrained(str(folder))
    ViTImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(str(folder))
    return folder
