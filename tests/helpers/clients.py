"""Clients that nobody here wrote, as functions: smtplib, curl; and the mails and tokens they bring."""

from __future__ import annotations

import hashlib
import json
import smtplib
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.helpers.daemon import DOMAIN, DaemonProcess
from tests.helpers.servers import needs

__all__ = ["PAYLOAD", "curl", "mail", "post", "send_mail", "tokens"]

PAYLOAD = '{"aps":{"alert":"Fähre fällt aus","badge":1},"story":981}'


def tokens(count: int, name: str = "device") -> list[str]:
    """Return device tokens as Apple gives them out: 64 hexadecimal digits."""
    return [hashlib.sha256(f"{name} {number}".encode()).hexdigest() for number in range(count)]


def mail(token: str = "", payload: str = PAYLOAD, headers: str = "", container: str = "") -> bytes:
    """Return a mail in the form that Momentum's manual prescribes (momentum.md 4.2)."""
    inner = f"X-Device-Token: {token}\r\n" if token else ""
    return (
        "From: alerts@example.net\r\nSubject: breaking\r\nMIME-Version: 1.0\r\n"
        + (container or 'Content-Type: multipart/vnd.msys.mcmt; boundary="b1"\r\n')
        + "\r\n--b1\r\nContent-Type: message/rfc822\r\n\r\n"
        "From: alerts@example.net\r\nSubject: breaking\r\n\r\n"
        "Fallback text for mail readers.\r\n--b1\r\nContent-Type: message/vnd.msys.apn\r\n\r\n"
        f"{inner}{headers}\r\n{payload}\r\n--b1--\r\n"
    ).encode()


def send_mail(
    daemon: DaemonProcess, content: bytes, rcpts: Sequence[str] = (f"4711@{DOMAIN}",)
) -> tuple[int, str]:
    """Send a mail by smtplib and return the reply to its end of data."""
    with smtplib.SMTP("127.0.0.1", daemon.smtp_port, timeout=30) as client:
        client.ehlo("client.example.net")
        client.mail("push@example.net")
        for rcpt in rcpts:
            code, text = client.rcpt(rcpt)
            if code >= 400:
                return code, text.decode()
        code, text = client.data(content)
        return code, text.decode()


def curl(daemon: DaemonProcess, path: str, *arguments: str, data: bytes | None = None) -> tuple[int, Any]:
    """Run curl; return the status and the decoded answer (None when it is empty)."""
    command = [needs("curl"), "-sS", "-m", "30", "-w", "\n%{http_code}", *arguments]
    if data is not None:
        command += ["--data-binary", "@-"]
    done = subprocess.run(
        [*command, daemon.url(path)], input=data, capture_output=True, timeout=60, check=True
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    try:
        return int(status), json.loads(body) if body else None
    except json.JSONDecodeError:
        return int(status), body


def post(daemon: DaemonProcess, body: Any, content_type: str = "application/json") -> tuple[int, Any]:
    """Post a body (made JSON unless it is bytes) to the native endpoint."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return curl(daemon, "/v1/notifications", "-H", f"Content-Type: {content_type}", data=data)
