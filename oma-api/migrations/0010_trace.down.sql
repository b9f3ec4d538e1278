ALTER TABLE replication_jobs DROP COLUMN traceparent;
