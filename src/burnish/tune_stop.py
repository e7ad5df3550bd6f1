"""A stop by a signal: noticed between steps, between batches of answers and inside attempts; saved before it is passed on.

Enters: a run under way. Leaves: `Stopped`, with how to go on, after a checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from burnish import tune_saving
from burnish.errors import Stopped
from burnish.train import Step
from burnish.tune_state import Running


def saved_when_stopped(running: Running, steps: Iterator[Step]) -> Iterator[Step]:
    """Yield the steps; where a stop comes inside one, in the middle of the model's own attempts, save before it is passed on."""
    try:
        yield from steps
    except Stopped:
        tune_saving.save(running)
        raise


def between_batches(running: Running, *, alone: bool = False) -> Callable[[], None]:
    """Return a look at the stop signal between batches of answers. `alone`: the other ranks have ended, so that nobody waits for this one."""

    def between() -> None:
        # Several ranks stop between steps, together; one alone may stop inside an evaluation or an attempt too.
        if running.stop.signal_number is not None and (alone or running.ranks.size == 1):
            raise Stopped(_stopped_message(running), signal_number=running.stop.signal_number)

    return between


def _stopped_message(running: Running) -> str:
    return (
        f"Stopped after step {running.progress.step} of {running.schedule.steps}; everything is saved in {running.run.path}. "
        f"Go on with: burnish tune {running.run.run_toml} --resume"
    )


def stop_if_asked(running: Running) -> None:
    """After a signal, save and stop; all ranks together."""
    if running.ranks.agree(running.stop.signal_number is not None):
        tune_saving.save(running)
        raise Stopped(_stopped_message(running), signal_number=running.stop.signal_number or 15)
