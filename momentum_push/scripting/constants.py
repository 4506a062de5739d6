"""The constants that scripts read, and the classifiers over them (momentum.md 7.5, 7.6, 9.2, 11).

Scripts write the names, never the numbers; where Momentum's manual does not give a number, ours is
free. Lua finds them in `msys.core`, `msys.apn`, `msys.delivery` and `msys.gcm`, Python in this module.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "APN",
    "CONT",
    "CORE",
    "COUNTER",
    "CTX_CONN",
    "CTX_MESS",
    "DELIVERY",
    "DELIVERY_CONTINUE",
    "DELIVERY_DONE",
    "DELIVERY_PERMFAILED",
    "DELIVERY_SUCCESS",
    "DELIVERY_TEMPFAILED",
    "DONE",
    "ENVELOPE_COMPLETE",
    "ENVELOPE_FROM",
    "ENVELOPE_TO",
    "GCM",
    "VALIDATE_AGAIN",
    "VALIDATE_CONT",
    "VALIDATE_DONE",
    "apn_status_classifier",
    "gcm_classify_error",
]

CONT, DONE = 0, 1
"""What a hook returns: go on with the next function; skip the remaining ones of this hook."""
VALIDATE_CONT, VALIDATE_DONE, VALIDATE_AGAIN = 0, 1, 2
"""The same in Momentum's words; AGAIN (call me again, I wait for something) counts as CONT here."""
CTX_MESS, CTX_CONN = 1, 2
"""Which context variables: the message's or the connection's."""
ENVELOPE_FROM, ENVELOPE_TO, ENVELOPE_COMPLETE = 1, 2, 4
DELIVERY_CONTINUE, DELIVERY_DONE, DELIVERY_SUCCESS, DELIVERY_TEMPFAILED, DELIVERY_PERMFAILED = range(5)

CORE: Mapping[str, int | str] = {
    "VALIDATE_CONT": VALIDATE_CONT,
    "VALIDATE_DONE": VALIDATE_DONE,
    "VALIDATE_AGAIN": VALIDATE_AGAIN,
    "ECMESS_CTX_MESS": CTX_MESS,
    "ECMESS_CTX_CONN": CTX_CONN,
    "VCTX_MESS": CTX_MESS,
    "VCTX_CONN": CTX_CONN,
    "EC_MSG_ENV_FROM": ENVELOPE_FROM,
    "EC_MSG_ENV_TO": ENVELOPE_TO,
    "EC_MSG_ENV_COMPLETE": ENVELOPE_COMPLETE,
    "EC_HOOK_CONT": 0,
    "EC_HOOK_DONE": 1,
    "EC_HOOK_RETRY": 2,
    "EC_MESSAGE_ENQUEUE_HOOK_CONT": 0,
    "EC_MESSAGE_ENQUEUE_HOOK_OK": 1,
    "EC_MESSAGE_ENQUEUE_HOOK_ERR": 2,
    "EC_MSG_MCMT_OK": 0,
    "EC_MSG_MCMT_INVALID": 1,
    "EC_MSG_MCMT_ERROR": 2,
    "MCMT_RECEPTION_ALLOW": "allow",
    "MCMT_RECEPTION_REJECT": "reject",
    "MCMT_RECEPTION_PASSTHRU": "passthru",
}

DELIVERY: Mapping[str, int | str] = {
    "DELIVERY_CONTINUE": DELIVERY_CONTINUE,
    "DELIVERY_DONE": DELIVERY_DONE,
    "DELIVERY_SUCCESS": DELIVERY_SUCCESS,
    "DELIVERY_TEMPFAILED": DELIVERY_TEMPFAILED,
    "DELIVERY_PERMFAILED": DELIVERY_PERMFAILED,
}

APN: Mapping[str, int | str] = {
    "APNS_NO_ERROR": 0,
    "APNS_PROCESSING_ERROR": 1,
    "APNS_MISSING_DEVICE_TOKEN": 2,
    "APNS_MISSING_TOPIC": 3,
    "APNS_MISSING_PAYLOAD": 4,
    "APNS_INVALID_TOKEN_SIZE": 5,
    "APNS_INVALID_TOPIC_SIZE": 6,
    "APNS_INVALID_PAYLOAD_SIZE": 7,
    "APNS_INVALID_TOKEN": 8,
    "APNS_SHUTDOWN": 10,
}

GCM: Mapping[str, int | str] = {
    "GCM_NO_ERROR": 0,
    "GCM_UNAVAILABLE": 1,
    "GCM_MISSING_REGISTRATION": 2,
    "GCM_INVALID_REGISTRATION": 3,
    "GCM_MISMATCH_SENDER_ID": 4,
    "GCM_NOT_REGISTERED": 5,
    "GCM_MESSAGE_TOO_BIG": 6,
    "GCM_INVALID_DATA_KEY": 7,
    "GCM_INVALID_TTL": 8,
    "GCM_INTERNAL_SERVER_ERROR": 9,
    "GCM_INVALID_PACKAGE_NAME": 10,
}

COUNTER: Mapping[str, int | str] = {"STRICT": 0, "RELAXED": 1}
"""How exact a counter is; ours are always exact."""

_APN_PERMANENT = range(2, 9)
_GCM_PERMANENT = (2, 3, 4, 5, 6, 7, 8, 10)
_HTTP_PERMANENT = (400, 403, 404, 405, 410, 413)
"""What `DLV_Response_Status` holds where the binary protocol had no number (apns.md 4.4)."""


def apn_status_classifier(status: int) -> int:
    """Return DELIVERY_SUCCESS, _TEMPFAILED or _PERMFAILED for a `DLV_Response_Status` (momentum.md 7.5).

    What the table does not know is temporary, as in Momentum; an HTTP status that our records show
    where there is no old number goes by what the reason table does with it.
    """
    if status == 0:
        return DELIVERY_SUCCESS
    is_permanent = status in _APN_PERMANENT or status in _HTTP_PERMANENT
    return DELIVERY_PERMFAILED if is_permanent else DELIVERY_TEMPFAILED


def gcm_classify_error(status: int) -> int:
    """Return the same for GCM's numbers (momentum.md 11)."""
    if status == 0:
        return DELIVERY_SUCCESS
    return DELIVERY_PERMFAILED if status in _GCM_PERMANENT else DELIVERY_TEMPFAILED
