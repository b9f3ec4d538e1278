-- Disks that have left the protection. Their rows in disks stay, for what restore points and old cycles say of them, under
-- a key of their own, so that a disk of the same name can come; the name they had is here.
CREATE TABLE retired_disks (
    disk_id CHAR(36) NOT NULL PRIMARY KEY,
    migration_id CHAR(36) NOT NULL,
    disk_key VARCHAR(64) NOT NULL,
    retired_at CHAR(27) NOT NULL,
    retired_by TEXT NOT NULL,
    -- 1: no restore point names it any more, and its volume is gone.
    volume_gone SMALLINT NOT NULL,
    FOREIGN KEY (disk_id) REFERENCES disks (id),
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
-- 1: the volume is to be made, or made larger, before a cycle may begin.
ALTER TABLE disks ADD COLUMN volume_pending SMALLINT NOT NULL DEFAULT 0;
-- The order of a restore point's disks, whatever becomes of the VM's; NULL: as disks has it.
ALTER TABLE restore_point_disks ADD COLUMN position BIGINT;
