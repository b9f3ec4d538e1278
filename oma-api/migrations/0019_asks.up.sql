-- What people asked of workflow jobs: written with the change that it made, never without.
CREATE TABLE workflow_asks (
    job_id VARCHAR(70) NOT NULL,
    -- In the order in which they were taken.
    number BIGINT NOT NULL,
    -- pause, resume, cancel, approve, retry, skip or roll_forward.
    asked VARCHAR(16) NOT NULL,
    -- Of a skip.
    reason TEXT,
    asked_by VARCHAR(256) NOT NULL,
    -- Of the request that it came with; the job has its own.
    correlation_id VARCHAR(64) NOT NULL,
    asked_at CHAR(27) NOT NULL,
    PRIMARY KEY (job_id, number),
    FOREIGN KEY (job_id) REFERENCES workflow_jobs (id)
);

-- Where it is there: a server that was cut short makes the rest of a version from its beginning.
DROP VIEW IF EXISTS job_tracking;

-- A row an operation, one a step of it, and one each time that somebody asked something of it.
CREATE VIEW job_tracking AS
SELECT j.id AS job_id, j.correlation_id, j.kind AS operation, CAST(NULL AS CHAR(64)) AS step,
    CASE j.state
        WHEN 'queued' THEN 'pending'
        WHEN 'succeeded' THEN 'completed'
        WHEN 'rolled_back' THEN 'failed'
        WHEN 'needs_attention' THEN 'failed'
        ELSE 'running'
    END AS status,
    j.error_reason AS error_code, j.error_message, j.created_at, j.started_at, j.ended_at AS completed_at, -1 AS position,
    CAST(NULL AS CHAR(256)) AS asked_by, CAST(NULL AS CHAR(256)) AS reason
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
    s.error_reason AS error_code, s.error_message, j.created_at, s.started_at, s.ended_at AS completed_at, s.position,
    CAST(NULL AS CHAR(256)) AS asked_by, s.skipped AS reason
FROM workflow_steps s JOIN workflow_jobs j ON j.id = s.job_id
UNION ALL
SELECT a.job_id, a.correlation_id, a.asked AS operation, CAST(NULL AS CHAR(64)) AS step, 'completed' AS status,
    NULL AS error_code, NULL AS error_message, a.asked_at AS created_at, a.asked_at AS started_at,
    a.asked_at AS completed_at, -1 AS position, a.asked_by, a.reason
FROM workflow_asks a;
