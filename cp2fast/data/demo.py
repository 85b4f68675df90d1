"""The demo: scenes that are generated where it is run, and where its network lies."""

from __future__ import annotations

from pathlib import Path
from typing import overload

from cp2fast.config import DataSettings, LabelledDataSettings, Root
from cp2fast.data.scenes import generate_scenes

DEMO_DATA = Path("demo-data")
DEMO_RUN = Path("runs/demo")
"""Where ``finetune-voc`` finds the demo's weights by itself."""
_DEMO_SEED = 0


@overload
def data_root(settings: LabelledDataSettings) -> Path: ...
@overload
def data_root(settings: DataSettings) -> Root: ...
def data_root(settings: DataSettings | LabelledDataSettings) -> Root:
    """What holds the images; where none is named, the demo scenes, generated once."""
    if settings.root is not None:
        return settings.root
    if not DEMO_DATA.exists():
        generate_scenes(DEMO_DATA, settings.scenes, _DEMO_SEED)
    return DEMO_DATA
