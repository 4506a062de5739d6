"""MCMT, Momentum's multi-channel container: the bytes of a mail in, the push part's content out.

Lives here: finding the push part of a mail (momentum.md 4) and turning it and its recipients into
drafts, for SMTP and for the REST injector's templates. Not here: whether what it asks for is allowed
(`rules`, `token`, `payload`), who may send it, and SMTP's dot-stuffing.

    mail headers          Content-Type: multipart/vnd.msys.mcmt; boundary=b1
                          (blank line)
    preamble              skipped, as is what follows --b1--
    --b1
    part headers          Content-Type: message/vnd.msys.apn         ┐ both blocks may carry what
                          (blank line)                               │ `_READ` names; the inner one
    inner headers         X-Device-Token: 9f8e…                      ┘ wins
                          (blank line)
    payload               {"aps":{"alert":"Ferry cancelled"}}
    --b1--

Read leniently, where one reading only is possible: lines end in CRLF or LF; inner headers may be
missing, stand among the part's, or be indented as in the manual's misprint; `{` at the start of a line of a
header block begins the payload, blank line or not, for no header's name begins so; a container without
its last delimiter ends with the mail; parts of other types, an rfc822 part among them, may be there or not.

Refused, because two readings are possible: a second push part, a header of `_READ` twice in one
block, a broken transfer encoding, control characters in a header's value.

Transfer encoding: declared in the part's headers it covers the part's body, inner headers included
(RFC 2045 section 6); declared in the inner block, the payload alone. Base64 below plain inner headers is
the payload's in both cases: a header line cannot be base64. Quoted-printable declared in both places was
applied once. RFC 2047 words are not decoded: nothing that we read can hold more than ASCII.

The payload is everything from its first to its last byte that is not white space, untouched, so Apple
gets what the sender wrote. Only delimiters of the container itself are looked for, by `bytes.find`: the parts
are never split into lines. `email` takes five times as long and gives text back where bytes went in.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from momentum_push.message.envelope import Draft, Refusal

__all__ = ["Mcmt", "drafts_from", "is_container", "message_id", "parse"]

MAX_HEADER_BYTES = 65_536
"""Of one header block; Postfix takes 102,400 for a whole mail's."""
MAX_PARTS = 100
MAX_BOUNDARY = 200
"""RFC 2046 section 5.1.1 says 70; longer ones have been seen and do no harm."""

_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_BLOCK_END = re.compile(rb"\r?\n(?:\r?\n|(?=\{))")
_NOT_SPACE = re.compile(rb"[^ \t\r\n]")
_HEADER_LINE = re.compile(rb"[!-9;-z|~]+[ \t]*:")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_BOUNDARY = re.compile(rb';\s*boundary\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))', re.IGNORECASE | re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)
_HEX_TOKEN = re.compile(r"(?:[0-9A-Fa-f]{2}){32,}")

_CONTAINER = b"multipart/vnd.msys.mcmt"
_PUSH = b"message/vnd.msys.apn"
_SPACE = b" \t\r\n"
_PLAIN = (b"", b"7bit", b"8bit", b"binary")

_Headers = dict[bytes, bytes]


class Mcmt(msgspec.Struct, frozen=True, gc=False):
    """What the push part of a mail asks for, as it was written; None where a header is absent."""

    payload: bytes
    token: str | None = None
    """`X-Device-Token`."""
    return_path: str | None = None
    topic: str | None = None
    push_type: str | None = None
    priority: str | None = None
    expiration: str | None = None
    collapse_id: str | None = None
    apns_id: str | None = None
    deliver_at: str | None = None
    """`X-Deliver-At`: epoch seconds."""
    size: int = 0
    """Bytes of the whole mail."""


