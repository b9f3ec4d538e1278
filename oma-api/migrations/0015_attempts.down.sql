ALTER TABLE replication_jobs DROP COLUMN attempts;
