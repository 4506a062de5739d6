"""The description of the HTTP door in OpenAPI 3.1, as `GET /openapi.json` gives it.

A test holds it against the routes and its examples against its schemas, and both against real answers.
"""

from __future__ import annotations

from typing import Any

__all__ = ["DOCUMENT"]

Node = dict[str, Any]

_TOKEN = "9f8e7d6c5b4a39281706f5e4d3c2b1a09f8e7d6c5b4a39281706f5e4d3c2b1a0"
_MID = "3A/07-04217-1A3F9C2B"
_PAYLOAD = {"aps": {"alert": "Ferry cancelled"}}


def _ref(name: str) -> Node:
    return {"$ref": f"#/components/schemas/{name}"}


def _text(description: str, **more: Any) -> Node:
    return {"type": ["string", "null"], "description": description, **more}


def _object(properties: Node, required: list[str], **more: Any) -> Node:
    return {"type": "object", "properties": properties, "required": required, **more}


def _body(schema: Node, example: Any, description: str) -> Node:
    return {
        "description": description,
        "content": {"application/json": {"schema": schema, "example": example}},
    }


_OPTIONS: Node = {
    "domain": _text("Routing domain; in a notification it goes before the one beside the list"),
    "binding": _text("Binding or binding_group to send from"),
    "topic": _text("apns-topic"),
    "push_type": _text("apns-push-type"),
    "priority": {"type": ["integer", "string", "null"], "description": "apns-priority: 10, 5 or 1"},
    "expiration": {
        "type": ["integer", "string", "null"],
        "description": "apns-expiration, epoch seconds; 0: one attempt",
    },
    "collapse_id": _text("apns-collapse-id, at most 64 bytes"),
    "apns_id": _text("apns-id, a UUID; only for a single notification"),
    "deliver_at": {
        "type": ["integer", "string", "null"],
        "description": "When to send, epoch seconds, at most 30 days ahead and before expiration; past: now",
    },
    "context": {
        "type": ["object", "null"],
        "additionalProperties": {"type": "string"},
        "description": "Message context variables, for scripts and logs",
    },
}
_PAYLOAD_SCHEMA = {"type": "object", "description": "Sent to Apple byte by byte as it stands here"}

_SCHEMAS: Node = {
    "Notification": _object(
        {"device_token": {"type": "string"}, "payload": _PAYLOAD_SCHEMA, **_OPTIONS},
        ["device_token", "payload"],
        additionalProperties=False,
    ),
    "Notifications": _object(
        {
            "domain": _OPTIONS["domain"],
            "notifications": {"type": "array", "minItems": 1, "items": _ref("Notification")},
        },
        ["notifications"],
        additionalProperties=False,
    ),
    "FanOut": _object(
        {
            "device_tokens": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "payload": _PAYLOAD_SCHEMA,
            **_OPTIONS,
        },
        ["device_tokens", "payload"],
        additionalProperties=False,
    ),
    "Accepted": _object({"id": {"type": "string"}, "apns_id": {"type": "string"}}, ["id", "apns_id"]),
    "Error": _object({"error": {"type": "string"}, "detail": {"type": "string"}}, ["error", "detail"]),
    "Results": _object(
        {
            "accepted": {"type": "integer"},
            "rejected": {"type": "integer"},
            "results": {"type": "array", "items": {"oneOf": [_ref("Accepted"), _ref("Error")]}},
        },
        ["accepted", "rejected", "results"],
    ),
    "Refusal": _object(
        {
            "error": {"type": "string"},
            "detail": {"type": "string", "description": "What is wrong, and where"},
            "accepted": {"type": "integer"},
            "rejected": {"type": "integer"},
            "results": {"type": "array", "items": {"oneOf": [_ref("Accepted"), _ref("Error")]}},
        },
        ["error", "detail"],
    ),
    "Injection": _object(
        {
            "template": {
                "type": "string",
                "description": "A whole mail; <%= :name %> and [%= :name %] are filled in",
            },
            "recipients": {"type": "array", "minItems": 1, "items": _ref("Recipient")},
        },
        ["template", "recipients"],
    ),
    "Recipient": _object(
        {
            "to": {"type": "string"},
            "from": {"type": "string"},
            "keys": {"type": ["object", "null"]},
            "vctx": {"type": ["object", "null"]},
        },
        ["to", "from"],
    ),
    "Injected": _object(
        {
            "status": {"type": "string", "enum": ["success"]},
            "results": {
                "type": "array",
                "items": _object(
                    {"status": {"type": "string"}, "mid": {"type": "string"}, "reason": {"type": "string"}},
                    ["status", "mid", "reason"],
                ),
            },
        },
        ["status", "results"],
    ),
    "NotInjected": _object(
        {
            "status": {"type": "string", "enum": ["error"]},
            "reason": {"type": "string"},
            "results": {
                "type": "array",
                "items": _object(
                    {"status": {"type": "string"}, "reason": {"type": "string"}}, ["status", "reason"]
                ),
            },
        },
        ["status", "reason", "results"],
    ),
    "Cancelled": _object(
        {"cancelled": {"type": "integer"}, "on_their_way": {"type": "integer"}}, ["cancelled", "on_their_way"]
    ),
    "Status": _object({"status": {"type": "string"}}, ["status"]),
    "Figures": {"type": "object"},
    "Queues": _object({"QueueSummary": {"type": "array", "items": {"type": "object"}}}, ["QueueSummary"]),
}

