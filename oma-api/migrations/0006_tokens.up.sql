-- Bearer tokens: who may ask without a certificate. Of the token itself only its SHA-256 is here.
CREATE TABLE tokens (
    id CHAR(36) NOT NULL PRIMARY KEY,
    name VARCHAR(64) NOT NULL,
    -- name until it is revoked, then NULL: its unique index is "one living token a name" on every database.
    living_name VARCHAR(64),
    role VARCHAR(16) NOT NULL,
    -- 64 hexadecimal digits.
    hash CHAR(64) NOT NULL,
    created_at CHAR(27) NOT NULL,
    created_by TEXT NOT NULL,
    expires_at CHAR(27) NOT NULL,
    -- To the minute.
    last_used_at CHAR(27),
    revoked_at CHAR(27),
    revoked_by TEXT
);
CREATE UNIQUE INDEX tokens_living ON tokens (living_name);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
