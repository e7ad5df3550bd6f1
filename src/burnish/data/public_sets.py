"""Every public data set by name, for `public:NAME` and `burnish ls data`: the two parts of the registry in one."""

from __future__ import annotations

from burnish.data.public_language import LANGUAGE
from burnish.data.public_science import SCIENCE
from burnish.data.public_types import PublicSet

PUBLIC: dict[str, PublicSet] = {**LANGUAGE, **SCIENCE}
