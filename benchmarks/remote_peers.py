"""WebDataset and LitData, reading the photos that ``remote.py`` reads from the same server."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cp2fast.batch import RaggedBatch
from cp2fast.cores import available_cores
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote import objects


def peers(
    shards: Path, bucket: str, work: Path, batch_size: int
) -> dict[str, Callable[[], Iterable[RaggedBatch]]]:
    """An epoch of each library that is installed, with a worker process for each core."""
    found: dict[str, Callable[[], Iterable[RaggedBatch]]] = {}
    with contextlib.suppress(ImportError):
        import webdataset as wds

        found["webdataset"] = lambda: _joined(_webdataset(wds, shards, bucket), batch_size)
    with contextlib.suppress(ImportError):
        import litdata

        images = _litdata(litdata, shards, bucket, work / "litdata")
        found["litdata"] = lambda: _joined(images(), batch_size)
    return found


def _webdataset(wds: Any, shards: Path, bucket: str) -> Iterable[Tensor]:
    """Its loader as its documentation has it: shards shuffled, then a buffer of samples."""
    import boto3

    def signed(path: Path) -> str:
        wanted = {"Bucket": bucket, "Key": f"shards/{path.name}"}
        return str(boto3.client("s3").generate_presigned_url("get_object", Params=wanted))

    urls = [f"pipe:curl -s '{signed(path)}'" for path in sorted(shards.glob("*.tar"))]
    data = wds.WebDataset(urls, shardshuffle=len(urls), nodesplitter=wds.split_by_node)
    data = data.shuffle(1000).map(_decode)
    return DataLoader(data, batch_size=None, num_workers=available_cores())


def _litdata(litdata: Any, shards: Path, bucket: str, work: Path) -> Callable[[], Iterable[Tensor]]:
    """Its own chunks of the same JPEG bytes, streamed from the same server."""
    from litdata.streaming import downloader
    from litdata.streaming.writer import BinaryWriter

    downloader._OBSTORE_AVAILABLE = False  # obstore refuses http; boto3 is used instead
    work.mkdir()
    images = list_images(shards)
    writer = BinaryWriter(str(work / "chunks"), chunk_bytes="16MB")
    for number in range(len(images)):
        writer.add_item(number, {"jpg": images.read(number)})
    writer.done()
    writer.merge()
    for path in sorted((work / "chunks").iterdir()):
        objects.send(path, f"s3://{bucket}/litdata/{path.name}")

    def epoch() -> Iterable[Tensor]:
        shutil.rmtree(work / "cache", ignore_errors=True)
        data = litdata.StreamingDataset(
            f"s3://{bucket}/litdata",
            cache_dir=str(work / "cache"),
            shuffle=True,
            storage_options={"endpoint_url": os.environ["AWS_ENDPOINT_URL"]},
            transform=_decode,
        )
        loader: Iterable[Tensor] = litdata.StreamingDataLoader(
            data, batch_size=1, num_workers=available_cores(), collate_fn=lambda some: some[0]
        )
        return loader

    return epoch


def _decode(sample: dict[str, bytes]) -> Tensor:
    import simplejpeg

    return torch.from_numpy(simplejpeg.decode_jpeg(bytes(sample["jpg"]), "RGB"))


def _joined(images: Iterable[Tensor], batch_size: int) -> Iterator[RaggedBatch]:
    """Batches of the images; as in cp2fast, the rest of an epoch is dropped."""
    left = iter(images)
    while len(some := list(islice(left, batch_size))) == batch_size:
        yield RaggedBatch.pack(some, range(batch_size))
