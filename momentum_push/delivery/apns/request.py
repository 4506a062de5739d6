"""From a message to the header fields of its request (apns.md 2.1, 2.5).

Lives here: names, order and HPACK treatment of the fields. The body is the message's payload,
untouched. Checks were made at injection (`message.rules`); nothing is checked again here.

    :method :scheme :authority       same for the connection: indexed
    :path                            never indexed: a device token is used once, and is a secret
    authorization                    indexed: 230 bytes a request saved, one table entry an hour
    apns-topic -push-type -priority  indexed
    apns-expiration -collapse-id -id indexed at first use on the connection, so that the *name* is in
                                     the peer's table; after that never indexed

`apns-expiration` is always sent. Left out, Apple stores as long as it likes; `0` means one attempt;
both must be somebody's decision (apns.md 2.4).
"""

from __future__ import annotations

from hpack import HeaderTuple, NeverIndexedHeaderTuple

from momentum_push.message import Message

__all__ = ["RequestWriter"]

Field = HeaderTuple


class RequestWriter:
    """Makes the field lists for one connection; remembers which names the peer's table has seen."""

    def __init__(self, authority: str) -> None:
        self._first = [
            HeaderTuple(b":method", b"POST"),
            HeaderTuple(b":scheme", b"https"),
            HeaderTuple(b":authority", authority.encode()),
        ]
        self._seen: set[bytes] = set()

    def fields(self, message: Message, topic: str, authorization: bytes) -> list[Field]:
        """Return the fields of one request, in the order they go out.

        Args:
            message: what to send.
            topic: the topic with its suffix; empty leaves the field out (a certificate's only topic).
            authorization: `bearer <jwt>`; empty with certificates.
        """
        part = message.part
        fields: list[Field] = [
            *self._first,
            NeverIndexedHeaderTuple(b":path", b"/3/device/" + message.token.encode()),
        ]
        if authorization:
            fields.append(HeaderTuple(b"authorization", authorization))
        if topic:
            fields.append(HeaderTuple(b"apns-topic", topic.encode()))
        fields.append(HeaderTuple(b"apns-push-type", part.push_type.encode()))
        fields.append(HeaderTuple(b"apns-priority", b"%d" % part.priority))
        fields.append(self._passing(b"apns-expiration", b"%d" % part.expiration))
        if part.collapse_id:
            fields.append(self._passing(b"apns-collapse-id", part.collapse_id.encode()))
        fields.append(self._passing(b"apns-id", message.apns_id.encode()))
        return fields

    def _passing(self, name: bytes, value: bytes) -> Field:
        if name in self._seen:
            return NeverIndexedHeaderTuple(name, value)
        self._seen.add(name)
        return HeaderTuple(name, value)


def size_of(fields: list[Field], body: bytes) -> int:
    """Return the bytes of one request: names and values before compression, and the body."""
    return sum(len(name) + len(value) for name, value in fields) + len(body)
