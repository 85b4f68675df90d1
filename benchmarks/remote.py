"""Photos to pairs from an S3 server on this machine, compared with the same shards on its disk.

    python -m benchmarks.remote PHOTOS OUT.json [--rounds 3] [--names 1000000]

All systems take turns in one process; the server (moto's) is another process on the same cores:

    disk      one epoch of the shards in a folder, decoded and composed, without the pixel cache
    first     the same from s3:// with an empty disk cache, including listing and fetching
    cached    the same again, from the disk cache
    peers     WebDataset and LitData from the same server, if installed: decoded by worker
              processes (libjpeg-turbo), composed by the same op
    listing   files of one folder, members of shards with and without index, objects of a bucket
    memory    of this process after each of twenty epochs from s3://

Needs ``pip install "cp2fast[s3]" "moto[server]"``; PHOTOS is a folder of JPEG.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.common import write_result
from benchmarks.remote_peers import peers
from cp2fast.batch import RaggedBatch
from cp2fast.bench.ceilings import compose
from cp2fast.bench.resident import peak_resident, resident_bytes
from cp2fast.config import DataSettings
from cp2fast.cores import available_cores
from cp2fast.data.image_sets.image_set import ImageSet
from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.order import plan, steps_per_epoch
from cp2fast.data.packing.pack import pack
from cp2fast.data.packing.packed_jpeg import JpegSettings
from cp2fast.data.prefetch import prefetch
from cp2fast.data.remote import objects
from cp2fast.data.remote.disk_cache import DiskCache
from cp2fast.data.sources.bad_images import BadImages
from cp2fast.data.sources.choice import choose_source
from cp2fast.data.sources.open import open_source
from cp2fast.data.windows import windows

BUCKET, SIZE, BATCH, SHARD, EPOCHS = "photos", 224, 64, 100, 20
CPU = torch.device("cpu")
SETTINGS = DataSettings(cache="off", batch_size=BATCH)
ASKED = {"first": 0.7, "cached": 0.9}
"""Required shares of the rate from the disk."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--names", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, s3_server():
        work = Path(folder)
        shards, url = work / "shards", f"s3://{BUCKET}/shards"
        keep = JpegSettings(None, 90, keep_bytes=True, max_pixels=SETTINGS.max_pixels)
        pack(
            options.photos,
            shards,
            keep,
            shard_size=SHARD,
            workers=available_cores(),
            progress=lambda done, total: None,
        )
        for path in sorted(shards.iterdir()):
            objects.send(path, f"{url}/{path.name}")
        found = {
            "images": len(list_images(shards)),
            "pairs": pairs(shards, url, work, options.rounds),
            "listing": listing(shards, url, work, options.names),
            "memory_mib": memory(url, work / "flat"),
        }
    write_result(options.out, found)
    print(json.dumps({name: found[name] for name in ("pairs", "listing", "memory_mib")}, indent=1))


