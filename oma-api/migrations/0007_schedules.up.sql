-- When a migration's cycles start by themselves; a row a migration that has a schedule.
CREATE TABLE schedules (
    migration_id CHAR(36) NOT NULL PRIMARY KEY,
    -- What the operator wrote, as REST takes and gives it.
    spec TEXT NOT NULL,
    set_at CHAR(27) NOT NULL,
    -- The schedule's times up to here are dealt with.
    anchor_at CHAR(27) NOT NULL,
    -- 1: the breach has been said.
    rpo_breached SMALLINT NOT NULL,
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);

-- What guards the system as a whole; 1: it is raised, and that has been said.
CREATE TABLE guards (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    raised SMALLINT NOT NULL
);
INSERT INTO guards (name, raised) VALUES ('target_space', 0);

-- Cycles that the system paused, not an operator: they go on by themselves.
CREATE TABLE system_pauses (
    migration_id CHAR(36) NOT NULL PRIMARY KEY,
    job_id VARCHAR(64) NOT NULL,
    reason VARCHAR(32) NOT NULL,
    message TEXT NOT NULL,
    paused_at CHAR(27) NOT NULL,
    -- When it is over; NULL: when its cause is.
    until_at CHAR(27),
    FOREIGN KEY (migration_id) REFERENCES migrations (id)
);