_READ: Mapping[bytes, str] = {
    b"x-device-token": "token",
    b"return-path": "return_path",
    b"apns-topic": "topic",
    b"apns-push-type": "push_type",
    b"apns-priority": "priority",
    b"apns-expiration": "expiration",
    b"apns-collapse-id": "collapse_id",
    b"apns-id": "apns_id",
    b"x-deliver-at": "deliver_at",
}
_MAIL_ONCE = frozenset((b"content-type", b"content-transfer-encoding"))
_PART_ONCE = _MAIL_ONCE | _READ.keys()


class _Broken(Exception):
    """Leaves the nested steps with the first fault; never leaves this module."""


class _Span(NamedTuple):
    """A part of the container: where it begins and ends in the mail, its delimiters not included."""

    start: int
    end: int


def is_container(raw: bytes) -> bool:
    """Whether a mail is an MCMT container by its headers; the container itself may yet be broken."""
    try:
        headers, _ = _mail_headers(raw)
    except _Broken:
        return False
    return _media_type(headers) == _CONTAINER


def parse(raw: bytes) -> Mcmt | Refusal:
    """Read the push part of a whole mail, headers and body, dot-stuffing removed.

    Returns:
        What the part asks for, or the refusal: `NoPushPart` for mail that has none, `BadMessage` for
        mail that cannot be read, with the place.

    Source: momentum.md 4, interfaces.md 2 and 3.
    """
    try:
        return _parse(raw)
    except _Broken as fault:
        return Refusal("BadMessage", str(fault))


def message_id(raw: bytes) -> str:
    """Return the Message-ID of a mail (RFC 5322 section 3.6.4) as it was written, empty when it has none."""
    try:
        headers, _ = _mail_headers(raw)
    except _Broken:
        return ""
    return headers.get(b"message-id", b"").decode("utf-8", "replace")


def _parse(raw: bytes) -> Mcmt | Refusal:
    headers, body = _mail_headers(raw)
    if _media_type(headers) != _CONTAINER:
        return Refusal("NoPushPart", f"mail: no {_CONTAINER.decode()} container, so nothing to push")
    if headers.get(b"content-transfer-encoding", b"").lower() not in _PLAIN:
        raise _Broken("mail headers: a container cannot be encoded as a whole; encode its parts")
    found: Mcmt | None = None
    for number, span in enumerate(_parts(raw, body, _boundary(headers)), 1):
        where = f"part {number}"
        part_headers, start = _block(raw, span, f"{where}, part headers")
        if _media_type(part_headers) != _PUSH:
            continue
        if found is not None:
            raise _Broken(f"{where}: a second {_PUSH.decode()} part; send one mail for each")
        found = _read_part(raw, part_headers, _Span(start, span.end), where)
    return found or Refusal("NoPushPart", f"container: no {_PUSH.decode()} part, so nothing to push")


# The mail and its parts


def _mail_headers(raw: bytes) -> tuple[_Headers, int]:
    """Return the mail's headers and where its body begins."""
    match = _BLANK_LINE.search(raw, 0, MAX_HEADER_BYTES)
    if match is None and len(raw) > MAX_HEADER_BYTES:
        raise _Broken(
            f"mail headers: longer than {MAX_HEADER_BYTES} bytes, or without a blank line after them"
        )
    end, body = match.span() if match else (len(raw), len(raw))
    return _headers(raw[:end], "mail headers", _MAIL_ONCE), body


def _media_type(headers: _Headers) -> bytes:
    return headers.get(b"content-type", b"").partition(b";")[0].strip().lower()


def _boundary(headers: _Headers) -> bytes:
    match = _BOUNDARY.search(headers[b"content-type"])
    if match is None:
        raise _Broken("mail headers: Content-Type has no boundary")
    quoted, plain = match.groups()
    boundary: bytes = (plain or _QUOTED_PAIR.sub(rb"\1", quoted)).rstrip(_SPACE)
    if not 0 < len(boundary) <= MAX_BOUNDARY or b"\n" in boundary:
        raise _Broken(f"mail headers: boundary must have 1 to {MAX_BOUNDARY} characters")
    return boundary


