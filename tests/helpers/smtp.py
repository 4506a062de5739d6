"""Mails and SMTP clients for tests of what comes in by SMTP."""

from __future__ import annotations

TOKEN = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
PAYLOAD = b'{"aps":{"alert":"Ferry cancelled"}}'


def container(*parts: bytes, preamble: bytes = b"", parameter: bytes = b'boundary="b1"') -> bytes:
    """A mail that is an MCMT container of these parts, each with its headers, boundary b1."""
    head = b"From: a@example.net\r\nSubject: x\r\nContent-Type: multipart/vnd.msys.mcmt; " + parameter
    between = b"".join(b"\r\n--b1\r\n" + part for part in parts)
    return head + b"\r\n\r\n" + preamble + between + b"\r\n--b1--\r\n"


def push_part(headers: bytes = b"", body: bytes = PAYLOAD) -> bytes:
    """A push part; `headers` are further MIME headers, each with its line end."""
    return b"Content-Type: message/vnd.msys.apn\r\n" + headers + b"\r\n" + body


def mail(body: bytes = PAYLOAD) -> bytes:
    """A container of one push part with this body: inner headers, blank line, payload."""
    return container(push_part(b"", body))
