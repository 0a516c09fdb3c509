"""Create and migrate the tables of the store (:mod:`kgsm_infer.gateway.store.database`)."""

from __future__ import annotations

#: One script per schema version; the file's ``user_version`` says how many it has had.
MIGRATIONS = (
    """
    CREATE TABLE arrival (
        sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL,
        kind TEXT NOT NULL, rows INTEGER NOT NULL, first INTEGER, last INTEGER);
    CREATE TABLE observation (
        paddock TEXT NOT NULL, acquired INTEGER NOT NULL, orbit TEXT NOT NULL, site TEXT NOT NULL,
        means INTEGER NOT NULL, numbers TEXT NOT NULL,
        PRIMARY KEY (paddock, acquired, orbit, site)) WITHOUT ROWID;
    CREATE TABLE base (
        paddock TEXT NOT NULL, orbit TEXT NOT NULL, site TEXT NOT NULL, column TEXT NOT NULL,
        count INTEGER NOT NULL, power REAL NOT NULL, driest_db REAL NOT NULL,
        wettest_db REAL NOT NULL, total_db REAL NOT NULL, square_db2 REAL NOT NULL,
        PRIMARY KEY (paddock, orbit, site, column)) WITHOUT ROWID;
    CREATE TABLE value (
        paddock TEXT NOT NULL, acquired INTEGER NOT NULL, orbit TEXT NOT NULL,
        revision INTEGER NOT NULL, sm REAL, sm_lower REAL, sm_upper REAL,
        valid_share REAL NOT NULL, rows REAL NOT NULL, flags TEXT NOT NULL, reason TEXT NOT NULL,
        model TEXT NOT NULL, simulated INTEGER NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (paddock, acquired, orbit, revision)) WITHOUT ROWID;
    CREATE TABLE latest (
        paddock TEXT PRIMARY KEY, acquired INTEGER NOT NULL, orbit TEXT NOT NULL,
        revision INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, sink TEXT NOT NULL, paddock TEXT NOT NULL,
        acquired INTEGER NOT NULL, orbit TEXT NOT NULL, revision INTEGER NOT NULL,
        tried INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE probe (
        paddock TEXT NOT NULL, sensor TEXT NOT NULL, at INTEGER NOT NULL, sm REAL NOT NULL,
        PRIMARY KEY (paddock, sensor, at)) WITHOUT ROWID;
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    """,
    # 2: the log of arrivals is read by time on the page
    "CREATE INDEX value_by_time ON value (acquired);",
    # 3: probes correct the pass of their day
    """
    ALTER TABLE value ADD COLUMN sm_correction REAL NOT NULL DEFAULT 0;
    ALTER TABLE value ADD COLUMN probes INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE used_probe (
        paddock TEXT NOT NULL, sensor TEXT NOT NULL, at INTEGER NOT NULL, sm REAL NOT NULL,
        sequence INTEGER NOT NULL, PRIMARY KEY (paddock, sensor, at)) WITHOUT ROWID;
    CREATE INDEX probe_by_time ON probe (paddock, at);
    CREATE INDEX used_probe_by_time ON used_probe (at)
    """,
    # 4: the reason of a gap that the table of the row did not have
    "ALTER TABLE observation ADD COLUMN why TEXT NOT NULL DEFAULT ''",
    # 5: never read
    "DROP TABLE meta",
    # 6: the quantity of each value, a name of kgsm_infer.base.quantities; '' until it is looked up
    "ALTER TABLE value ADD COLUMN quantity TEXT NOT NULL DEFAULT ''",
    # 7: a file may arrive again after another one corrected it; acquisitions may be removed
    """
    CREATE TABLE arrival_7 (
        sequence INTEGER PRIMARY KEY, digest TEXT NOT NULL, name TEXT NOT NULL,
        kind TEXT NOT NULL, rows INTEGER NOT NULL, first INTEGER, last INTEGER);
    INSERT INTO arrival_7 SELECT * FROM arrival;
    DROP TABLE arrival;
    ALTER TABLE arrival_7 RENAME TO arrival;
    CREATE INDEX arrival_by_digest ON arrival (digest);
    ALTER TABLE observation ADD COLUMN sequence INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE removed (
        paddock TEXT NOT NULL, acquired INTEGER NOT NULL, orbit TEXT NOT NULL,
        sequence INTEGER NOT NULL, PRIMARY KEY (paddock, acquired, orbit)) WITHOUT ROWID
    """,
    # 8: rain and daily values (daily_rows)
    """
    CREATE TABLE rain (
        place TEXT NOT NULL, day INTEGER NOT NULL, rain_mm REAL, issued INTEGER NOT NULL,
        sequence INTEGER NOT NULL, PRIMARY KEY (place, day)) WITHOUT ROWID;
    CREATE TABLE daily (
        paddock TEXT NOT NULL, day INTEGER NOT NULL, revision INTEGER NOT NULL,
        quantity TEXT NOT NULL, value REAL, lower REAL, upper REAL, weight REAL, pass_age REAL,
        pass_value REAL, rain_mm REAL, available_percent REAL, refill_mm REAL, threshold REAL,
        flags TEXT NOT NULL, simulated INTEGER NOT NULL,
        PRIMARY KEY (paddock, day, revision)) WITHOUT ROWID;
    CREATE INDEX daily_by_day ON daily (day);
    CREATE TABLE outlook (
        paddock TEXT NOT NULL, day INTEGER NOT NULL, revision INTEGER NOT NULL,
        quantity TEXT NOT NULL, value REAL, lower REAL, upper REAL, weight REAL, pass_age REAL,
        pass_value REAL, rain_mm REAL, available_percent REAL, refill_mm REAL, threshold REAL,
        flags TEXT NOT NULL, simulated INTEGER NOT NULL,
        PRIMARY KEY (paddock, day)) WITHOUT ROWID;
    CREATE TABLE daily_now (paddock TEXT PRIMARY KEY, days_left REAL) WITHOUT ROWID;
    CREATE TABLE daily_state (today INTEGER, due INTEGER);
    INSERT INTO daily_state VALUES (NULL, NULL);
    CREATE TABLE alert (
        paddock TEXT PRIMARY KEY, day INTEGER NOT NULL, value REAL NOT NULL,
        threshold REAL NOT NULL, unsent INTEGER NOT NULL) WITHOUT ROWID
    """,
    # 9: days that are posted once they have ended
    """
    CREATE TABLE daily_outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT, paddock TEXT NOT NULL, day INTEGER NOT NULL,
        revision INTEGER NOT NULL, tried INTEGER NOT NULL DEFAULT 0)
    """,
    # 10: rain is read by day
    "CREATE INDEX rain_by_day ON rain (day)",
    # 11: rain may be simulated
    "ALTER TABLE rain ADD COLUMN simulated INTEGER NOT NULL DEFAULT 0",
    # 12: irrigation, ranks among the passes, and the outlook with the planned irrigation
    """
    CREATE TABLE irrigation (
        place TEXT NOT NULL, day INTEGER NOT NULL, mm REAL NOT NULL, sequence INTEGER NOT NULL,
        PRIMARY KEY (place, day)) WITHOUT ROWID;
    CREATE INDEX irrigation_by_day ON irrigation (day);
    ALTER TABLE daily ADD COLUMN drier_than REAL;
    ALTER TABLE daily ADD COLUMN irrigation_mm REAL;
    ALTER TABLE daily ADD COLUMN irrigated REAL;
    ALTER TABLE daily ADD COLUMN irrigated_lower REAL;
    ALTER TABLE daily ADD COLUMN irrigated_upper REAL;
    ALTER TABLE outlook ADD COLUMN drier_than REAL;
    ALTER TABLE outlook ADD COLUMN irrigation_mm REAL;
    ALTER TABLE outlook ADD COLUMN irrigated REAL;
    ALTER TABLE outlook ADD COLUMN irrigated_lower REAL;
    ALTER TABLE outlook ADD COLUMN irrigated_upper REAL
    """,
    # 13: irrigation may be simulated
    "ALTER TABLE irrigation ADD COLUMN simulated INTEGER NOT NULL DEFAULT 0",
)
