"""The rendezvous of prefill and decode workers, over real connections.

A decode worker opens one websocket to the bootstrap port of each prefill worker it meets. Over it
go, for each room, `granted` (the decode has room for the KV), `withdrawn` (the decode has given
up), and the other way `sent` (the KV has arrived) and `failed`.
"""
