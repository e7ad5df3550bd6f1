"""Let a model on this machine write: prompts in, replies out, drawn by each prompt's own number.

Called by `synthesize`. The model is found, loaded and asked as everywhere else; what is drawn does not depend on which prompts are asked
together (in bfloat16, where sums round by the shape of a batch, two starts may differ in a word now and then).
"""

from __future__ import annotations

from collections.abc import Sequence

from burnish.data.dialog import Frame
from burnish.data.render import Renderer
from burnish.devices import Device, choose_device
from burnish.errors import ModelError
from burnish.models import load_model
from burnish.sampling import Options, generate
from burnish.synthesize import Asked, Reply, Write
from burnish.types import Expected, Message, Origin, Task, content


def local_writer(name: str, *, temperature: float = 0.7, seed: int = 0, device: Device | None = None) -> Write:
    """Return a function that lets the model `name` (bundled, folder, run directory or hub name) answer prompts.

    Raises ModelError where the model cannot be loaded, or was taught to continue texts and not to answer.
    """
    model = load_model(name, device or choose_device(moves_base=False))
    if model.found.settings.get("form") == "text":
        raise ModelError(
            f"model = {name!r} was taught to continue texts, not to follow an instruction. Use a chat model, such as tiny-chat."
        )
    renderer = Renderer(model.tokenizer, model.max_length, model.end_ids(), Frame())

    def write(asked: Sequence[Asked]) -> list[Reply]:
        tasks = [
            Task(messages=(Message("user", content(one.prompt)),), expected=Expected(), origin=Origin("prompt")) for one in asked
        ]
        options = Options(
            max_tokens=max(one.max_tokens for one in asked), temperature=temperature, top_p=0.95 if temperature else 1.0, seed=seed
        )
        prompts = [renderer.prompt(task) for task in tasks]
        given = generate(model, prompts, options, numbers=[one.number for one in asked])
        return [Reply(one.text.strip(), one.stopped) for one in given]

    return write
