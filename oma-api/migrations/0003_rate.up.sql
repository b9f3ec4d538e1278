-- What a migration's transfers may take of the network, bytes a second, of all its disks together; 0: no limit of its own.
ALTER TABLE migrations ADD COLUMN rate_bytes_per_second BIGINT NOT NULL DEFAULT 0;
