-- What a failover job is about. How it stands is the journal's (workflow_jobs): nothing of that is written twice.
CREATE TABLE failovers (
    job_id VARCHAR(70) NOT NULL PRIMARY KEY,
    -- In the order in which they were asked for.
    number BIGINT NOT NULL,
    migration_id VARCHAR(64) NOT NULL,
    vm_uuid CHAR(36) NOT NULL,
    vm_name TEXT NOT NULL,
    -- test or live.
    job_type VARCHAR(8) NOT NULL,
    -- It stays as long as anything of the job is there.
    restore_point_id VARCHAR(64) NOT NULL,
    -- Of the machine, and of the snapshot of its clones.
    name VARCHAR(64) NOT NULL,
    -- Whether the clones are to be snapshotted before anything changes them.
    protected SMALLINT NOT NULL,
    -- The machine that is made.
    machine_uuid CHAR(36) NOT NULL,
    source_vm_spec TEXT NOT NULL,
    network_mappings TEXT NOT NULL,
    custom_config TEXT,
    notification_config TEXT,
    -- Of a test: it is cleaned up by itself, so many seconds after its start.
    auto_cleanup SMALLINT NOT NULL,
    keep_seconds BIGINT NOT NULL,
    -- Of the request, as it was spelled.
    test_duration VARCHAR(64),
    requested_by VARCHAR(256) NOT NULL,
    -- The job that removes what is there of it.
    cleanup_job_id VARCHAR(70),
    FOREIGN KEY (job_id) REFERENCES workflow_jobs (id),
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
CREATE INDEX failovers_migration_number ON failovers (migration_id, number);
CREATE INDEX failovers_restore_point ON failovers (restore_point_id);
CREATE UNIQUE INDEX failovers_number ON failovers (number);
CREATE UNIQUE INDEX failovers_name ON failovers (name);

-- As the failover API's document shows it. The words are those of oma-api::failover::status.
CREATE VIEW failover_jobs AS
SELECT f.job_id, f.migration_id, f.vm_uuid AS vm_id, f.vm_name, f.job_type,
    CASE j.state
        WHEN 'queued' THEN 'pending'
        WHEN 'succeeded' THEN 'completed'
        WHEN 'rolled_back' THEN 'failed'
        WHEN 'needs_attention' THEN 'failed'
        WHEN 'unwinding' THEN 'executing'
        ELSE CASE WHEN EXISTS (SELECT 1 FROM workflow_steps s WHERE s.job_id = f.job_id AND s.public_step = 'validation'
            AND s.state NOT IN ('done', 'skipped')) THEN 'validating' ELSE 'executing' END
    END AS status,
    j.state AS engine_state,
    f.source_vm_spec,
    CASE WHEN EXISTS (SELECT 1 FROM workflow_steps s WHERE s.job_id = f.job_id AND s.name = 'define'
        AND s.state = 'done') THEN f.machine_uuid END AS destination_vm_id,
    CASE WHEN EXISTS (SELECT 1 FROM workflow_steps s WHERE s.job_id = f.job_id AND s.name = 'snapshot'
        AND s.state = 'done') THEN f.name END AS linstor_snapshot_name,
    f.network_mappings, f.auto_cleanup, f.test_duration, f.restore_point_id, f.cleanup_job_id,
    j.error_reason AS error_code, j.error_message, j.correlation_id, f.requested_by,
    j.created_at, j.started_at, j.ended_at AS completed_at
FROM failovers f JOIN workflow_jobs j ON j.id = f.job_id;

-- A row an operation, and one a step of it: what a support case is followed by.
CREATE VIEW job_tracking AS
SELECT j.id AS job_id, j.correlation_id, j.kind AS operation, CAST(NULL AS CHAR(64)) AS step,
    CASE j.state
        WHEN 'queued' THEN 'pending'
        WHEN 'succeeded' THEN 'completed'
        WHEN 'rolled_back' THEN 'failed'
        WHEN 'needs_attention' THEN 'failed'
        ELSE 'running'
    END AS status,
    j.error_reason AS error_code, j.error_message, j.created_at, j.started_at, j.ended_at AS completed_at, -1 AS position
FROM workflow_jobs j
UNION ALL
SELECT s.job_id, j.correlation_id, s.name AS operation, s.public_step AS step,
    CASE s.state
        WHEN 'pending' THEN 'pending'
        WHEN 'done' THEN 'completed'
        WHEN 'skipped' THEN 'skipped'
        WHEN 'failed' THEN 'failed'
        WHEN 'undo_failed' THEN 'failed'
        WHEN 'undone' THEN 'cancelled'
        ELSE 'running'
    END AS status,
    s.error_reason AS error_code, s.error_message, j.created_at, s.started_at, s.ended_at AS completed_at, s.position
FROM workflow_steps s JOIN workflow_jobs j ON j.id = s.job_id;
