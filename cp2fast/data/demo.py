"""The demo's data, generated locally, and the place of its network."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from cp2fast.config import DataSettings, LabelledDataSettings, Root
from cp2fast.data.scenes import generate_scenes

DEMO_DATA = Path("demo-data")
DEMO_RUN = Path("runs/demo")
"""Where ``finetune-voc`` finds the demo's weights by default."""
_DEMO_SEED = 0


@overload
def data_root(settings: LabelledDataSettings) -> Path: ...
@overload
def data_root(settings: DataSettings) -> Root: ...
def data_root(settings: DataSettings | LabelledDataSettings) -> Root:
    """The images' root; if none is set, the demo scenes, which are generated once."""
    if settings.root is not None:
        return settings.root
    if not DEMO_DATA.exists():
        generate_scenes(DEMO_DATA, settings.scenes, _DEMO_SEED)
    return DEMO_DATA
