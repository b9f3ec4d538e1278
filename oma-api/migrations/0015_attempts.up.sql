-- How often a cycle was gone on with after a pause or an interruption, and one: a cycle of one attempt says what its bytes took.
ALTER TABLE replication_jobs ADD COLUMN attempts BIGINT NOT NULL DEFAULT 1;
