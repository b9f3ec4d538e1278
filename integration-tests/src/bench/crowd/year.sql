-- What a year of use leaves in a control plane's database. $WORDS are replaced by numbers; all else is the schema's.
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
BEGIN;
CREATE TEMP TABLE n AS
    WITH RECURSIVE c (k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM c WHERE k + 1 < $MIGRATIONS) SELECT k FROM c;
CREATE TEMP TABLE m AS SELECT k,
    printf('01a1fe91-0000-7000-8000-%012x', k) AS id,
    printf('564d1d3a-0000-4000-9000-%012x', k) AS vm,
    printf('crowd-%04d', k % $AGENTS) AS agent,
    -- Every fifth is history.
    k % 5 = 4 AS ended
    FROM n;
CREATE TEMP TABLE c AS
    WITH RECURSIVE c (c) AS (SELECT 0 UNION ALL SELECT c + 1 FROM c WHERE c + 1 < $CYCLES) SELECT c FROM c;
CREATE TEMP TABLE d (d INTEGER);
INSERT INTO d VALUES (0), (1);
-- A second each, over the year, so that ids grow and differ.
CREATE TEMP TABLE j AS SELECT m.k, m.id AS migration, c.c,
    strftime('%s', 'now') - 31536000 + (c.c * $MIGRATIONS + m.k) * (31449600 / ($MIGRATIONS * $CYCLES)) AS at
    FROM m, c;

INSERT INTO agents (id, software_version, protocol_version, address, connected, session_id, first_seen_at, last_seen_at)
    SELECT printf('crowd-%04d', k), '1.0.0', 1, '192.0.2.1:40000', 0, '', '2026-01-01T00:00:00.000000Z',
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now') FROM n WHERE k < $AGENTS;
INSERT INTO agent_vms (agent_id, position, vm_uuid, name, disks)
    SELECT agent, k / $AGENTS, vm, printf('web-%05d', k),
    '[{"key":"disk-0","size_bytes":42949672960},{"key":"disk-1","size_bytes":107374182400}]' FROM m;