_RESULTS = {
    "accepted": 1,
    "rejected": 1,
    "results": [
        {"id": _MID, "apns_id": "4a7b0f2c-3d55-4c1e-9a86-0d6c2f7b9e11"},
        {"error": "BadDeviceToken", "detail": "not hexadecimal digits"},
    ],
}


def _refusal(error: str, detail: str, description: str) -> Node:
    return _body(_ref("Refusal"), {"error": error, "detail": detail}, description)


_KEYED: Node = {
    "409": _refusal(
        "IdempotencyKeyInUse",
        "the first request with this idempotency key is still being worked on",
        "Ask again after Retry-After seconds",
    ),
    "422": _refusal(
        "IdempotencyKeyReused",
        "this idempotency key was used for another body; use a new key for each request",
        "The key belongs to another request; nothing was queued for this one",
    ),
}
_KEY: Node = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "maxLength": 255},
    "description": "A string of the client's own for this request: for a day the same under it has the "
    "same answer and queues nothing; a stream goes on behind the last list that was committed",
}
_COMMON: Node = {
    "401": _refusal("Unauthorized", "log in with HTTP Basic", "Authentication is required, or failed"),
    "403": _refusal("Forbidden", "your address may not use this listener", "Refused by address"),
}
_LOADED: Node = {
    "408": _refusal("RequestTimeout", "the body came too slowly; send it again", "Too slow"),
    "413": _refusal(
        "RequestTooLarge",
        "the body has more than 67108864 bytes",
        "Above max_request_size, after decompression",
    ),
    "415": _refusal(
        "UnsupportedMediaType", "use application/json", "A type or an encoding that is not served"
    ),
    "503": _refusal(
        "ServiceUnavailable",
        "the spool has no room",
        "Try again after Retry-After seconds; nothing was queued",
    ),
}


def _failed(description: str) -> Node:
    example = {"status": "error", "reason": '"recipients" is empty; name one at least', "results": []}
    return _body(_ref("NotInjected"), example, description)


def _get(summary: str, response: Node, **more: Any) -> Node:
    return {"summary": summary, "responses": {"200": response, **_COMMON}, **more}


_NATIVE = {
    "application/json": {
        "schema": {"oneOf": [_ref("Notifications"), _ref("FanOut"), _ref("Notification")]},
        "examples": {
            "list": {
                "value": {
                    "domain": "com.example.news.apns",
                    "notifications": [{"device_token": _TOKEN, "payload": _PAYLOAD, "priority": 10}],
                }
            },
            "fan-out": {
                "value": {"domain": "com.example.news.apns", "device_tokens": [_TOKEN], "payload": _PAYLOAD}
            },
            "single": {
                "value": {"domain": "com.example.news.apns", "device_token": _TOKEN, "payload": _PAYLOAD}
            },
        },
    },
    "application/x-ndjson": {"schema": {"type": "string", "description": "A Notification on each line"}},
}
_INJECTION_EXAMPLE = {
    "template": "To: <%=:to%>\nContent-Type: multipart/vnd.msys.mcmt; boundary=q\n\n--q\n"
    "Content-Type: message/vnd.msys.apn\n\nX-Device-Token: <%=:tok%>\n\n"
    '{"aps":{"alert":"<%=:text%>"}}\n--q--\n',
    "recipients": [
        {
            "to": "u1@com.example.news.apns",
            "from": "push@example.net",
            "keys": {"tok": _TOKEN, "text": "Ferry cancelled"},
            "vctx": {"campaign": "ferries"},
        }
    ],
}
_INJECTED = {"status": "success", "results": [{"status": "success", "mid": _MID, "reason": f"250 {_MID}"}]}

