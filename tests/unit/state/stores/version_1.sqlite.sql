BEGIN TRANSACTION;
CREATE TABLE connector_state (
	connector TEXT NOT NULL, 
	stream TEXT NOT NULL, 
	checkpoint JSON NOT NULL, 
	committed_at DATETIME NOT NULL, 
	run_id TEXT NOT NULL, 
	PRIMARY KEY (connector, stream)
);
INSERT INTO "connector_state" VALUES('shop','orders','{"cursor": "id", "high": {"kind": "integer", "text": "41"}, "tail_from": {"kind": "integer", "text": "40"}, "tail_values": []}','2026-03-01 12:00:02.123456','0195511e-9a40-7000-8000-000000000001');
INSERT INTO "connector_state" VALUES('shop','names','{"cursor": "name", "high": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_from": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_values": ["\u0141\u00f3d\u017a", "\u0142\u00f3d\u017a"]}','2026-03-01 12:00:02.123456','0195511e-9a40-7000-8000-000000000001');
INSERT INTO "connector_state" VALUES('other','events','{"cursor": "id", "high": {"kind": "integer", "text": "7"}, "tail_from": {"kind": "integer", "text": "7"}, "tail_values": []}','2026-03-01 12:00:00.123456','');
CREATE TABLE connectors (
	name TEXT NOT NULL, 
	protocol TEXT NOT NULL, 
	enabled BOOLEAN NOT NULL, 
	schedule TEXT, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "connectors" VALUES('shop','sqlite',1,'@hourly','2026-11-21 12:26:22.154761');
CREATE TABLE leases (
	connector TEXT NOT NULL, 
	token BIGINT NOT NULL, 
	run_id TEXT, 
	host TEXT, 
	pid BIGINT, 
	place TEXT, 
	process_started BIGINT, 
	acquired_at DATETIME, 
	heartbeat_at DATETIME, 
	heartbeat_tick DOUBLE, 
	expiry_seconds DOUBLE, 
	PRIMARY KEY (connector)
);
INSERT INTO "leases" VALUES('shop',1,NULL,'etl-1',12022,'0b9e7a54-0000-4000-8000-000000000000 pid:[4026531836]',1325497,'2026-11-21 12:26:22.206778','2026-11-21 12:26:22.206801',13256.217047485,45.0);
CREATE TABLE scheduled_runs (
	run_id TEXT NOT NULL, 
	connector TEXT NOT NULL, 
	status TEXT NOT NULL, 
	triggered_by TEXT NOT NULL, 
	scheduled_at DATETIME, 
	started_at DATETIME NOT NULL, 
	completed_at DATETIME, 
	destination TEXT, 
	rows_processed BIGINT NOT NULL, 
	bytes_processed BIGINT NOT NULL, 
	error JSON, 
	streams JSON NOT NULL, 
	fencing_token BIGINT, 
	PRIMARY KEY (run_id)
);
INSERT INTO "scheduled_runs" VALUES('0195511e-9a40-7000-8000-000000000001','shop','completed','manual',NULL,'2026-03-01 12:00:00.123456','2026-03-01 12:00:02.123456','warehouse',4,72,NULL,'[{"name": "orders", "status": "completed", "disposition": "merge", "table": "shop.orders", "rows_read": 3, "rows_loaded": 3, "rows_quarantined": 0, "bytes_processed": 64, "loads": 1, "checkpoint": {"cursor": "id", "high": {"kind": "integer", "text": "41"}, "tail_from": {"kind": "integer", "text": "40"}, "tail_values": []}, "nulled": {}, "error": null}, {"name": "names", "status": "completed", "disposition": "append", "table": "shop.names", "rows_read": 1, "rows_loaded": 1, "rows_quarantined": 0, "bytes_processed": 8, "loads": 1, "checkpoint": {"cursor": "name", "high": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_from": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_values": ["\u0141\u00f3d\u017a", "\u0142\u00f3d\u017a"]}, "nulled": {"a: infinity": 2}, "error": null}]',NULL);
INSERT INTO "scheduled_runs" VALUES('0195511e-9a40-7000-8000-000000000002','shop','failed','manual',NULL,'2026-03-01 13:00:00.123456','2026-03-01 13:00:01.123456','warehouse',0,0,'{"code": "source", "message": "it is gone", "hint": "bring it back", "exit_code": 3}','[]',NULL);
INSERT INTO "scheduled_runs" VALUES('01a1fe12-6a7d-7775-bdba-eb8bee8c472c','shop','completed','manual',NULL,'2026-03-01 14:00:00.123456','2026-03-01 14:00:01.123456','warehouse',0,0,NULL,'[]',1);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	migrated_at DATETIME NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1,'2026-11-21 12:26:22.146950');
CREATE INDEX ix_scheduled_runs_connector_started_at ON scheduled_runs (connector, started_at);
CREATE INDEX ix_scheduled_runs_started_at ON scheduled_runs (started_at);
CREATE VIEW v_active_connectors AS SELECT connectors.name, connectors.protocol, connectors.schedule, ranked.run_id AS last_run_id, ranked.status AS last_status, ranked.started_at AS last_started_at, ranked.completed_at AS last_completed_at 
FROM connectors LEFT OUTER JOIN (SELECT scheduled_runs.connector AS connector, scheduled_runs.run_id AS run_id, scheduled_runs.status AS status, scheduled_runs.started_at AS started_at, scheduled_runs.completed_at AS completed_at, row_number() OVER (PARTITION BY scheduled_runs.connector ORDER BY scheduled_runs.started_at DESC, scheduled_runs.run_id DESC) AS position 
FROM scheduled_runs) AS ranked ON ranked.connector = connectors.name AND ranked.position = 1 
WHERE connectors.enabled = 1;
CREATE VIEW v_recent_runs AS SELECT scheduled_runs.run_id, scheduled_runs.connector, scheduled_runs.status, scheduled_runs.triggered_by, scheduled_runs.scheduled_at, scheduled_runs.started_at, scheduled_runs.completed_at, scheduled_runs.destination, scheduled_runs.rows_processed, scheduled_runs.bytes_processed, scheduled_runs.error 
FROM scheduled_runs ORDER BY scheduled_runs.started_at DESC, scheduled_runs.run_id DESC
 LIMIT 100 OFFSET 0;
COMMIT;
