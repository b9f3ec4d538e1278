ALTER TABLE migrations DROP COLUMN rate_bytes_per_second;
