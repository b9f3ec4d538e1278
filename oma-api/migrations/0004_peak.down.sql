ALTER TABLE replication_jobs DROP COLUMN peak_speed_bps;
