DROP VIEW IF EXISTS job_tracking;

-- A row an operation, one a step of it, and one each time that somebody asked something of it. The step that failed stays
-- the one that failed when all is taken back.
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
        WHEN 'undone' THEN CASE WHEN s.error_reason IS NULL THEN 'cancelled' ELSE 'failed' END
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
