-- What operators asked for, who, and how each run of a phase went.
ALTER TABLE migrations ADD COLUMN affinity TEXT;
-- 1: cycles follow each other until the switch is short enough, within these bounds.
ALTER TABLE migrations ADD COLUMN automatic SMALLINT NOT NULL DEFAULT 0;
ALTER TABLE migrations ADD COLUMN automatic_since CHAR(27);
ALTER TABLE migrations ADD COLUMN max_downtime_ms BIGINT;
ALTER TABLE migrations ADD COLUMN max_cycles BIGINT;
-- The switch is to be made then.
ALTER TABLE migrations ADD COLUMN scheduled_at CHAR(27);
-- Why blocking findings were overridden.
ALTER TABLE migrations ADD COLUMN forced_reason TEXT;
ALTER TABLE migrations ADD COLUMN last_action VARCHAR(16);
ALTER TABLE migrations ADD COLUMN last_action_by TEXT;
ALTER TABLE migrations ADD COLUMN last_action_at CHAR(27);

-- A row a run of a phase: progress_history.
CREATE TABLE migration_history (
    migration_id CHAR(36) NOT NULL,
    number BIGINT NOT NULL,
    phase VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    job_id VARCHAR(64),
    done_bytes BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,
    speed_bps BIGINT NOT NULL,
    error TEXT,
    started_at CHAR(27) NOT NULL,
    finished_at CHAR(27),
    PRIMARY KEY (migration_id, number),
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);

-- Hashes of the key and of what was asked with it; the answer, once it was given.
CREATE TABLE attempts (
    key_hash CHAR(64) NOT NULL PRIMARY KEY,
    fingerprint CHAR(64) NOT NULL,
    migration_id CHAR(36) NOT NULL,
    answer BLOB,
    recorded_at CHAR(27) NOT NULL,
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
CREATE INDEX attempts_recorded ON attempts (recorded_at);