@contextlib.contextmanager
def s3_server() -> Iterator[None]:
    """A server in its own process with an empty bucket; the environment tells how to reach it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "benchmark",
        "AWS_SECRET_ACCESS_KEY": "benchmark",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        import boto3

        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield
    finally:
        server.terminate()
        server.wait()


def pairs(shards: Path, url: str, work: Path, rounds: int) -> dict[str, Any]:
    """Samples per second of an epoch, by system: all rounds, their median, and ratios to disk."""
    cache = work / "cache"

    def first() -> Iterable[RaggedBatch]:
        shutil.rmtree(cache, ignore_errors=True)
        return epoch(url, cache)

    systems: dict[str, Callable[[], Iterable[RaggedBatch]]] = {
        "disk": lambda: epoch(shards, cache),
        "first": first,
        "cached": lambda: epoch(url, cache),
        **peers(shards, BUCKET, work, BATCH),
    }
    rates: dict[str, list[float]] = {name: [] for name in systems}
    missing: dict[str, str] = {}
    for turn in range(rounds + 1):  # the first one is a warm-up
        for name, system in systems.items():
            if name in missing:
                continue
            try:
                rate = composed_rate(system)
            except Exception as error:  # a peer may fail in any way; the others are measured
                if name in ("disk", "first", "cached"):
                    raise
                missing[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
                continue
            if turn:
                rates[name].append(rate)
    medians = {name: median(some) for name, some in rates.items() if some}
    return {
        "rounds": rates,
        "median": medians,
        "ratio_to_disk": {name: rate / medians["disk"] for name, rate in medians.items()},
        "asked": ASKED,
        "not_measured": missing,
    }


def epoch(root: Path | str, cache: Path) -> Iterator[RaggedBatch]:
    """The batches of one epoch, listing included."""
    images = list_images(root, disk=DiskCache(cache))
    return decoded(images, steps_per_epoch(len(images), BATCH))


def decoded(images: ImageSet, stop: int) -> Iterator[RaggedBatch]:
    mixed = windows(SETTINGS, images)
    numbers = plan(seed=0, count=len(images), batch_size=BATCH, stop=stop, windows=mixed)
    choice = choose_source(SETTINGS, images, CPU)
    return open_source(choice, SETTINGS, images, numbers, 0, CPU, BadImages(None, 1.0))


def composed_rate(system: Callable[[], Iterable[RaggedBatch]]) -> float:
    """Samples per second, from opening to the last pair."""
    began = time.perf_counter()
    count = sum(prefetch(compose(system(), SIZE, CPU), 2))
    return count / (time.perf_counter() - began)


def listing(shards: Path, url: str, work: Path, names: int) -> dict[str, Any]:
    """Names per second; for one huge folder also the bytes per name by which the process grew."""
    huge = work / "huge"
    huge.mkdir()
    for number in range(names):
        os.close(os.open(huge / f"IMG_{number:09d}.jpg", os.O_CREAT | os.O_WRONLY))
    script = f"import benchmarks.remote as r; r.print_listing({str(huge)!r})"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    shutil.rmtree(huge)
    folder = json.loads(done.stdout)
    plain = work / "plain"
    shutil.copytree(shards, plain, ignore=shutil.ignore_patterns("*.index"))
    cache = DiskCache(work / "listed")
    return {
        "folder": folder,
        "shards_without_index": rate_of(lambda: list_images(plain)),
        "shards_with_index": rate_of(lambda: list_images(shards)),
        "remote_shards_with_index": rate_of(lambda: list_images(url, disk=cache)),
    }


def print_listing(root: str) -> None:
    """Print figures of listing one folder, for a process that has done nothing else."""
    with tempfile.TemporaryDirectory() as small:  # a first listing also imports modules
        (Path(small) / "a.jpg").touch()
        list_images(Path(small))
    began, cpu, before = time.perf_counter(), time.process_time(), resident_bytes()
    with peak_resident() as peak:
        images = list_images(Path(root))
        most = peak()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    count = len(images)
    print(
        json.dumps(
            {
                "names": count,
                "names_per_second": count / seconds,
                "names_per_processor_second": count / cpu,
                "bytes_a_name_at_most": (most - before) / count,
                "bytes_a_name_kept": (len(images.names.text) + 2 * count) / count,
            }
        )
    )


def rate_of(list_: Callable[[], ImageSet]) -> float:
    began = time.perf_counter()
    count = len(list_())
    return count / (time.perf_counter() - began)


def memory(url: str, cache: Path) -> list[float]:
    """MiB of this process after each epoch of decoding alone, with a filled disk cache."""
    images = list_images(url, disk=DiskCache(cache))
    images = images.first(min(len(images), 10 * BATCH))
    per_epoch = steps_per_epoch(len(images), BATCH)
    after = []
    for step, _ in enumerate(decoded(images, EPOCHS * per_epoch), 1):
        if step % per_epoch == 0:
            after.append(round(resident_bytes() / (1 << 20), 1))
    return after


if __name__ == "__main__":
    main()
