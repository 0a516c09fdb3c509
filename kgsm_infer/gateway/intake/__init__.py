"""Take files from the spool into the archive and read their rows."""
