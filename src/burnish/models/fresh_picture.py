"""Make an encoder of pictures that nothing has taught yet: a ViT of chosen sizes with random weights, saved beside its image processor.

Enters: sizes and a seed. Leaves: an ordinary Hugging Face folder, which from then on is a local model like any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from burnish.models.fresh import DEVIATION

if TYPE_CHECKING:
    from transformers import ViTModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSizes:
    """The sizes of a ViT: widths in numbers of features; `image` and `patch` are pixels of a side."""

    hidden: int = 256
    layers: int = 8
    heads: int = 4
    feed_forward: int = 704
    image: int = 64
    patch: int = 8


def make_picture_network(sizes: PictureSizes, *, seed: int = 0) -> ViTModel:
    """Return a fresh network in float32; the seed decides the weights. Torch's own random state stays as it is.

    Weights are normal with deviation 0.02, those of the patches by the square root of the pixels that they add up; projections that write
    into the residual stream are scaled down by the square root of their number (Radford et al. 2019). Source of the architecture:
    Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", arXiv 2010.11929.
    """
    import torch
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        intermediate_size=sizes.feed_forward,
        image_size=sizes.image,
        patch_size=sizes.patch,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=DEVIATION,
    )
    with torch.random.fork_rng(devices=[]):
        network = ViTModel(config, add_pooling_layer=False).float()
    generator = torch.Generator().manual_seed(seed)
    residual = DEVIATION / math.sqrt(2 * sizes.layers)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim == 4:
                weight.normal_(0.0, 1 / math.sqrt(weight[0].numel()), generator=generator)
            elif name.endswith(("cls_token", "position_embeddings")):
                weight.normal_(0.0, DEVIATION, generator=generator)
            elif weight.ndim == 2:  # the norms begin at one, biases at zero
                written = name.endswith(("o_proj.weight", "fc2.weight"))
                weight.normal_(0.0, residual if written else DEVIATION, generator=generator)
    return network


def save_fresh_picture(folder: Path, sizes: PictureSizes, *, seed: int = 0) -> None:
    """Write a fresh network and its image processor into a folder that Transformers opens by itself.

    A picture is resized to a square of `image` pixels as it is (its sides may be stretched), and its levels go from -1 to 1.
    """
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    make_picture_network(sizes, seed=seed).save_pretrained(str(folder))
    ViTImageProcessorPil(size={"height": sizes.image, "width": sizes.image}).save_pretrained(str(folder))


def first_picture_rate(hidden: int) -> float:
    """Return a highest learning rate for training such a network from random weights: it falls with the width, and is at most 1e-3.

    Touvron et al. 2020 (arXiv 2012.12877, table 9) take 5e-4 per 512 pictures of a batch at widths from 192 to 768.
    """
    return round(min(1e-3, 0.25 / hidden), 7)
