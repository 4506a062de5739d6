"""One example for each hook, in Python; every_hook.lua has the same. Take what you need.

scriptlet "scriptlet" { script "every_hook" { source = "policy.every_hook_py" } }
"""

import re

from momentum_push.scripting import Hooks
from momentum_push.scripting.constants import (
    CTX_CONN,
    CTX_MESS,
    DELIVERY_PERMFAILED,
    apn_status_classifier,
)

CONT, DONE = 0, 1
TOKEN = re.compile(r"t-([0-9a-f]{64,})@")


class EveryHook(Hooks):
    def init(self):
        self.dead = 0

    def deinit(self):
        pass

    def rsrc_setup(self):
        """A console command:  dead_tokens"""
        self.services.control("dead_tokens", lambda words: f"dead tokens: {self.dead}")

    def validate_connect(self, accept, vctx):
        """Too many sessions: come back later."""
        if accept.inbound_session_count > 5000:
            vctx.disconnect(421, "4.3.2 too busy")
            return DONE

    def validate_ehlo(self, text, accept, vctx):
        vctx.set(CTX_CONN, "greeted_as", text)

    def validate_mailfrom(self, text, accept, vctx):
        if not text:
            vctx.set_code(550, "5.7.1 pushes need a sender")
            return DONE

    def validate_rcptto(self, msg, text, accept, vctx):
        """An app that is no longer served."""
        if "@retired." in text:
            vctx.set_code(550, "5.7.1 this app is retired")
            return DONE

    def ec_message_mcmt_pre_fixup(self, msg, reception):
        """Containers from our own network are always read."""
        return "allow" if msg.reception_peer("ip") == "127.0.0.1" else reception

    def ec_message_mcmt_fixup(self, msg):
        return 0

    def validate_data(self, msg, accept, vctx):
        for campaign in msg.header("X-Campaign")[:1]:
            msg.context_set(CTX_MESS, "campaign", campaign)

    def validate_data_spool(self, msg, accept, vctx):
        vctx.set(CTX_CONN, "last_count", len(vctx.recipient_list()))

    def validate_data_spool_each_rcpt(self, msg, accept, vctx):
        """The device token is the recipient's local part, after "t-"."""
        if found := TOKEN.match(msg.rcptto()):
            msg.context_set(CTX_MESS, "DLV_Dest_ID", found[1])

    def msg_gen_data_spool(self, msg):
        if msg.context_get(CTX_MESS, "campaign") == "stopped":
            msg.code(550, "5.7.1 this campaign was stopped")
            return DONE

    def validate_set_binding_list(self, calls):
        """A binding for each tenant, by the sender's domain; the whole list at once."""
        for (msg,) in calls:
            msg.binding(msg.mailfrom().rpartition("@")[2])

    def validate_dealloc(self, vctx):
        pass

    def apn_request_eval(self, req, msg):
        """No badge above 99."""
        badge = req.json.get("aps", {}).get("badge")
        if isinstance(badge, int) and badge > 99:
            req.json["aps"]["badge"] = 99

    def apn_response_eval(self, resp, msg):
        if resp.reason in ("Unregistered", "ExpiredToken"):
            self.dead += 1

    def generic_delivery_msg_dispose(self, msg):
        """A push that failed for good goes out as another message, to the app's fallback domain."""
        status = msg.context_get(CTX_MESS, "DLV_Response_Status")
        if status and apn_status_classifier(int(status)) == DELIVERY_PERMFAILED:
            msg.context_delete(CTX_MESS, "DLV_Response_Status")
            msg.inject(msg.mailfrom(), "fallback@sms.example.com")