def _parts(raw: bytes, body: int, boundary: bytes) -> list[_Span]:
    """Find the parts between the container's delimiter lines.

    The line end before a delimiter belongs to it; of CRLF the CR stays, and goes with the white space.
    """
    delimiter = b"\n--" + boundary
    spans: list[_Span] = []
    start = 0
    at = raw.find(delimiter, body - 1)
    while at >= 0:
        line_end = raw.find(b"\n", at + 1)
        line_end = len(raw) if line_end < 0 else line_end
        rest = raw[at + len(delimiter) : line_end].rstrip(_SPACE)
        if rest in (b"", b"--"):
            if start:
                spans.append(_Span(start, max(start, at)))
            start = min(line_end + 1, len(raw))
            if rest or len(spans) > MAX_PARTS:
                break
        at = raw.find(delimiter, line_end)
    else:
        if not start:
            raise _Broken('container: no delimiter line "--boundary" in it')
        spans.append(_Span(start, len(raw)))
    if len(spans) > MAX_PARTS:
        raise _Broken(f"container: more than {MAX_PARTS} parts")
    return spans


# Header blocks


def _block(raw: bytes, span: _Span, where: str, indent: bytes = b"") -> tuple[_Headers, int]:
    """Read the header block at the beginning of a span; return it and where what follows begins."""
    start, limit = span
    if raw.startswith((b"\n", b"\r\n"), start, limit):
        return {}, raw.index(b"\n", start, limit) + 1
    match = _BLOCK_END.search(raw, start, min(limit, start + MAX_HEADER_BYTES))
    if match is None and limit - start > MAX_HEADER_BYTES:
        raise _Broken(f"{where}: longer than {MAX_HEADER_BYTES} bytes, or without a blank line after them")
    end, after = match.span() if match else (limit, limit)
    block = raw[start:end]
    block = block.replace(b"\n" + indent, b"\n") if indent else block
    return _headers(block, where, _PART_ONCE), after


def _headers(block: bytes, where: str, once: frozenset[bytes]) -> _Headers:
    """Return the headers of a block by lower-case name, unfolded, the first of each name.

    Lines that are no header are passed over, as by every mail program since mbox.
    """
    if b"\n " in block or b"\n\t" in block:
        block = _FOLD.sub(b"", block)
    headers: _Headers = {}
    for line in block.split(b"\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t").lower()
        if name not in headers:
            if colon:
                headers[name] = value.strip(_SPACE)
        elif name in once:
            raise _Broken(f'{where}: "{name.decode()}" stands there twice')
    return headers


def _values(headers: _Headers, where: str) -> dict[str, str]:
    """Return the headers that concern us as text; an empty one counts as absent."""
    values: dict[str, str] = {}
    for name, field in _READ.items():
        value = headers.get(name)
        if not value:
            continue
        if _CONTROL.search(value):
            raise _Broken(f"{where}: control character (CR, LF, NUL …) in the value of {name.decode()}")
        try:
            values[field] = value.decode()
        except UnicodeDecodeError:
            raise _Broken(f"{where}: the value of {name.decode()} is not UTF-8") from None
    return values


# The push part


def _read_part(raw: bytes, part_headers: _Headers, body: _Span, where: str) -> Mcmt:
    """Read the body of a push part: inner headers, where there are any, and payload."""
    size, declared, applied = len(raw), _encoding(part_headers), b""
    if declared not in _PLAIN and not (declared == b"base64" and _begins_with_header(raw, body)):
        raw, applied = _decode(raw[body.start : body.end], declared, where), declared
        body, declared = _Span(0, len(raw)), b""
    inner, payload = _inner(raw, body, f"{where}, inner headers")
    encoding = _encoding(inner) or declared
    if _is_encoded(payload, encoding, applied):
        payload = _decode(payload, encoding, where).strip(_SPACE)
    if not payload:
        raise _Broken(f"{where}: no payload after its headers")
    values = _values(part_headers, f"{where}, part headers") | _values(inner, f"{where}, inner headers")
    return Mcmt(payload, size=size, **values)


