-- The trace in which a cycle was begun (W3C traceparent), so that its agent goes on with it, after a restart too.
ALTER TABLE replication_jobs ADD COLUMN traceparent VARCHAR(64);
