"""The whole network as an ONNX model for any number and size of images."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shlex
import warnings
from pathlib import Path

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn

from cp2fast.errors import UserError
from cp2fast.model.segmenter import Segmenter
from cp2fast.weights.export.exported import Exported, largest_difference, random_images
from cp2fast.weights.trained import Trained

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_OPSET = 18
"""The newest opset that TensorRT 10 supports completely."""

_MOST = 1 << 31
"""Bytes that no file of protobuf may have."""

_FIXED_SIZE = SwinTransformer | SwinTransformerV2
"""Backbones whose windows are fixed to one image size when traced."""

_LONGER = (64, 96)
"""Added to height and width of the traced images for the check."""


class _Whole(nn.Module):
    """The network with one output: class logits at the images' own size, or the dense embedding."""

    def __init__(self, network: Segmenter, is_finetuned: bool) -> None:
        super().__init__()
        self.network, self.is_finetuned = network, is_finetuned

    def forward(self, images_B3HW: Tensor) -> Tensor:
        if not self.is_finetuned:
            return self.network.embed(images_B3HW)
        return self.network.upsample(self.network(images_B3HW), images_B3HW.shape[2:])


def export_onnx(trained: Trained, file: str) -> Exported:
    """Prepare ``file``, a ``.onnx``.

    For a fine-tuned network the output is ``logits`` ``[B, K, H, W]``, resized to the images' size
    by the model; otherwise it is ``embedding``, with one cell per ``embedding_stride`` pixels.
    Number, height and width of the images are free; with Swin transformers only the number is.

    Raises:
        UserError: a required library is not installed, or the network is too large.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--to onnx needs {' '.join(missing)}: pip install {' '.join(_NEEDED)}")
    weights = sum(tensor.nbytes for tensor in trained.network.state_dict().values())
    if weights >= _MOST:
        raise UserError(
            f"an ONNX file holds less than {_MOST >> 30} GiB, and these weights have "
            f"{weights / (1 << 30):.1f}: use --to safetensors or --to timm"
        )
    import onnxruntime

    network, size = trained.network, trained.model.size
    output = "logits" if trained.is_finetuned else "embedding"
    whole = _Whole(network, trained.is_finetuned).eval()
    any_size = not isinstance(network.backbone, _FIXED_SIZE)

    @torch.no_grad()
    def check(path: Path) -> float:
        session = onnxruntime.InferenceSession(
            path.read_bytes(), providers=["CPUExecutionProvider"]
        )
        height, width = (size + more for more in (_LONGER if any_size else (0, 0)))
        differences = []
        for images in (random_images(2, size, size), random_images(1, height, width)):
            [theirs] = session.run([output], {"images": images.numpy()})
            differences.append(largest_difference(whole(images), torch.from_numpy(theirs)))
        return max(differences)

    return Exported(
        content=_trace(whole, size, output, any_size),
        holds="the whole network",
        check=check,
        tolerance=1e-3,
        library=f"onnxruntime {onnxruntime.__version__}",
        usage=_usage(file, output, size),
        notes=_notes(trained, file, any_size),
    )


def _usage(file: str, output: str, size: int) -> str:
    labels = "labels = logits.argmax(axis=1)\n" if output == "logits" else ""
    return f"""import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession({file!r})
images = np.random.rand(1, 3, {size}, {size}).astype("float32")  # RGB, normalised as below
[{output}] = session.run(["{output}"], {{"images": images}})
{labels}"""


def _notes(trained: Trained, file: str, any_size: bool) -> list[str]:
    """Notes on opset, axes and output, and the command that builds a TensorRT engine."""
    network, size = trained.network, trained.model.size
    free = "number, height and width" if any_size else "the number"
    fixed = "" if any_size else f"; height and width are {size}"
    output = (
        "logits have the size of the images, resized inside (bilinear)"
        if trained.is_finetuned
        else f"embedding has a cell for {network.embedding_stride} pixels"
    )
    largest = 2 * size if any_size else size
    shapes = [f"1x3x{size}x{size}", f"1x3x{size}x{size}", f"8x3x{largest}x{largest}"]
    kinds = zip(("min", "opt", "max"), shapes, strict=True)
    arguments = " ".join(f"--{kind}Shapes=images:{shape}" for kind, shape in kinds)
    return [
        f"ONNX opset {_OPSET}. Input images [B, 3, H, W], float32: {free} of the images are "
        f"dynamic axes{fixed}. Output {output}.",
        f"For TensorRT: trtexec --onnx={shlex.quote(file)} {arguments} --saveEngine=network.engine",
    ]


def _trace(network: nn.Module, size: int, output: str, any_size: bool) -> bytes:
    free = torch.export.Dim.DYNAMIC
    axes = {0: free, 2: free, 3: free} if any_size else {0: free}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # from the exporter's own internals
        program = torch.onnx.export(
            network,
            (random_images(2, size, size),),
            input_names=["images"],
            output_names=[output],
            dynamic_shapes=(axes,),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter gave nothing")
    return program.model_proto.SerializeToString()  # type: ignore[no-any-return]
