DROP TABLE workflow_steps;
DROP TABLE workflow_jobs;
