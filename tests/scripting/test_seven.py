"""The seven kinds of scripts, in Lua as the manual writes them and in Python: the same outcome."""

import msgspec
import pytest

from momentum_push.message import Home, QueueKey
from momentum_push.scripting import Accept, PolicyMessage, Request, Response, Stored, Subject, Vctx
from tests.helpers.scripts import TOKEN, Stage, a_message, lua_module

LUA = {
    "request edit": """
        require("msys.core")
        require("msys.apn")
        local mod = {}
        function mod:apn_request_eval(req, msg)
          req.json.aps.badge = 3
          return 0
        end
        msys.registerModule("policy", mod)
    """,
    "response override": """
        require("strict")
        require("msys.delivery")
        require("msys.apn")
        local mod = {}
        function mod:apn_response_eval(resp)
          if resp.status == msys.apn.APNS_INVALID_TOKEN then
            resp.status = msys.apn.APNS_PROCESSING_ERROR
          end
          return 0
        end
        msys.registerModule("policy", mod)
    """,
    "conversion": """
        require("strict")
        require("msys.delivery")
        require("msys.apn")
        require("msys.extended.message")
        local mod = {}
        function mod:generic_delivery_msg_dispose(msg)
          local status = msg:context_get(msys.core.ECMESS_CTX_MESS, "DLV_Response_Status")
          if status == "" then
            return msys.delivery.DELIVERY_CONTINUE
          elseif (msys.apn.apn_status_classifier(tonumber(status)) == msys.delivery.DELIVERY_PERMFAILED) or
              (msys.apn.apn_status_classifier(tonumber(status)) == msys.delivery.DELIVERY_TEMPFAILED) then
            msg:context_delete(msys.core.ECMESS_CTX_MESS, "DLV_Response_Status")
            msg:inject(msg:mailfrom(), "defaultNumber@deliverSMPP")
            return msys.delivery.DELIVERY_DONE
          else
            print(status, " unknown disposition!\\n")
          end
        end
        msys.registerModule("convert", mod);
    """,
    "destination": """
        require("msys.core")
        require("msys.extended.message")
        local mod = {}
        function mod:validate_data_spool_each_rcpt(msg, accept, vctx)
          local to = msys.pcre.match(msg:rcptto(), "^(?P<user>[^@]+)@")
          msg:context_set(msys.core.ECMESS_CTX_MESS, "DLV_Dest_ID", string.rep(to["user"], 32))
          return msys.core.VALIDATE_CONT
        end
        msys.registerModule("policy", mod)
    """,
    "binding": """
        require('msys.core');
        require('msys.extended.message');
        local mod = {};
        function mod:validate_set_binding(msg)
          local localpart_str = msys.core.string_new();
          local domain_str = msys.core.string_new();
          msg:get_envelope2(msys.core.EC_MSG_ENV_FROM, localpart_str, domain_str);
          local domain = tostring(domain_str);
          if msys.pcre.match(domain, "mydomain.com") then
            msg:binding("mydomain");
            return msys.core.VALIDATE_DONE;
          end
          return msys.core.VALIDATE_CONT;
        end
        msys.registerModule("validate_set_binding", mod);
    """,
    "refusal": """
        require("msys.core")
        local mod = {}
        function mod:validate_rcptto(msg, str, accept, vctx)
          if string.find(str, "stranger@") != nil then
            vctx:set_code(550, "5.7.1 no such app")
            return msys.core.VALIDATE_DONE
          end
          return msys.core.VALIDATE_CONT
        end
        msys.registerModule("policy", mod)
    """,
    "command": """
        require("msys.core");
        local mod = {}
        local function greet(cc)
          if cc.argc < 2 then
            print("You must pass a parameter to this command");
            return;
          end
          print("hello", cc.argv[1])
        end
        function mod:rsrc_setup()
          msys.registerControl("greet", greet);
          return true
        end
        msys.registerModule("policy", mod)
    """,
}

PYTHON = {
    "request edit": """
        def apn_request_eval(self, req, msg):
            req.json["aps"]["badge"] = 3
    """,
    "response override": """
        def apn_response_eval(self, resp, msg):
            if resp.status == 8:
                resp.status = 1
    """,
    "conversion": """
        def generic_delivery_msg_dispose(self, msg):
            if msg.context_get(CTX_MESS, "DLV_Response_Status"):
                msg.context_delete(CTX_MESS, "DLV_Response_Status")
                msg.inject(msg.mailfrom(), "defaultNumber@deliverSMPP")
    """,
    "destination": """
        def validate_data_spool_each_rcpt(self, msg, accept, vctx):
            msg.context_set(CTX_MESS, "DLV_Dest_ID", msg.rcptto().partition("@")[0] * 32)
    """,
    "binding": """
        def validate_set_binding(self, msg):
            if msg.mailfrom().endswith("@mydomain.com"):
                msg.binding("mydomain")
                return 1
    """,
    "refusal": """
        def validate_rcptto(self, msg, text, accept, vctx):
            if "stranger@" in text:
                vctx.set_code(550, "5.7.1 no such app")
                return 1
    """,
    "command": """
        def rsrc_setup(self):
            self.services.control("greet", self.greet)

        def greet(self, words):
            if len(words) < 2:
                return "You must pass a parameter to this command"
            return "hello\\t" + words[1]
    """,
}

HEAD = """
from momentum_push.scripting import Hooks
from momentum_push.scripting.constants import CTX_MESS

class Policy(Hooks):
"""

LANGUAGES = ["lua", "py"]


