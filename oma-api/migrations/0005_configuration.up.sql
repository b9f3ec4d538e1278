-- What the VM is made of at its source, as JSON; NULL: an agent that does not tell it.
ALTER TABLE agent_vms ADD COLUMN configuration TEXT;
-- As it was when the migration was begun; NULL: it was not known then.
ALTER TABLE migrations ADD COLUMN configuration TEXT;
