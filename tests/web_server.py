"""``python -m tests.web_server DIR PORT [CERTIFICATE]``: files, ranges and listings, by aiohttp.

Its own listings have no slash behind the names of folders, unlike those of nginx and Apache.
"""

import os
import ssl
import sys
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from aiohttp import web


async def answer(request: web.Request) -> web.StreamResponse:
    path = Path(folder, os.fsdecode(unquote_to_bytes(request.rel_url.raw_path)).strip("/"))
    if path.is_dir():
        names = (f"{one.name}/" if one.is_dir() else one.name for one in sorted(path.iterdir()))
        root = request.rel_url.raw_path.rstrip("/")
        links = (f'<a href="{root}/{quote(os.fsencode(name))}">it</a>' for name in names)
        return web.Response(text="\n".join(links), content_type="text/html")
    return web.FileResponse(path) if path.is_file() else web.Response(status=404)


if __name__ == "__main__":
    folder, port, *certificate = sys.argv[1:]
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate[0])
    web.run_app(app, host="127.0.0.1", port=int(port), ssl_context=context, print=None)
