-- Of a live failover: the cycle of its final delta, the job that takes it back, and when it was committed (no way back since).
ALTER TABLE failovers ADD COLUMN final_job_id VARCHAR(64);
ALTER TABLE failovers ADD COLUMN rollback_job_id VARCHAR(70);
ALTER TABLE failovers ADD COLUMN committed_at CHAR(27);
-- The job that took this one's place while it waited for a decision: nothing can be asked of it any more.
ALTER TABLE workflow_jobs ADD COLUMN superseded_by VARCHAR(70);