def _is_encoded(payload: bytes, encoding: bytes, applied: bytes) -> bool:
    if encoding == b"base64":  # which shows: its alphabet has no brace
        return not payload.startswith(b"{")
    return encoding not in _PLAIN and encoding != applied


def _encoding(headers: _Headers) -> bytes:
    return headers.get(b"content-transfer-encoding", b"").lower()


def _first(raw: bytes, body: _Span) -> int:
    """Return where the first byte that is not white space stands."""
    match = _NOT_SPACE.search(raw, *body)
    return match.start() if match else body.end


def _begins_with_header(raw: bytes, body: _Span) -> bool:
    return _HEADER_LINE.match(raw, _first(raw, body), body.end) is not None


def _inner(raw: bytes, body: _Span, where: str) -> tuple[_Headers, bytes]:
    """Take inner headers and payload apart."""
    first = _first(raw, body)
    if not _HEADER_LINE.match(raw, first, body.end):
        return {}, raw[first : body.end].rstrip(_SPACE)
    indent = raw[max(body.start, raw.rfind(b"\n", 0, first) + 1) : first]
    headers, start = _block(raw, _Span(first, body.end), where, indent)
    return headers, raw[start : body.end].strip(_SPACE)


def _decode(data: bytes, encoding: bytes, where: str) -> bytes:
    """Undo a transfer encoding (RFC 2045 sections 6.7 and 6.8)."""
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(data)
    if encoding != b"base64":
        name = encoding[:40].decode(errors="replace")
        raise _Broken(f"{where}: transfer encoding {name!a} is unknown; use base64 or quoted-printable")
    try:
        return binascii.a2b_base64(data.translate(None, _SPACE), strict_mode=True)
    except binascii.Error as error:
        raise _Broken(f"{where}: broken base64 ({str(error).lower()})") from None


# Fan-out


def drafts_from(
    mail: Mcmt, recipients: Sequence[tuple[str, str]], context: Mapping[str, str] | None = None
) -> list[Draft] | Refusal:
    """Turn a mail and its envelope recipients into drafts: one for each domain, a token for each recipient.

    The token is `X-Device-Token`, else `DLV_Dest_ID` of the context, else the recipient's local part
    where that looks like one (interfaces.md 2); so one mail with many recipients is a fan-out.

    Args:
        mail: as `parse` read it.
        recipients: (local part, domain) of every RCPT TO, in order, at least one.
        context: the message's context variables.

    Returns:
        Drafts in order of their first recipient, or why one recipient makes the whole mail useless.
    """
    if mail.apns_id is not None and len(recipients) > 1:
        detail = f"apns-id: one id cannot stand for {len(recipients)} recipients; leave it out"
        return Refusal("BadMessageId", detail)
    context = dict(context or {})
    named = mail.token or context.get("DLV_Dest_ID", "")
    drafts: dict[str, Draft] = {}
    for local, domain in recipients:
        token = named or (local if _HEX_TOKEN.fullmatch(local) else "")
        if not token:
            what = "no X-Device-Token, no DLV_Dest_ID, and its local part is no device token"
            return Refusal("MissingDeviceToken", f'recipient in "{domain[:80]}": {what}')
        draft = drafts.get(domain) or drafts.get(domain := domain.lower())
        if draft is None:
            draft = drafts[domain] = _draft(mail, domain, context)
        draft.tokens.append(token)
        draft.rcpts.append(local)  # type: ignore[union-attr]  # a list, by _draft
    return list(drafts.values())


def _draft(mail: Mcmt, domain: str, context: dict[str, str]) -> Draft:
    return Draft(
        domain=domain,
        payload=mail.payload,
        tokens=[],
        rcpts=[],
        topic=mail.topic,
        push_type=mail.push_type,
        priority=mail.priority,
        expiration=mail.expiration,
        collapse_id=mail.collapse_id,
        apns_id=mail.apns_id,
        context=context,
        return_path=(mail.return_path or "").strip("<>"),
        size=mail.size,
        deliver_at=mail.deliver_at,
    )
