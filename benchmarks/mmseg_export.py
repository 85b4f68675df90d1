"""A network fine-tuned with cp2fast and exported for mmseg, in mmsegmentation itself.

    python benchmarks/mmseg_export.py RUN

RUN is a fine-tuned run with a ResNet. mmsegmentation builds its model from the configuration of the
model card, reads the exported file, and both networks segment the same random images. It needs
mmsegmentation, mmengine and mmcv, or mmcv-lite: then mmcv's compiled operations, which neither
head uses, are stood in for. Exit code 1 if a name or a shape does not fit.
"""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from cp2fast.export.exported import largest_difference, random_images
from cp2fast.export.mmseg import export_mmseg
from cp2fast.model.trained import open_trained


def stand_in_for_mmcv_ops() -> None:
    """Classes that do nothing: mmseg imports the operations for other heads."""
    ops = ModuleType("mmcv.ops")
    ops.__path__ = []
    ops.__getattr__ = _stand_in  # type: ignore[method-assign]
    sys.modules["mmcv.ops"] = ops


def _stand_in(name: str) -> type[nn.Module]:
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (nn.Module,), {})


@torch.no_grad()
def main() -> int:
    if find_spec("mmcv._ext") is None:
        stand_in_for_mmcv_ops()
    import mmseg.models  # noqa: F401  # fills the registry
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    DefaultScope.get_instance("cp2fast", scope_name="mmseg")
    trained = open_trained(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mmseg.pth"
        exported = export_mmseg(trained, str(file))
        file.write_bytes(exported.content)
        card: dict[str, Any] = {}
        exec(exported.usage, card)  # noqa: S102  # the configuration as the card prints it
        theirs = MODELS.build(card["model"]).eval()
        state = torch.load(file, weights_only=True)["state_dict"]
    fit = theirs.load_state_dict(state, strict=False)
    images = random_images(2, trained.model.size, trained.model.size)
    difference = largest_difference(
        trained.network.eval()(images), theirs.decode_head(theirs.extract_feat(images))
    )
    print(f"missing {fit.missing_keys}, unexpected {fit.unexpected_keys}")
    print(f"largest difference of the logits {difference:.1e}")
    return 1 if fit.missing_keys or fit.unexpected_keys else 0


if __name__ == "__main__":
    sys.exit(main())
