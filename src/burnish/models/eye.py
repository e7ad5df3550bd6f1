"""The eye of a model that reads pictures: its own image processor, in the place where a model of texts has its tokenizer.

Enters: a model's folder and configuration. Leaves: an `Eye`, which turns the pictures of a batch into pixels as the model's authors did, and
says how many positions the model makes of one. Pixels are kept while there is room, since every epoch asks for the same ones. The processors
of Transformers that work on Pillow are taken, wherever: those on torchvision resize a little differently, and figures would depend on what is
installed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish.errors import DataError, ModelError
from burnish.pictures import decode
from burnish.types import ImagePart

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from burnish.models.find import Found

PROCESSOR = "preprocessor_config.json"
KEPT = 2_000_000_000
"""Bytes of pixels that are kept at most; beyond it pictures are opened again each time."""


@dataclass(slots=True, eq=False)
class Eye:
    """A model's image processor, and how many positions the model makes of a picture; a class because pixels are kept in it."""

    processor: Any
    positions: int
    channels: int
    height: int
    width: int
    is_fast: bool = True
    pad_token_id: int = 0
    """What fills rows up: pictures of one model are all of one length, so it stands nowhere."""
    eos_token_id: None = None
    bos_token_id: None = None
    all_special_tokens: tuple[str, ...] = ()
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    held: int = 0

    def __len__(self) -> int:
        return 0

    def convert_tokens_to_ids(self, token: str) -> None:
        """Return None: it knows no tokens."""
        return

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """Return what stands for the positions of a picture where a row is shown as text."""
        return f"[picture: {len(ids)} positions]"

    def save_pretrained(self, folder: str) -> None:
        """Write the processor's settings, which the ecosystem's own loader opens."""
        self.processor.save_pretrained(folder)

    def pixels(self, parts: Iterable[ImagePart], like: torch.Tensor) -> torch.Tensor:
        """Return the pixels of pictures, [S, channels, height, width], in the type and on the device of `like`."""
        import torch

        return torch.stack([self._of(part) for part in parts]).to(device=like.device, dtype=like.dtype)

    def nothing(self, count: int, like: torch.Tensor) -> torch.Tensor:
        """Return pixels of that many pictures nobody looks at, because what the model says of them is known already."""
        import torch

        return torch.zeros((1, self.channels, self.height, self.width), device=like.device, dtype=like.dtype).expand(
            count, -1, -1, -1
        )

    def _of(self, part: ImagePart) -> torch.Tensor:
        found = self.kept.get(part.sha256)
        if found is None:
            found = _through(self.processor, decode(part))
            if self.held + found.nbytes <= KEPT:
                self.kept[part.sha256] = found
                self.held += found.nbytes
        return found

    def shown(self, part: ImagePart) -> Image:
        """Return a picture as the model sees it: resized and cut, its colours as they were."""
        import PIL.Image
        import torch

        pixels_CHW = self._of(part).float()
        if getattr(self.processor, "do_normalize", False):
            mean_C, std_C = (torch.tensor(getattr(self.processor, name))[:, None, None] for name in ("image_mean", "image_std"))
            pixels_CHW = pixels_CHW * std_C + mean_C
        levels_HWC = (pixels_CHW * 255).round().clamp(0, 255).byte().permute(1, 2, 0)
        return PIL.Image.fromarray(levels_HWC.contiguous().numpy())


def open_eye(found: Found, config: Any) -> Eye:
    """Return the eye of a model whose configuration is known, without reading weights.

    Raises ModelError where the folder lacks the processor's settings, or pictures of different shapes do not become the same size.
    """
    from transformers import AutoImageProcessor

    folder = found.adapter if found.adapter is not None and (found.adapter / PROCESSOR).is_file() else found.base
    if found.local and not (Path(folder) / PROCESSOR).is_file():
        raise ModelError(
            f"model = {found.name!r} has no {PROCESSOR}, which says how its pictures are resized and normalised. Copy it from where the "
            f"model came from."
        )
    try:
        processor = AutoImageProcessor.from_pretrained(str(folder), backend="pil", trust_remote_code=False)
    except (OSError, ValueError, ImportError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model = {found.name!r}: its image processor cannot be used here without torchvision. ({reason})"
        ) from error
    channels, height, width = _shape(processor, found.name)
    return Eye(processor, positions_of(config, (channels, height, width)), channels, height, width)


def _shape(processor: Any, name: str) -> tuple[int, ...]:
    """Return the shape of the pixels of any picture; ModelError where a wide one and a high one come out different."""
    import PIL.Image

    shapes = {tuple(_through(processor, PIL.Image.new("RGB", size)).shape) for size in ((61, 40), (40, 61), (300, 200))}
    if len(shapes) > 1 or len(next(iter(shapes))) != 3:
        raise ModelError(
            f"model = {name!r}: its image processor gives pictures of different shapes ({', '.join(map(str, sorted(shapes)))}), which cannot stand "
            f"in one batch. Set a fixed size, do_resize and do_center_crop in its {PROCESSOR}."
        )
    return shapes.pop()


def _through(processor: Any, picture: Image) -> torch.Tensor:
    """Return the pixels [channels, height, width] that an image processor makes of a picture."""
    try:
        return processor(images=picture, return_tensors="pt")["pixel_values"][0]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"the model's image processor refuses a picture of {picture.size}: {error}") from error


def positions_of(config: Any, shape: tuple[int, ...]) -> int:
    """Return how many hidden states a model makes of a picture of this shape; 1 where they do not stand in a row, as in a network of filters.

    Found by running the network on torch's device without memory.
    """
    import torch

    from burnish.models.heads import body_of, network_class

    with torch.device("meta"), torch.no_grad():
        network = network_class("picture").from_config(config)
        states = body_of(network)(pixel_values=torch.zeros((1, *shape))).last_hidden_state
    return int(states.shape[1]) if states.ndim == 3 else 1
