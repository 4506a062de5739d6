-- One example for each hook, in the form of Momentum's manual; take what you need.
--
--   scriptlet "scriptlet" { script "every_hook" { source = "policy.every_hook" } }

require("strict")
require("msys.core")
require("msys.apn")
require("msys.delivery")
require("msys.extended.message")
require("msys.pcre")
require("msys.counter")

local mod = {}
local CONN, MESS = msys.core.VCTX_CONN, msys.core.ECMESS_CTX_MESS
local CONT, DONE = msys.core.VALIDATE_CONT, msys.core.VALIDATE_DONE

-- a console command:  dead_tokens
function mod:rsrc_setup()
  msys.registerControl("dead_tokens", function(cc)
    print("dead tokens: " .. msys.counter.read("/policy/dead_tokens"))
  end)
  return true
end

function mod:init()
  msys.counter.open("/policy/dead_tokens")
  return true
end

function mod:deinit()
  return true
end

-- too many sessions: come back later
function mod:validate_connect(accept, vctx)
  if accept.inbound_session_count > 5000 then
    vctx:disconnect(421, "4.3.2 too busy")
    return DONE
  end
  return CONT
end

function mod:validate_ehlo(str, accept, vctx)
  vctx:set(CONN, "greeted_as", str)
  return CONT
end

function mod:validate_mailfrom(str, accept, vctx)
  if str == "" then
    vctx:set_code(550, "5.7.1 pushes need a sender")
    return DONE
  end
  return CONT
end

-- an app that is no longer served
function mod:validate_rcptto(msg, str, accept, vctx)
  if msys.pcre.match(str, "@retired\\.") then
    vctx:set_code(550, "5.7.1 this app is retired")
    return DONE
  end
  return CONT
end

-- containers from our own network are always read
function mod:ec_message_mcmt_pre_fixup(msg, reception)
  if msg:reception_peer("ip") == "127.0.0.1" then return msys.core.MCMT_RECEPTION_ALLOW end
  return reception
end

function mod:ec_message_mcmt_fixup(msg)
  return msys.core.EC_MSG_MCMT_OK
end

function mod:validate_data(msg, accept, vctx)
  local campaign = msg:header("X-Campaign")
  if campaign[1] then msg:context_set(MESS, "campaign", campaign[1]) end
  return CONT
end

function mod:validate_data_spool(msg, accept, vctx)
  vctx:set(CONN, "last_count", #vctx:recipient_list())
  return CONT
end

-- the device token is the recipient's local part, after "t-"
function mod:validate_data_spool_each_rcpt(msg, accept, vctx)
  local token = msys.pcre.match(msg:rcptto(), "^t-(?<token>[0-9a-f]{64,})@")
  if token then msg:context_set(MESS, "DLV_Dest_ID", token.token) end
  return CONT
end

function mod:msg_gen_data_spool(msg)
  if msg:context_get(MESS, "campaign") == "stopped" then
    msg:code(550, "5.7.1 this campaign was stopped")
    return DONE
  end
  return CONT
end

-- a binding for each tenant, by the sender's domain
function mod:validate_set_binding(msg)
  local domain = msys.core.string_new()
  msg:get_envelope2(msys.core.EC_MSG_ENV_FROM, nil, domain)
  msg:binding(tostring(domain))  -- stays as it was where there is no binding of that name
  return CONT
end

function mod:validate_dealloc(vctx)
  return CONT
end

-- no badge above 99
function mod:apn_request_eval(req, msg)
  local badge = req.json.aps.badge
  if type(badge) == "number" and badge > 99 then req.json.aps.badge = 99 end
  return 0
end

-- a token that Apple calls bad is given up; everything else as it is
function mod:apn_response_eval(resp)
  if resp.status == msys.apn.APNS_INVALID_TOKEN then msys.counter.inc("/policy/dead_tokens") end
  return 0
end

-- a push that failed for good goes out as another message, to the app's fallback domain
function mod:generic_delivery_msg_dispose(msg)
  local status = msg:context_get(MESS, "DLV_Response_Status")
  if status == "" then return msys.delivery.DELIVERY_CONTINUE end
  if msys.apn.apn_status_classifier(tonumber(status)) == msys.delivery.DELIVERY_PERMFAILED then
    msg:context_delete(MESS, "DLV_Response_Status")
    msg:inject(msg:mailfrom(), "fallback@sms.example.com")
    return msys.delivery.DELIVERY_DONE
  end
  return msys.delivery.DELIVERY_CONTINUE
end

msys.registerModule("every_hook", mod)
