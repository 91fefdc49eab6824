"""Certificates of remote services are verified, and a private authority can be named."""

from __future__ import annotations

import datetime
import ipaddress
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lightrag.errors import BackendError
from lightrag.models.base import Prompt
from lightrag.models.remote.language_model import OpenAILanguageModel
from lightrag.models.remote.providers import endpoint
from tests.lightrag.models.remote.conftest import Server, application


@pytest.fixture
def private(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address of a TLS server and the certificate of the authority that only its owner knows."""
    certificate, key = write_certificate(tmp_path)
    config = uvicorn.Config(
        application(Server()),
        host="127.0.0.1",
        port=0,
        log_level="critical",
        lifespan="off",
        ssl_certfile=str(certificate),
        ssl_keyfile=str(key),
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield f"https://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1", certificate
    running.should_exit = True
    running.force_exit = True
    thread.join(5)


def write_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


async def test_an_unknown_authority_is_refused_with_the_cure_and_not_tried_again(private: tuple[str, Path]) -> None:
    model = OpenAILanguageModel("tiny", endpoint("openai", base_url=private[0]))
    start = time.monotonic()
    with pytest.raises(
        BackendError, match=r"certificate of .* refused; name a private authority in SSL_CERT_FILE"
    ) as caught:
        await model.complete([Prompt.of("a")])
    assert not caught.value.retryable
    assert time.monotonic() - start < 10


async def test_an_authority_named_in_the_environment_is_trusted(
    private: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(private[1]))
    model = OpenAILanguageModel("tiny", endpoint("openai", base_url=private[0]))
    [completion] = await model.complete([Prompt.of("a")])
    assert completion.text.startswith("a: ")
