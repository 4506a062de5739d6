"""`vctx` and `accept`: variables are shared, everything else is a wish."""

import pytest

from momentum_push.errors import ScriptError
from momentum_push.scripting import Accept, Vctx
from momentum_push.scripting.constants import CTX_CONN, CTX_MESS


def test_variables_belong_to_the_session_and_to_the_transaction():
    conn, mess = {"ehlo_domain": "x"}, {}
    vctx = Vctx(conn, mess)
    vctx.set(CTX_MESS, "a", 5)
    vctx.set(CTX_CONN, "b", "y")
    assert (conn, mess) == ({"ehlo_domain": "x", "b": "y"}, {"a": "5"})
    assert [vctx.get(CTX_CONN, key) for key in ("ehlo_domain", "nosuch")] == ["x", ""]


def test_wishes_are_kept_for_the_door():
    vctx = Vctx(recipients=["a@b", "c@d"])
    vctx.set_code(550, "5.7.1 no")
    assert (vctx.code, vctx.is_over) == ((550, "5.7.1 no"), False)
    vctx.disconnect(421, "4.7.0 go")
    vctx.tarpit(2)
    vctx.add_recipient("e@f")
    assert [vctx.remove_recipient(each) for each in ("a@b", "nobody@x")] == [True, False]
    assert vctx.recipient_list() == ["c@d", "e@f"]
    assert (vctx.code, vctx.is_over, vctx.tarpit_s) == ((421, "4.7.0 go"), True, 2.0)
    assert (vctx.added, vctx.removed) == (["e@f"], ["a@b"])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda vctx: vctx.get(7, "a"),
        lambda vctx: vctx.set(CTX_MESS, "a", {}),
        lambda vctx: vctx.set_code(1000, "x"),
        lambda vctx: vctx.set_code(None, "x"),
        lambda vctx: vctx.tarpit(-1),
        lambda vctx: vctx.tarpit(float("inf")),
    ],
)
def test_what_makes_no_sense_is_an_error(wrong):
    with pytest.raises(ScriptError):
        wrong(Vctx())


def test_capabilities_are_offered_or_not():
    accept = Accept(3)
    accept.esmtp_capability_add("XFORWARD")
    accept.esmtp_capability_remove("PIPELINING")
    assert accept.capabilities == {"XFORWARD": True, "PIPELINING": False}
    assert accept.inbound_session_count == 3
