-- Where and how VMs are made on the target.
CREATE TABLE target_profiles (
    name VARCHAR(64) NOT NULL PRIMARY KEY,
    backend VARCHAR(16) NOT NULL,
    -- NULL: any.
    zone TEXT,
    compute_offering TEXT,
    disk_offering TEXT,
    storage_pool TEXT,
    -- JSON: a source network's name, and where it is live and in tests.
    networks TEXT NOT NULL,
    -- JSON: the same for single NICs.
    nics TEXT NOT NULL,
    live_mac VARCHAR(16) NOT NULL,
    addresses VARCHAR(16) NOT NULL,
    notes TEXT,
    -- 'default' for the one that is, else NULL: its unique index is "one at most" on every database.
    default_slot VARCHAR(16),
    generation BIGINT NOT NULL,
    created_at CHAR(27) NOT NULL,
    updated_at CHAR(27) NOT NULL
);
CREATE UNIQUE INDEX target_profiles_default ON target_profiles (default_slot);
-- By name, and no foreign key: history may outlive a profile, a migration that goes on may not.
ALTER TABLE migrations ADD COLUMN target_profile VARCHAR(64);
