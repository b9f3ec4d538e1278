-- The highest speed that was seen while a cycle moved data, bytes a second.
ALTER TABLE replication_jobs ADD COLUMN peak_speed_bps BIGINT NOT NULL DEFAULT 0;
