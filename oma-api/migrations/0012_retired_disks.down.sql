ALTER TABLE restore_point_disks DROP COLUMN position;
ALTER TABLE disks DROP COLUMN volume_pending;
DROP TABLE retired_disks;
