"""The model as a run begins with it: loaded, and adapted by the run's technique, all random numbers following from the seed.

Enters: a plan and a device. Leaves: the policy before step 0, the same wherever it is made: by `tune`, by `find_rate`, and again by
`burnish evaluate`, which compares with it.
"""

from __future__ import annotations

import random

from burnish.devices import Device
from burnish.models import Model, adapt, load_model
from burnish.prepare_plan import Plan


def before_step_0(plan: Plan, device: Device) -> Model:
    """Return the run's model with its technique applied, untrained. All global generators begin anew at the run's seed."""
    settings = plan.resolved.config
    _seed(settings.seed)
    model = load_model(plan.found.name, device, head=plan.head, heads=plan.heads, terms=settings.model.add_terms)
    adapt(model, plan.technique, settings.technique.options)
    return model


def _seed(seed: int) -> None:
    """Begin all global generators anew; ours are keyed by seed and step, but private code and dropout draw from these."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
