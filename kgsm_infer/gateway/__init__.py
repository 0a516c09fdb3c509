"""The field gateway: a box on a farm that takes acquisitions and tells soil moisture.

    spool ──> intake ──> history ──> retrieve ──> store ──> publish, serve
    a file    rows       what the    the model    SQLite     MQTT, farmOS, HTTP, a page
    whole                store has

The archive of taken files is the log, the database is what was worked out from it, and nothing
is told that is not stored. Only the command line imports this package (docs/gateway.md).
"""
