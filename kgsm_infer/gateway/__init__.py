"""The field gateway: process acquisitions on a small computer and publish soil moisture.

    spool ──> intake ──> update ──> store ──> publish, http
    files     rows       the model  SQLite    MQTT, farmOS, HTTP, a page

The archive of processed files is the log, and the database is computed from it. Nothing is
published that is not stored. Only the command line imports this package (docs/gateway.md).
"""
