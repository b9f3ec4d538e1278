-- Runs unchanged on SQLite and MariaDB/MySQL. Only BIGINT, SMALLINT flags, DOUBLE, CHAR/VARCHAR/TEXT and BLOB;
-- times are RFC 3339 UTC text of fixed width (2026-11-21T12:55:46.123456Z), so that they read and sort.
-- TEXT wherever the other side decides the length: MariaDB would refuse a longer VARCHAR.

CREATE TABLE counters (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) VALUES ('events', 0);

CREATE TABLE agents (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    software_version TEXT NOT NULL,
    protocol_version BIGINT NOT NULL,
    address TEXT NOT NULL,
    connected SMALLINT NOT NULL,
    session_id VARCHAR(64) NOT NULL,
    first_seen_at CHAR(27) NOT NULL,
    last_seen_at CHAR(27) NOT NULL
);

-- One row a VM, not one document an agent: a TEXT of MariaDB ends at 64 KiB.
CREATE TABLE agent_vms (
    agent_id VARCHAR(64) NOT NULL,
    position BIGINT NOT NULL,
    vm_uuid CHAR(36) NOT NULL,
    name TEXT NOT NULL,
    disks TEXT NOT NULL,
    PRIMARY KEY (agent_id, position),
    FOREIGN KEY (agent_id) REFERENCES agents (id)
);

CREATE TABLE migrations (
    id CHAR(36) NOT NULL PRIMARY KEY,
    vm_uuid CHAR(36) NOT NULL,
    vm_name TEXT NOT NULL,
    agent_id VARCHAR(64) NOT NULL,
    phase VARCHAR(16) NOT NULL,
    state VARCHAR(16) NOT NULL,
    held SMALLINT NOT NULL,
    has_committed SMALLINT NOT NULL,
    release_pending SMALLINT NOT NULL,
    generation BIGINT NOT NULL,
    -- vm_uuid until it ends, then NULL: its unique index is "one unfinished migration a VM" on every database.
    unfinished_vm CHAR(36),
    error_reason TEXT,
    error_message TEXT,
    findings TEXT NOT NULL,
    created_at CHAR(27) NOT NULL,
    updated_at CHAR(27) NOT NULL,
    finished_at CHAR(27)
);
CREATE UNIQUE INDEX migrations_unfinished ON migrations (unfinished_vm);
CREATE INDEX migrations_agent ON migrations (agent_id);

CREATE TABLE disks (
    id CHAR(36) NOT NULL PRIMARY KEY,
    migration_id CHAR(36) NOT NULL,
    position BIGINT NOT NULL,
    disk_key VARCHAR(64) NOT NULL,
    size_bytes BIGINT NOT NULL,
    volume TEXT NOT NULL,
    -- 1: what no checkpoint of kind intent names still reads zero; cleared by the first commit.
    reads_zero SMALLINT NOT NULL,
    epoch BIGINT NOT NULL,
    epoch_job_id VARCHAR(64),
    checkpoint_seq BIGINT NOT NULL,
    committed_size_bytes BIGINT,
    change_id TEXT,
    manifest_version BIGINT,
    manifest_file TEXT,
    needs_hash_diff SMALLINT NOT NULL,
    replica_verified_at CHAR(27),
    source_verified_at CHAR(27),
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
CREATE UNIQUE INDEX disks_key ON disks (migration_id, disk_key);

CREATE TABLE replication_jobs (
    id VARCHAR(64) NOT NULL PRIMARY KEY,
    migration_id CHAR(36) NOT NULL,
    -- migration_id until it ends, then NULL: one cycle a migration at a time.
    active_migration CHAR(36),
    kind VARCHAR(16) NOT NULL,
    status VARCHAR(16) NOT NULL,
    wanted VARCHAR(16) NOT NULL,
    snapshot_id TEXT,
    snapshot_taken_at CHAR(27),
    started_at CHAR(27) NOT NULL,
    finished_at CHAR(27),
    progress_percent DOUBLE NOT NULL,
    current_operation TEXT NOT NULL,
    bytes_transferred BIGINT NOT NULL,
    total_bytes BIGINT NOT NULL,
    transfer_speed_bps BIGINT NOT NULL,
    updated_at CHAR(27) NOT NULL,
    error_reason TEXT,
    error_message TEXT,
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
CREATE UNIQUE INDEX replication_jobs_active ON replication_jobs (active_migration);

CREATE TABLE job_disks (
    job_id VARCHAR(64) NOT NULL,
    disk_id CHAR(36) NOT NULL,
    strategy VARCHAR(16) NOT NULL,
    base_change_id TEXT,
    new_change_id TEXT,
    new_size_bytes BIGINT,
    epoch BIGINT NOT NULL,
    finished SMALLINT NOT NULL,
    plan_complete SMALLINT NOT NULL,
    planned_bytes BIGINT NOT NULL,
    done_bytes BIGINT NOT NULL,
    read_bytes BIGINT NOT NULL,
    wire_bytes BIGINT NOT NULL,
    data_bytes BIGINT NOT NULL,
    resumed_bytes BIGINT NOT NULL,
    PRIMARY KEY (job_id, disk_id),
    FOREIGN KEY (job_id) REFERENCES replication_jobs (id),
    FOREIGN KEY (disk_id) REFERENCES disks (id)
);

-- intent: about to be written, unknown until durable. durable: flushed. required: to be sent by the next cycle.
CREATE TABLE checkpoints (
    disk_id CHAR(36) NOT NULL,
    seq BIGINT NOT NULL,
    job_id VARCHAR(64),
    epoch BIGINT NOT NULL,
    kind VARCHAR(16) NOT NULL,
    ranges BLOB NOT NULL,
    recorded_at CHAR(27) NOT NULL,
    PRIMARY KEY (disk_id, seq),
    FOREIGN KEY (disk_id) REFERENCES disks (id)
);

CREATE TABLE restore_points (
    id CHAR(36) NOT NULL PRIMARY KEY,
    migration_id CHAR(36) NOT NULL,
    job_id VARCHAR(64) NOT NULL,
    snapshot_name TEXT NOT NULL,
    taken_at CHAR(27) NOT NULL,
    committed_at CHAR(27) NOT NULL,
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
CREATE UNIQUE INDEX restore_points_job ON restore_points (job_id);

CREATE TABLE restore_point_disks (
    restore_point_id CHAR(36) NOT NULL,
    disk_id CHAR(36) NOT NULL,
    size_bytes BIGINT NOT NULL,
    change_id TEXT,
    manifest_version BIGINT NOT NULL,
    manifest_file TEXT NOT NULL,
    PRIMARY KEY (restore_point_id, disk_id),
    FOREIGN KEY (restore_point_id) REFERENCES restore_points (id)
);

CREATE TABLE events (
    seq BIGINT NOT NULL PRIMARY KEY,
    recorded_at CHAR(27) NOT NULL,
    migration_id CHAR(36),
    job_id VARCHAR(64),
    kind VARCHAR(64) NOT NULL,
    body TEXT NOT NULL
);
