"""``python -m tests.web_server DIR PORT [CERTIFICATE]``: aiohttp's files, ranges and listings."""

import ssl
import sys

from aiohttp import web

if __name__ == "__main__":
    folder, port, *certificate = sys.argv[1:]
    app = web.Application()
    app.router.add_static("/", folder, show_index=True)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate[0])
    web.run_app(app, host="127.0.0.1", port=int(port), ssl_context=context, print=None)
