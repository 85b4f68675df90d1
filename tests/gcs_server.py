"""``python -m tests.gcs_server DIR PORT``: Google Cloud Storage, where buckets are folders of DIR.

Of its JSON API what a client needs to list, read in ranges and write in one request.
Source: https://cloud.google.com/storage/docs/json_api/v1/objects
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
PAGE = 7
"""Items of a listing's page: few, so that listings have several."""


def described(bucket: str, path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return {
        "kind": "storage#object",
        "name": path.relative_to(ROOT / bucket).as_posix(),
        "bucket": bucket,
        "size": str(len(content)),
        "md5Hash": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
    }


async def listing(request: web.Request) -> web.Response:
    bucket, query = request.match_info["bucket"], request.query
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
    items, prefixes = [], set()
    for path in sorted(path for path in (ROOT / bucket).rglob("*") if path.is_file()):
        rest = path.relative_to(ROOT / bucket).as_posix().removeprefix(prefix)
        if not path.relative_to(ROOT / bucket).as_posix().startswith(prefix):
            continue
        if delimiter and delimiter in rest:
            prefixes.add(prefix + rest.partition(delimiter)[0] + delimiter)
        else:
            items.append(described(bucket, path))
    begin = int(query.get("pageToken", 0))
    answer: dict[str, Any] = {"kind": "storage#objects", "items": items[begin : begin + PAGE]}
    if begin == 0:
        answer["prefixes"] = sorted(prefixes)
    if begin + PAGE < len(items):
        answer["nextPageToken"] = str(begin + PAGE)
    return web.json_response(answer)


async def metadata(request: web.Request) -> web.Response:
    bucket, path = request.match_info["bucket"], found(request)
    return web.json_response(described(bucket, path))


async def content(request: web.Request) -> web.FileResponse:
    return web.FileResponse(found(request))


async def upload(request: web.Request) -> web.Response:
    parts = (await request.read()).split(b"--==0==")
    head, body = (part.partition(b"\n\n")[2] for part in parts[1:3])
    path = ROOT / request.match_info["bucket"] / json.loads(head)["name"]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body.removesuffix(b"\n"))
    return web.json_response(described(request.match_info["bucket"], path))


def found(request: web.Request) -> Path:
    path = ROOT / request.match_info["bucket"] / request.match_info["key"]
    if not path.is_file():
        raise web.HTTPNotFound
    return path


if __name__ == "__main__":
    app = web.Application(client_max_size=1 << 28)
    app.router.add_get("/storage/v1/b/{bucket}/o", listing)
    app.router.add_get("/storage/v1/b/{bucket}/o/{key:.+}", metadata)
    app.router.add_get("/download/storage/v1/b/{bucket}/o/{key:.+}", content)
    app.router.add_post("/upload/storage/v1/b/{bucket}/o", upload)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)
