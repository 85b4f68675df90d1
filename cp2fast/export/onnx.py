"""The whole network as an ONNX model for images of any number and size."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from cp2fast.errors import UserError
from cp2fast.export.exported import Exported, largest_difference, random_images
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights.trained import Trained

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_OTHER_SHAPE = (1, 64, 96)
"""Added to the trace's images for the check: another count, height and width."""


class _Embedding(nn.Module):
    """The network with the dense embedding as its output."""

    def __init__(self, network: Segmenter) -> None:
        super().__init__()
        self.network = network

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.network.embed(images_B3HW)


def export_onnx(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.onnx``: logits of a fine-tuned network, else the dense embedding.

    Raises:
        UserError: a library that this needs is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--to onnx needs {' '.join(missing)}: pip install {' '.join(_NEEDED)}")
    import onnxruntime

    network, size = trained.network, trained.model.size
    output = "logits" if trained.is_finetuned else "embedding"
    whole = network if trained.is_finetuned else _Embedding(network).eval()

    @torch.no_grad()
    def check(path: Path) -> float:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), providers=["CPUExecutionProvider"]
        )
        count, height, width = _OTHER_SHAPE
        differences = []
        for images in (random_images(2, size, size), random_images(count, size + height, width)):
            [theirs] = session.run([output], {"images": images.numpy()})
            differences.append(largest_difference(whole(images), torch.from_numpy(theirs)))
        return max(differences)

    usage = f"""import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
images = np.random.rand(1, 3, {size}, {size}).astype("float32")  # RGB, ImageNet-normalised
[{output}] = session.run(["{output}"], {{"images": images}})
"""
    return Exported(
        content=_trace(whole, size, output),
        holds="the whole network",
        check=check,
        tolerance=1e-3,
        library=f"onnxruntime {onnxruntime.__version__}",
        usage=usage,
        notes=[
            f"The output is at the network's stride, {network.stride} pixels a cell; number, "
            "height and width of the images are free."
        ],
    )


def _trace(network: nn.Module, size: int, output: str) -> bytes:
    free = torch.export.Dim.DYNAMIC
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter's own internals
        program = torch.onnx.export(
            network,
            (random_images(2, size, size),),
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=({0: free, 2: free, 3: free},),
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave nothing")
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
