"""``python -m tests.hub_server DIR PORT``: Hugging Face's hub with one data set, ``me/pictures``.

It answers what a client asks for to list and read: the repository, its tree, paths, and contents in
ranges. Source: https://huggingface.co/docs/hub/api
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

ROOT = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()


def described(path: Path) -> dict[str, Any]:
    name = path.relative_to(ROOT).as_posix()
    if path.is_dir():
        return {
            "type": "directory",
            "oid": hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(),
            "path": name,
        }
    content = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    return {"type": "file", "oid": blob, "size": len(content), "path": name}


async def repository(request: web.Request) -> web.Response:
    if request.match_info["repo"] != "pictures":
        raise web.HTTPNotFound(headers={"X-Error-Code": "RepoNotFound"})
    return web.json_response({"id": "me/pictures", "sha": "0" * 40, "tags": [], "siblings": []})


async def tree(request: web.Request) -> web.Response:
    folder = ROOT / request.match_info.get("path", "")
    if not folder.is_dir():
        raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"})
    every = request.query.get("recursive", "").lower() == "true"
    paths = folder.rglob("*") if every else folder.iterdir()
    return web.json_response([described(path) for path in sorted(paths)])


async def paths_info(request: web.Request) -> web.Response:
    form = await request.post() if request.content_type != "application/json" else None
    names = form.getall("paths") if form is not None else (await request.json())["paths"]
    found = [ROOT / str(name) for name in names]
    return web.json_response([described(path) for path in found if path.exists()])


async def content(request: web.Request) -> web.FileResponse:
    path = ROOT / request.match_info["path"]
    if not path.is_file():
        raise web.HTTPNotFound(headers={"X-Error-Code": "EntryNotFound"})
    return web.FileResponse(path)


if __name__ == "__main__":
    api = "/api/datasets/me/{repo}"
    app = web.Application()
    app.router.add_get(api, repository)
    app.router.add_get(f"{api}/revision/{{revision}}", repository)
    app.router.add_get(f"{api}/tree/{{revision}}", tree)
    app.router.add_get(f"{api}/tree/{{revision}}/{{path:.+}}", tree)
    app.router.add_post(f"{api}/paths-info/{{revision}}", paths_info)
    app.router.add_get("/datasets/me/{repo}/resolve/{revision}/{path:.+}", content)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None)
