"""The description of the fault file, for people; `simulate --help` prints it, `faults_file` obeys it."""

__all__ = ["MANUAL"]

MANUAL = """\
seed: 7                              # of every chance; same seed, same run
streams: {first: 1, full: 1000,      # stream limit before and after a provider token was accepted
          after_rejection: 1,        # falls to that after a rejected push, rises after an accepted one
          over: refuse,              # or goaway: also "Maximum active streams violated …", code 7
          walk: {every: 30, least: 1, most: 1000}}     # about so often to anything between
window: {initial: 65535,             # of each stream; may be smaller than a body
         step: 32768}                # WINDOW_UPDATE of the connection only in steps of so many bytes
latency: {median: 0.06, sigma: 0.5}  # of every answer: log-normal, or 0.06 for exactly that
rate: 2000                           # answers a second on each connection, at most
abuse: {connects: 600, refuse: 300,  # more connects a minute: all are refused for so many seconds
        bad_tokens: 100}             # GOAWAY and close after so many BadDeviceToken on a connection
clock_offset: 0                      # seconds that Apple's clock is ahead when a token's age is judged
devices:                             # what is not listed is alive
  - {token: "9f8e…", state: dead, since: 1767600000}        # 410 Unregistered with that time
  - {prefix: "dead", state: expired, since: 1767600000}     # 410 ExpiredToken, all that begin so
  - {prefix: "5a", environment: sandbox, topics: [com.example.news], rate: 2}
names:                               # see below; only for a client in the same process
  - {name: localhost, addresses: "127.0.0.1 127.0.0.2", times: 2}
  - {error: NXDOMAIN, delay: 0.1, after: 2, from: 5, until: 8}
rules:                               # the first that fits decides
  - name: storm                      # stands in the ledger as "fault"
    when: request                    # or connect
    match: {token: "00", topic: com.example.news, push_type: alert, connection: 2, listener: 1,
            nth: 3, every: 10, after: 100, times: 5, probability: 0.1, count: connection,
            from: 10, until: 15, period: 60}
    do: {status: 503, reason: ServiceUnavailable, retry_after: 5}

match, all optional: token (its beginning), topic, push_type, connection (1 is the first opened),
listener (1 is the first --listen); of those that fit, the nth, every so many, only after so many, at
most so many times, with a probability; count: connection counts on each connection by itself;
from, until: seconds since the start, anew in each period. And of requests:
  verdict: BadDeviceToken            whose plain answer has that reason; Accepted for a 200
  token_changed: true                whose provider token is not the one of the request before

do with a request, alone or several together:
  delay: 0.2                         seconds; or {median: 0.06, sigma: 0.5}, log-normal
  status: 410, reason: Unregistered, timestamp: 1767600000, retry_after: 5
                                     status or reason may be left out where one gives the other; any
                                     status and any reason will do, known or not
  answer: {body: none|empty|invalid|text|null_reason|list, pieces: 3, trailers: true, continuations: 2,
           padding: 20, priority: true, interim: 103}
                                     the frames of the answer: without the body or with a wrong one, in
                                     several DATA frames, with trailing HEADERS, CONTINUATIONs,
                                     padding, PRIORITY, a 1xx answer before it
  shuffle: 8                         hold it until 8 are held (0.1 s at most), then send them in any order
  silent: true                       never answer
  reset: INTERNAL_ERROR              RST_STREAM, by name or number
  refuse: true                       RST_STREAM REFUSED_STREAM, not processed
  then_reset: STREAM_CLOSED          a second one, as was seen after REFUSED_STREAM
  accept_then_close: true            count it as accepted, then close without an answer
  processed: true                    count it as accepted whatever the client is told
  wedge: true                        the same to all later requests of the connection

do with a connection, in a rule for requests or with when: connect:
  goaway: {last: all|middle|none, debug: json|text|empty|invalid, reason: Shutdown, code: NO_ERROR,
           graceful: true, notice: 0.05, twice: true, close: drained|now|never}
  goaway: {before_settings: true}    with when: connect; the first frame, and no SETTINGS
  close: true                        close without an answer, not processed; or one of
         no_notify                   FIN without TLS close_notify
         reset                       RST of TCP
         half                        FIN, but go on reading
  limit: 1                           new MAX_CONCURRENT_STREAMS; 0 will do
  limit_for: 5                       after so many seconds the former one again
  settings: {INITIAL_WINDOW_SIZE: 1000, MAX_FRAME_SIZE: 16384, HEADER_TABLE_SIZE: 0,
             MAX_HEADER_LIST_SIZE: 8000}
  ping: true                         send one; the ledger counts its answer
  no_ping_ack: true                  from now on
  stop_reading: true                 until the connection ends
  no_window_updates: true            read on, but give no window back
  black_hole_after: 60               seconds without a byte from the client, then nothing goes through

do only with when: connect:
  hang_before_settings: true         accept and send nothing
  refuse_connect: true               RST before the handshake
  handshake_delay: 3                 seconds before the handshake begins
  shut_listener: 5                   RST, and for so many seconds nobody listens there

names: what a name server says, the first row that fits; error: NXDOMAIN, SERVFAIL or TIMEOUT, or addresses,
also none (""); only after so many look-ups of the name, at most so many times, from and until so many
seconds after the start. `simulate` is no name server and says that it leaves them out; in one process
`Simulator.names.look_up` is handed to the client, as the tests do. Everything else here works in both.

Wedges that were seen of Apple:
  - {match: {token_changed: true}, do: {status: 500, wedge: true}}
  - {match: {verdict: ExpiredProviderToken}, do: {reason: ExpiredProviderToken, wedge: true}}
  - {match: {verdict: TooManyProviderTokenUpdates}, do: {reason: TooManyProviderTokenUpdates, wedge: true}}
"""