INSERT INTO migrations (id, vm_uuid, vm_name, agent_id, phase, state, held, has_committed, release_pending, generation,
        unfinished_vm, findings, created_at, updated_at, finished_at, configuration, last_action, last_action_by, last_action_at)
    SELECT id, vm, printf('web-%05d', k), agent, iif(ended, 'abort', 'sync'), iif(ended, 'aborted', 'paused'), 0, 1, 0,
    2 * $CYCLES + 2, iif(ended, NULL, vm), '[]', '2025-11-22T00:00:00.000000Z',
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-1 day'),
    iif(ended, strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-1 day'), NULL), '$CONFIGURATION',
    iif(ended, 'abort', 'sync'), 'operator admin', strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', '-1 day') FROM m;
INSERT INTO disks (id, migration_id, position, disk_key, size_bytes, volume, reads_zero, epoch, checkpoint_seq,
        committed_size_bytes, change_id, manifest_version, manifest_file, needs_hash_diff, replica_verified_at)
    SELECT printf('01a1fe92-0000-7000-8000-%012x', k * 2 + d), id, d, printf('disk-%d', d),
    iif(d, 107374182400, 42949672960), printf('mk-01a1fe92-0000-7000-8000-%012x', k * 2 + d), 0, $CYCLES, 40,
    iif(d, 107374182400, 42949672960), printf('52 3c ec 1d b6 5a %04x/%d', k % 65536, $CYCLES), $CYCLES,
    printf('01a1fe92-0000-7000-8000-%012x.last', k * 2 + d), 0, '2026-11-01T00:00:00.000000Z' FROM m, d;
INSERT INTO replication_jobs (id, migration_id, kind, status, wanted, snapshot_id, snapshot_taken_at, started_at, finished_at,
        progress_percent, current_operation, bytes_transferred, total_bytes, transfer_speed_bps, peak_speed_bps, updated_at)
    SELECT strftime('job-%Y%m%d-%H%M%S', at, 'unixepoch'), migration, iif(c = 0, 'full', 'incremental'), 'completed', 'run',
    printf('snapshot-%d', k), strftime('%Y-%m-%dT%H:%M:%S.000000Z', at + 1, 'unixepoch'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', at, 'unixepoch'), strftime('%Y-%m-%dT%H:%M:%S.000000Z', at + 100, 'unixepoch'),
    100, 'Complete', 1073741824, 1073741824, 50000000, 90000000,
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', at + 100, 'unixepoch') FROM j ORDER BY at;
INSERT INTO job_disks (job_id, disk_id, strategy, base_change_id, new_change_id, new_size_bytes, epoch, finished, plan_complete,
        planned_bytes, done_bytes, read_bytes, wire_bytes, data_bytes, resumed_bytes)
    SELECT strftime('job-%Y%m%d-%H%M%S', at, 'unixepoch'),
    printf('01a1fe92-0000-7000-8000-%012x', k * 2 + d), iif(c = 0, 'full', 'changed'),
    iif(c = 0, NULL, printf('52 3c ec 1d b6 5a %04x/%d', k % 65536, c)), printf('52 3c ec 1d b6 5a %04x/%d', k % 65536, c + 1),
    iif(d, 107374182400, 42949672960), c + 1, 1, 1, 536870912, 536870912, 536870912, 300000000, 536870912, 0
    FROM j, d ORDER BY at;
-- The two newest of each are kept.
INSERT INTO restore_points (id, migration_id, job_id, snapshot_name, taken_at, committed_at)
    SELECT printf('01a1fe93-0000-7000-8000-%012x', k * 1000 + c), migration,
    strftime('job-%Y%m%d-%H%M%S', at, 'unixepoch'), strftime('rp-job-%Y%m%d-%H%M%S', at, 'unixepoch'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', printf('-%d seconds', 80000 - 40000 * (c = $CYCLES - 1) - k)),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', at + 100, 'unixepoch') FROM j WHERE c >= $CYCLES - 2 AND k % 5 <> 4;
INSERT INTO restore_point_disks (restore_point_id, disk_id, size_bytes, change_id, manifest_version, manifest_file, position)
    SELECT printf('01a1fe93-0000-7000-8000-%012x', k * 1000 + c),
    printf('01a1fe92-0000-7000-8000-%012x', k * 2 + d), iif(d, 107374182400, 42949672960),
    printf('52 3c ec 1d b6 5a %04x/%d', k % 65536, c + 1), c + 1, printf('01a1fe92-0000-7000-8000-%012x.%d', k * 2 + d, c), d
    FROM j, d WHERE c >= $CYCLES - 2 AND k % 5 <> 4;
INSERT INTO migration_history (migration_id, number, phase, state, job_id, done_bytes, total_bytes, speed_bps, started_at, finished_at)
    SELECT migration, c + 2, 'sync', 'successful', strftime('job-%Y%m%d-%H%M%S', at, 'unixepoch'), 1073741824, 1073741824,
    50000000, strftime('%Y-%m-%dT%H:%M:%S.000000Z', at, 'unixepoch'),
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', at + 100, 'unixepoch') FROM j;
INSERT INTO migration_history (migration_id, number, phase, state, done_bytes, total_bytes, speed_bps, started_at, finished_at)
    SELECT id, 1, 'begin', 'successful', 0, 0, 0, '2025-11-22T00:00:00.000000Z', '2025-11-22T00:00:10.000000Z' FROM m;
-- Half of those that go on are synced once a day by themselves, never at work, and have a recovery point objective.
INSERT INTO schedules (migration_id, spec, set_at, anchor_at, rpo_breached) SELECT id,
    '{"every_seconds":86400,"time_zone":"Europe/Berlin","blackout":["mon-fri 08:00-18:00"],"blackout_running":"finish","rpo_seconds":172800,"bandwidth":[]}',
    strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now'), strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now'), 0
    FROM m WHERE NOT ended AND k % 2 = 0;
-- Ninety days of events, instead of what the start of the world has left.
DELETE FROM events;
INSERT INTO events (seq, recorded_at, migration_id, job_id, kind, body)
    WITH RECURSIVE e (e) AS (SELECT 1 UNION ALL SELECT e + 1 FROM e WHERE e < $EVENTS)
    SELECT e, strftime('%Y-%m-%dT%H:%M:%S.000000Z', 'now', printf('-%d seconds', 7000000 - e * 7000000 / $EVENTS)),
    printf('01a1fe91-0000-7000-8000-%012x', e % $MIGRATIONS), NULL, 'migration_changed',
    '{"phase":"sync","state":"paused","held":false,"rate_bytes_per_second":0,"generation":12,"error_reason":null}' FROM e;
UPDATE counters SET value = $EVENTS WHERE name = 'events';
COMMIT;
PRAGMA wal_checkpoint(TRUNCATE);
