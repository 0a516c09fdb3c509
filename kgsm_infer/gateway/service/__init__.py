"""Run the gateway: the main loop, the watch on the spool, backups, and systemd."""
