"""Users never see each other, messages are in no log, and a killed process loses nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightrag.conversation import Scope
from lightrag.errors import UsageError
from tests.lightrag.conversation.conftest import Opener, echo, say


def test_PR_a_secret_is_neither_printed_nor_logged(
    open_memory: Opener, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logs = {"level": "DEBUG", "file_enabled": True, "log_dir": str(tmp_path / "logs")}
    memory = open_memory(script=echo, logging=logs)
    memory.add_memory(say("My PIN is 4929-X."), force_extract=True)
    memory.retrieve("PIN")
    shown = capfd.readouterr()
    written = (tmp_path / "logs" / "lightmem.log").read_text(encoding="utf-8")
    assert "1 messages" in written
    assert "4929-X" not in shown.out + shown.err + caplog.text + written


def test_XX_certificates_of_the_model_server_are_verified(open_memory: Opener, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*_self_signed(tmp_path))
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"https://127.0.0.1:{server.server_port}/v1"
    configs = {"model": "m", "api_key": "k", "openai_base_url": url, "max_retries": 0, "context_tokens": 8000}
    memory = open_memory(memory_manager={"model_name": "openai", "configs": configs})
    report = memory.add_memory(say("I play the cello."), force_extract=True)
    server.shutdown()
    server.server_close()
    assert report.queued == 1
    assert "certificate" in report.problems[0].reason.lower()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1))
    certificate = made.sign(key, hashes.SHA256())
    files = (folder / "server.pem", folder / "server.key")
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, plain)
    )
    return files


@pytest.mark.parametrize("user", ["", "  ", "two\nlines", "x" * 300])
def test_impossible_users_are_refused(user: str) -> None:
    with pytest.raises(UsageError):
        Scope("tenant", user)


def test_scopes_that_look_alike_are_different() -> None:
    assert Scope("a", "b/c").key != Scope("a.b", "c").key
    assert Scope("t", "Ann").key != Scope("t", "ann").key


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), min_size=1, max_size=25))
def test_interleaved_users_only_ever_see_their_own(
    open_memory: Opener, tmp_path: Path, adds: list[tuple[int, int]]
) -> None:
    memory = open_memory(path=tmp_path / str(time.monotonic_ns()))
    users = [memory.for_user("t", f"user {n}") for n in range(6)]

    async def run() -> None:
        await asyncio.gather(
            *(
                users[who].aio.add_memory(say(f"I, owner {who}, have house {what}."), force_extract=what % 2 == 0)
                for who, what in adds
            )
        )
        for who, user in enumerate(users):
            found = await user.aio.search("owner house", limit=50)
            assert all(f"owner {who}," in hit.entry.text for hit in found.entries)
            assert {hit.entry.text[-2] for hit in found.entries} == {str(what) for whom, what in adds if whom == who}

    asyncio.run(run())


def test_forgetting_a_user_removes_everything_of_that_user_only(open_memory: Opener, tmp_path: Path) -> None:
    memory = open_memory()
    ann, bob = memory.for_user("t", "ann"), memory.for_user("t", "bob")
    for user in (ann, bob):
        user.add_memory(say("I play the cello."), force_extract=True)
        user.retrieve("cello")
    folders = list((tmp_path / "memory" / "lightmem" / "t").iterdir())
    assert ann.forget() > 3
    assert ann.entries() == []
    assert len(bob.retrieve("cello")) == 1
    assert len(list((tmp_path / "memory" / "lightmem" / "t").iterdir())) <= len(folders)
    ann.add_memory(say("I am new here."), force_extract=True)
    assert [entry.text for entry in ann.entries()] == ["User: I am new here."]


CHILD = """
import sys, threading
from lightrag.conversation import LightMemory
from lightrag.models.fakes import HashingEmbedder
path = sys.argv[1]
config = {"embedding_retriever": {"model_name": "qdrant", "configs": {"path": path}},
          "topic_segment": True, "sensory_tokens": 12, "short_term_tokens": 24}
memory = LightMemory.from_config(config, embedder=HashingEmbedder())
n = int(sys.argv[2])
while True:
    text = f"My house {n} stands on hill {n} in town {n}."
    memory.add_memory({"role": "user", "content": text, "time_stamp": "2024-01-01"}, request_id=f"r{n}")
    print(n, flush=True)
    n += 1
    if n % 4 == 0:
        memory.offline_update(score_threshold=0.3)
"""


@pytest.mark.slow
def test_Z2_kill_9_at_any_moment_loses_and_doubles_nothing(open_memory: Opener, tmp_path: Path) -> None:
    path = tmp_path / "memory"
    accepted = -1
    for round_ in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(accepted + 1)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for seen, line in enumerate(child.stdout, 1):
            accepted = int(line)
            if seen == 5 + 3 * round_:
                # Somewhere inside the calls that follow.
                time.sleep(0.003 * (round_ + 1))
                os.kill(child.pid, signal.SIGKILL)
                break
        child.stdout.close()
        child.wait(timeout=20)
    memory = open_memory(path=path)
    memory.flush()
    said = sorted(int(entry.text.split()[3]) for entry in memory.entries())
    # Calls of a killed process may be durable although nobody saw their answer; none is missing and none is twice.
    assert said == list(range(len(said)))
    assert len(said) > accepted
    found = memory.search(f"house {accepted} hill {accepted}", limit=3).entries
    assert found[0].entry.text.split()[3] == str(accepted)
