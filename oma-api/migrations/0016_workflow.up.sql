-- The journal of workflow jobs: what touches other systems in several steps (see oma-api::workflow).
CREATE TABLE workflow_jobs (
    id VARCHAR(70) NOT NULL PRIMARY KEY,
    -- Which workflow it is one of, and the version that its steps are of.
    kind VARCHAR(32) NOT NULL,
    version BIGINT NOT NULL,
    -- What it is about: a migration's id, or empty.
    subject VARCHAR(64) NOT NULL,
    -- What it was made with, as JSON; never changes.
    params TEXT NOT NULL,
    correlation_id VARCHAR(64) NOT NULL,
    state VARCHAR(20) NOT NULL,
    -- What was asked of it and is not done yet: pause or cancel.
    wish VARCHAR(16),
    error_reason TEXT,
    error_message TEXT,
    generation BIGINT NOT NULL,
    -- Whose it is. The epoch grows with each owner, the beat while one lives.
    lease_owner VARCHAR(128),
    lease_epoch BIGINT NOT NULL,
    lease_beat BIGINT NOT NULL,
    created_at CHAR(27) NOT NULL,
    started_at CHAR(27),
    ended_at CHAR(27)
);
CREATE INDEX workflow_jobs_state ON workflow_jobs (state);
CREATE INDEX workflow_jobs_subject ON workflow_jobs (subject);
CREATE INDEX workflow_jobs_owner ON workflow_jobs (lease_owner);

-- One effect on another system each, in the order of their positions.
CREATE TABLE workflow_steps (
    job_id VARCHAR(70) NOT NULL,
    position BIGINT NOT NULL,
    -- The step that people are shown; several effects may make one.
    public_step VARCHAR(64) NOT NULL,
    name VARCHAR(128) NOT NULL,
    gate SMALLINT NOT NULL,
    no_return SMALLINT NOT NULL,
    required SMALLINT NOT NULL,
    state VARCHAR(16) NOT NULL,
    attempts BIGINT NOT NULL,
    undo_attempts BIGINT NOT NULL,
    approved SMALLINT NOT NULL,
    -- The name or key under which the effect is found; written before it happens.
    effect TEXT,
    -- What it gave, as JSON.
    output TEXT,
    error_reason TEXT,
    error_message TEXT,
    -- Who skipped it, and why.
    skipped TEXT,
    started_at CHAR(27),
    ended_at CHAR(27),
    PRIMARY KEY (job_id, position),
    FOREIGN KEY (job_id) REFERENCES workflow_jobs (id)
);