@pytest.fixture(params=LANGUAGES)
def load(request, tmp_path):
    """Load one of the seven in the language of this round; the stage stands beside the engine."""

    def loaded(name):
        text = LUA[name] if request.param == "lua" else HEAD + PYTHON[name].replace("\n    ", "\n")
        (tmp_path / f"policy.{request.param}").write_text(text)
        stage = Stage()
        return stage, stage.engine(tmp_path, "policy")

    return loaded


def a_mail(**fields) -> PolicyMessage:
    bindings = {"default": "default", "mydomain": "senders"}
    return PolicyMessage(Subject(**fields), groups=bindings)


def stored(message, context) -> PolicyMessage:
    message.home = Home(QueueKey("default", "default", "news.apns"), 10, 0.0)
    return PolicyMessage(Stored(message, context), may_refuse=False)


def test_a_request_is_edited_and_nothing_else_in_it(load):
    stage, engine = load("request edit")
    message = a_message(b'{"aps":{"alert":"x","l":[],"o":{},"f":1.5},"big":9007199254740993,"n":null}')
    request = Request(message, "com.example.news")
    assert engine.call("apn_request_eval", request, PolicyMessage(Subject())) == 0
    expected = b'{"aps":{"alert":"x","l":[],"o":{},"f":1.5,"badge":3},"big":9007199254740993,"n":null}'
    assert request.new_payload == expected
    assert not stage.panics


@pytest.mark.parametrize(("status", "after", "is_changed"), [(8, 1, True), (7, 7, False)])
def test_the_status_of_an_answer_is_overridden(load, status, after, is_changed):
    stage, engine = load("response override")
    response = Response(a_message(), status, 400, "BadDeviceToken")
    engine.call("apn_response_eval", response, PolicyMessage(Subject()))
    assert (response.status, response.is_changed) == (after, is_changed)
    assert not stage.panics


def test_a_failed_push_goes_to_another_domain(load):
    stage, engine = load("conversion")
    message = a_message(mailfrom="push@example.net", context={"campaign": "ferries"})
    failed = stored(message, {"DLV_Response_Status": "8"})
    engine.call("generic_delivery_msg_dispose", failed)
    assert not stage.panics
    (inject,) = failed.wishes.injects
    assert inject.mailfrom == "push@example.net"
    assert inject.recipients == ("defaultNumber@deliverSMPP",)
    assert inject.context == {"DLV_Dest_ID": TOKEN, "campaign": "ferries"}, "the status was deleted before"


def test_a_push_that_was_delivered_stays_as_it_is(load):
    _, engine = load("conversion")
    delivered = stored(a_message(), {})
    engine.call("generic_delivery_msg_dispose", delivered)
    assert delivered.wishes is None


def test_the_device_is_set_for_each_recipient(load):
    stage, engine = load("destination")
    message = a_mail(rcptto="c4@news.apns")
    assert engine.call("validate_data_spool_each_rcpt", message, Accept(), Vctx()) == 0
    assert message.wishes.context == {"DLV_Dest_ID": "c4" * 32}
    assert not stage.panics


@pytest.mark.parametrize(("sender", "binding"), [("a@mydomain.com", "mydomain"), ("a@b.com", None)])
def test_a_binding_is_chosen_by_the_sender(load, sender, binding):
    stage, engine = load("binding")
    message = a_mail(mailfrom=sender, binding="default", binding_group="default")
    assert engine.call("validate_set_binding", message) == (1 if binding else 0)
    assert (message.wishes and message.wishes.binding) == binding
    assert message.binding_group() == ("senders" if binding else "default")
    assert not stage.panics


def test_a_recipient_is_refused(load):
    stage, engine = load("refusal")
    stranger, friend = Vctx(), Vctx()
    assert engine.call("validate_rcptto", a_mail(), "stranger@news.apns", Accept(), stranger) == 1
    assert stranger.code == (550, "5.7.1 no such app")
    assert engine.call("validate_rcptto", a_mail(), "friend@news.apns", Accept(), friend) == 0
    assert friend.code is None
    assert not stage.panics


def test_a_console_command_is_registered_and_answers(load):
    stage, engine = load("command")
    engine.start()
    assert stage.commands["greet"](["greet", "you"]) == "hello\tyou"
    assert stage.commands["greet"](["greet"]) == "You must pass a parameter to this command"
    assert not stage.panics


def test_a_request_that_is_only_read_is_not_changed(tmp_path):
    text = lua_module("apn_request_eval", "seen = req.json.aps.alert .. req.token")
    (tmp_path / "policy.lua").write_text(text)
    engine = Stage().engine(tmp_path, "policy")
    request = Request(a_message(b'{ "aps" : {"alert" : "x\\u00e4"} }'))
    engine.call("apn_request_eval", request, PolicyMessage(Subject()))
    assert request.new_payload is None and not request.is_changed


def test_two_languages_see_each_others_changes(tmp_path):
    (tmp_path / "one.py").write_text(HEAD + PYTHON["request edit"].replace("\n    ", "\n"))
    two = lua_module("apn_request_eval", "req.json.aps.badge = req.json.aps.badge + 1")
    (tmp_path / "two.lua").write_text(two)
    (tmp_path / "three.py").write_text(
        HEAD + '    def apn_request_eval(self, req, msg):\n        req.json["aps"]["badge"] *= 2\n'
    )
    stage = Stage()
    engine = stage.engine(tmp_path, "one", "two", "three")
    request = Request(a_message())
    engine.call("apn_request_eval", request, PolicyMessage(Subject()))
    assert not stage.panics
    assert msgspec.json.decode(request.new_payload)["aps"]["badge"] == 8
