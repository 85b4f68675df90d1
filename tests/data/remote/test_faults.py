"""Refusals of a server: which are tried again, and what is said of the others."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cp2fast.data.image_sets.listing import list_images
from cp2fast.data.remote import retry
from cp2fast.errors import UserError
from tests.servers import S3, Proxy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url(s3_process: S3) -> str:
    s3_process.client.create_bucket(Bucket="faults")
    s3_process.client.put_object(Bucket="faults", Key="a photo.jpg", Body=b"a photo")
    return "s3://faults/"


@pytest.mark.parametrize(
    "status",
    ["408 Request Timeout", "425 Too Early", "429 Too Many Requests", "503 Service Unavailable"],
)
def test_what_passes_is_tried_again(status: str, url: str, proxy: Proxy) -> None:
    images = list_images(url)
    before = retry.retries()
    proxy.status = status
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(images.read, 0)
        while retry.retries() == before and not reading.done():
            time.sleep(0.01)
        proxy.status = None
        assert reading.result() == b"a photo"


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden", "404 Not Found"])
def test_what_is_not_there_or_not_allowed_ends_at_once_and_is_named(
    status: str, url: str, proxy: Proxy
) -> None:
    images = list_images(url)
    before = retry.retries()
    proxy.status = status
    with pytest.raises(UserError, match=rf"s3://faults/a photo.jpg .*\({status[:3]}\)"):
        images.read(0)
    assert retry.retries() == before
