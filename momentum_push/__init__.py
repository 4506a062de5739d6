"""momentum-push: an injection daemon for Apple push notifications, in the manner of Momentum.

Messages come in over SMTP and HTTP, are on disk before they are acknowledged, wait in active and
delayed queues per (binding, domain), go to APNs over persistent HTTP/2 connections and leave one
record each in the `apn_logger`. The rooms below this package stand in rows; imports go down only
(`tests/test_rooms.py` holds that picture).
"""

__version__ = "0.1.0"
