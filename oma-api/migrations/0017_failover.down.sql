DROP VIEW job_tracking;
DROP VIEW failover_jobs;
DROP TABLE failovers;
