-- What a node remembers between starts. Every row of value carries a checksum over its content, so that a damaged file
-- can be read for what is still good.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE peers (
    who            TEXT PRIMARY KEY,   -- stack, space, peer id
    addresses      TEXT NOT NULL,      -- JSON: [["/ip4/…/tcp/…", "proven"], …]
    names          TEXT NOT NULL,      -- JSON: ["/dns4/…/tcp/…", …]
    wanted         INTEGER NOT NULL,
    held           INTEGER NOT NULL,
    first_use      INTEGER NOT NULL,   -- 1: its key was trusted on first use
    seen_at        INTEGER NOT NULL,   -- ms since 1970 when it was last connected; 0 never
    updated_at     INTEGER NOT NULL,
    last_error     TEXT NOT NULL,      -- JSON or empty
    checksum       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX peers_by_worth ON peers (wanted, seen_at, updated_at);

CREATE TABLE bans (
    target   TEXT PRIMARY KEY,
    set_at   INTEGER NOT NULL,         -- ms since 1970
    span_ms  INTEGER,                  -- NULL: until lifted
    reason   TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    id    INTEGER PRIMARY KEY,
    who   TEXT NOT NULL,
    at    INTEGER NOT NULL,
    event TEXT NOT NULL                -- JSON
) STRICT;

CREATE INDEX history_by_peer ON history (who, id);