_INJECT: Node = {
    "get": {
        "summary": "Connectivity test",
        "responses": {"200": {"description": "An empty body"}, **_COMMON},
    },
    "post": {
        "summary": "Inject a template for recipients, all or nothing",
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("Injection"), "example": _INJECTION_EXAMPLE}},
        },
        "responses": {
            "200": _body(_ref("Injected"), _INJECTED, "All are on disk"),
            "400": _failed("Nothing was injected: the request's fault"),
            **_COMMON,
            **{status: _failed(each["description"]) for status, each in _KEYED.items()},
            **{status: _failed(_LOADED[status]["description"]) for status in ("413", "415", "503")},
            "408": _LOADED["408"],
        },
    },
}


def _query(name: str, schema: Node, description: str) -> Node:
    return {"name": name, "in": "query", "schema": schema, "description": description}


def _delete(summary: str, parameters: list[Node]) -> Node:
    return {
        "summary": summary,
        "description": "Answers when what waited is removed, on record and on disk.",
        "parameters": parameters,
        "responses": {
            "200": _body(_ref("Cancelled"), {"cancelled": 2, "on_their_way": 0}, "What waited is removed"),
            "400": _refusal("BadMessageId", "look for a typing error", "Not understood"),
            "404": _refusal("NotFound", "no such message waits here", "Nothing of it waits"),
            "409": _refusal("OnItsWay", "it is being sent", "Apple may have it"),
            "503": _refusal("ServiceUnavailable", "ask again later", "It cannot be said yet"),
            **_COMMON,
        },
    }


_CANCEL_QUERY = [
    {**_query("domain", {"type": "string"}, "Routing domain"), "required": True},
    {**_query("collapse_id", {"type": "string"}, "apns-collapse-id"), "required": True},
    _query("device_token", {"type": "string"}, "Only messages to this device"),
]
_CANCEL_PATH = [
    {
        "name": "mid",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "Message id, its slash as it is or as %2F",
    }
]

_MAILQ_QUERY = [
    _query("domain", {"type": "string"}, "Only queues of this domain"),
    _query("binding", {"type": "string"}, "Only queues of this binding"),
    _query("limit", {"type": "integer"}, "At most so many queues"),
]
_QUEUE = {"group": "default", "binding": "default", "domain": "com.example.news.apns", "aq": 104, "dq": 0}
_STATUS = _ref("Status")

DOCUMENT: Node = {
    "openapi": "3.1.0",
    "info": {
        "title": "momentum-push",
        "version": "1",
        "description": "Apple push notifications in; accepted means on disk.",
    },
    "paths": {
        "/v1/notifications": {
            "post": {
                "summary": "Queue notifications",
                "description": "Answers after the commit, results in request order; gzip is understood.",
                "parameters": [
                    _query("domain", {"type": "string"}, "Routing domain of notifications without one"),
                    _KEY,
                ],
                "requestBody": {"required": True, "content": _NATIVE},
                "responses": {
                    "200": _body(_ref("Results"), _RESULTS, "At least one is on disk"),
                    "400": _refusal(
                        "BadPriority", "$.notifications[0].priority: 10, 5 or 1", "Nothing was accepted"
                    ),
                    **_COMMON,
                    **_KEYED,
                    **_LOADED,
                },
            },
            "delete": _delete("Cancel all that wait with a collapse id", _CANCEL_QUERY),
        },
        "/v1/notifications/{mid}": {"delete": _delete("Cancel one message that waits", _CANCEL_PATH)},
        "/v1.0/inject": _INJECT,
        "/v1.0/inject/": _INJECT,
        "/healthz": {"get": _get("Alive?", _body(_STATUS, {"status": "alive"}, "The daemon is alive"))},
        "/readyz": {
            "get": {
                "summary": "Taking messages?",
                "responses": {
                    "200": _body(_STATUS, {"status": "ready"}, "Spool and listeners take messages"),
                    "403": _COMMON["403"],
                    "503": _refusal("ServiceUnavailable", "the spool cannot be written", "Not now"),
                },
            }
        },
        "/metrics": {
            "get": _get(
                "Prometheus",
                {"description": "All figures", "content": {"text/plain": {"schema": {"type": "string"}}}},
            )
        },
        "/stats/summary": {
            "get": _get(
                "Summary", _body(_ref("Figures"), {"ReceivedMessages": 102472, "Uptime": 89083}, "Figures")
            ),
            "delete": _get("Reset", _body(_STATUS, {"status": "statistics cleared."}, "Counted anew")),
        },
        "/stats/queues/mailq": {
            "get": _get(
                "Queues", _body(_ref("Queues"), {"QueueSummary": [_QUEUE]}, "Queues"), parameters=_MAILQ_QUERY
            )
        },
        "/openapi.json": {
            "get": _get("This document", _body(_ref("Figures"), {"openapi": "3.1.0"}, "OpenAPI 3.1"))
        },
    },
    "components": {
        "schemas": _SCHEMAS,
        "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
    },
}
