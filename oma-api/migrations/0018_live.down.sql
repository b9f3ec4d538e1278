ALTER TABLE workflow_jobs DROP COLUMN superseded_by;
ALTER TABLE failovers DROP COLUMN committed_at;
ALTER TABLE failovers DROP COLUMN rollback_job_id;
ALTER TABLE failovers DROP COLUMN final_job_id;
