-- Mails about failovers, each written with the change that it tells of, and sent afterwards.
CREATE TABLE failover_notices (
    -- Stays the same however often it is sent: a part of its Message-ID.
    id CHAR(36) NOT NULL PRIMARY KEY,
    -- The failover; the job that changed may be its clean-up or its rollback.
    job_id VARCHAR(70) NOT NULL,
    event VARCHAR(16) NOT NULL,
    recipient VARCHAR(320) NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    -- due, sent or given_up.
    state VARCHAR(8) NOT NULL,
    attempts BIGINT NOT NULL,
    next_at CHAR(27) NOT NULL,
    -- Of the last attempt.
    error TEXT,
    created_at CHAR(27) NOT NULL,
    ended_at CHAR(27),
    FOREIGN KEY (job_id) REFERENCES failovers (job_id)
);
CREATE INDEX failover_notices_due ON failover_notices (state, next_at);
