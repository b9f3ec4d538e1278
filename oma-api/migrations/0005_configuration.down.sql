ALTER TABLE migrations DROP COLUMN configuration;
ALTER TABLE agent_vms DROP COLUMN configuration;
