"""Servers as processes, and a proxy that delays, cuts and refuses, for what is remote."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fsspec

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "a-test-key",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def found_at(port: int) -> dict[str, str]:
    """The environment by which clients find an S3 server, or a proxy before it."""
    return CREDENTIALS | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}


def set_environment(patch: Any, variables: dict[str, str], folder: Path) -> None:
    """Let clients find a server, with a disk cache of their own below ``folder``."""
    for name, value in variables.items():
        patch.setenv(name, value)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setenv("AWS_CONFIG_FILE", os.devnull)
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for kind in ("s3", "https"):  # They keep their connections, to where these led before.
        fsspec.get_filesystem_class(kind).clear_instance_cache()


@dataclass(frozen=True)
class S3:
    """An S3 server (moto's) in a process of its own."""

    port: int

    @property
    def client(self) -> Any:
        """A client of boto3."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
            region_name=CREDENTIALS["AWS_DEFAULT_REGION"],
        )

    def upload(self, folder: Path, bucket: str) -> str:
        """All files below a folder, into a new bucket; its URL."""
        client = self.client
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = path.relative_to(folder).as_posix()
                client.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
        return f"s3://{bucket}"


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    port = free_port()
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with process(words, port):
        yield S3(port)


@contextlib.contextmanager
def web_server(folder: Path, certificate: Path | None = None) -> Iterator[str]:
    """A web server of files, with ranges and listings: nginx where it is installed; its URL.

    Args:
        folder: that it serves.
        certificate: of https, and its key, in one file; None is http.
    """
    port = free_port()
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        words = [sys.executable, "-m", "tests.web_server", str(folder), str(port)]
        words += [] if certificate is None else [str(certificate)]
    else:
        config = folder.parent / f"nginx-{port}.conf"
        config.write_text(_nginx(folder, port, certificate))
        words = [nginx, "-c", str(config), "-g", "daemon off;"]
    with process(words, port):
        yield f"{'http' if certificate is None else 'https'}://localhost:{port}"


def _nginx(folder: Path, port: int, certificate: Path | None) -> str:
    work, tls = folder.parent, ""
    if certificate is not None:
        tls = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    user = "user root;" if os.geteuid() == 0 else ""
    return (
        f"{user} worker_processes 1; pid {work}/nginx-{port}.pid; "
        f"error_log {work}/nginx-{port}.log; events {{}} http {{ access_log off; "
        f"server {{ listen 127.0.0.1:{port}{' ssl' if certificate else ''}; {tls} "
        f"root {folder}; autoindex on; }} }}"
    )


def certificate(folder: Path) -> Path:
    """A certificate for localhost that signs itself, and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    content = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    path = folder / "certificate.pem"
    path.write_bytes(content + made.public_bytes(pem))
    return path


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def process(words: list[str], port: int) -> Iterator[None]:
    """A server, from when it answers to the end of the context."""
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, started)
        yield
    finally:
        started.terminate()
        started.wait(10)


def _wait_for(port: int, started: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if started.poll() is not None:
            raise RuntimeError(f"{started.args!r} ended with {started.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{started.args!r} does not answer")


@dataclass
class Proxy:
    """Hands connections on to a server, with faults that may be changed at any time.

    Attributes:
        target: port of the server.
        status: what requests are answered by instead, such as "503 Service Unavailable".
        cut_after: bytes of an answer, after which the connection is reset.
        cuts: how many answers are still to be cut.
        delay: seconds before a request is handed on.
        answered: requests that it answered itself, or whose answers it cut.
    """

    target: int
    status: str | None = None
    cut_after: int = 0
    cuts: int = 0
    delay: float = 0.0
    answered: int = 0
    port: int = 0
    _listener: socket.socket = field(default_factory=socket.socket)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Proxy:
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), socket.socket() as server:
            server.connect(("127.0.0.1", self.target))
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()
            while request := client.recv(1 << 16):
                if self.status is not None:
                    self.answered += 1
                    head = f"HTTP/1.1 {self.status}\r\nContent-Length: 0\r\nConnection: close"
                    client.sendall(head.encode() + b"\r\n\r\n")
                    client.shutdown(socket.SHUT_RDWR)
                    return
                time.sleep(self.delay)
                server.sendall(request)
            server.shutdown(socket.SHUT_RDWR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        sent = 0
        with contextlib.suppress(OSError), client:
            while answer := server.recv(1 << 16):
                if self._cuts(sent + len(answer)):
                    client.sendall(answer[: max(0, self.cut_after - sent)])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(answer)
                sent += len(answer)

    def _cuts(self, length: int) -> bool:
        with self._lock:
            if not self.cuts or length <= self.cut_after:
                return False
            self.cuts -= 1
            self.answered += 1
            return True
