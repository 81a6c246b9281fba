CREATE SCHEMA pipeline;
CREATE TABLE pipeline.connector_state (
    connector text NOT NULL,
    stream text NOT NULL,
    checkpoint json NOT NULL,
    committed_at timestamp with time zone NOT NULL,
    run_id text NOT NULL
);
CREATE TABLE pipeline.connectors (
    name text NOT NULL,
    protocol text NOT NULL,
    enabled boolean NOT NULL,
    schedule text,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE pipeline.leases (
    connector text NOT NULL,
    token bigint NOT NULL,
    run_id text,
    host text,
    pid bigint,
    place text,
    process_started bigint,
    acquired_at timestamp with time zone,
    heartbeat_at timestamp with time zone,
    heartbeat_tick double precision,
    expiry_seconds double precision
);
CREATE TABLE pipeline.scheduled_runs (
    run_id text NOT NULL,
    connector text NOT NULL,
    status text NOT NULL,
    triggered_by text NOT NULL,
    scheduled_at timestamp with time zone,
    started_at timestamp with time zone NOT NULL,
    completed_at timestamp with time zone,
    destination text,
    rows_processed bigint NOT NULL,
    bytes_processed bigint NOT NULL,
    error json,
    streams json NOT NULL,
    fencing_token bigint
);
CREATE TABLE pipeline.schema_version (
    version integer NOT NULL,
    migrated_at timestamp with time zone NOT NULL
);
CREATE VIEW pipeline.v_active_connectors AS
 SELECT connectors.name,
    connectors.protocol,
    connectors.schedule,
    ranked.run_id AS last_run_id,
    ranked.status AS last_status,
    ranked.started_at AS last_started_at,
    ranked.completed_at AS last_completed_at
   FROM (pipeline.connectors
     LEFT JOIN ( SELECT scheduled_runs.connector,
            scheduled_runs.run_id,
            scheduled_runs.status,
            scheduled_runs.started_at,
            scheduled_runs.completed_at,
            row_number() OVER (PARTITION BY scheduled_runs.connector ORDER BY scheduled_runs.started_at DESC, scheduled_runs.run_id DESC) AS "position"
           FROM pipeline.scheduled_runs) ranked ON (((ranked.connector = connectors.name) AND (ranked."position" = 1))))
  WHERE connectors.enabled;
CREATE VIEW pipeline.v_recent_runs AS
 SELECT scheduled_runs.run_id,
    scheduled_runs.connector,
    scheduled_runs.status,
    scheduled_runs.triggered_by,
    scheduled_runs.scheduled_at,
    scheduled_runs.started_at,
    scheduled_runs.completed_at,
    scheduled_runs.destination,
    scheduled_runs.rows_processed,
    scheduled_runs.bytes_processed,
    scheduled_runs.error
   FROM pipeline.scheduled_runs
  ORDER BY scheduled_runs.started_at DESC, scheduled_runs.run_id DESC
 LIMIT 100;
INSERT INTO pipeline.connector_state VALUES ('shop', 'orders', '{"cursor": "id", "high": {"kind": "integer", "text": "41"}, "tail_from": {"kind": "integer", "text": "40"}, "tail_values": []}', '2026-03-01 12:00:02.123456+00', '0195511e-9a40-7000-8000-000000000001');
INSERT INTO pipeline.connector_state VALUES ('shop', 'names', '{"cursor": "name", "high": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_from": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_values": ["\u0141\u00f3d\u017a", "\u0142\u00f3d\u017a"]}', '2026-03-01 12:00:02.123456+00', '0195511e-9a40-7000-8000-000000000001');
INSERT INTO pipeline.connector_state VALUES ('other', 'events', '{"cursor": "id", "high": {"kind": "integer", "text": "7"}, "tail_from": {"kind": "integer", "text": "7"}, "tail_values": []}', '2026-03-01 12:00:00.123456+00', '');
INSERT INTO pipeline.connectors VALUES ('shop', 'sqlite', true, '@hourly', '2026-11-21 12:26:56.746816+00');
INSERT INTO pipeline.leases VALUES ('shop', 1, NULL, 'etl-1', 13057, '0b9e7a54-0000-4000-8000-000000000000 pid:[4026531836]', 1328832, '2026-11-21 12:26:56.780719+00', '2026-11-21 12:26:56.780719+00', 13290.789396, 45);
INSERT INTO pipeline.scheduled_runs VALUES ('0195511e-9a40-7000-8000-000000000001', 'shop', 'completed', 'manual', NULL, '2026-03-01 12:00:00.123456+00', '2026-03-01 12:00:02.123456+00', 'warehouse', 4, 72, NULL, '[{"name": "orders", "status": "completed", "disposition": "merge", "table": "shop.orders", "rows_read": 3, "rows_loaded": 3, "rows_quarantined": 0, "bytes_processed": 64, "loads": 1, "checkpoint": {"cursor": "id", "high": {"kind": "integer", "text": "41"}, "tail_from": {"kind": "integer", "text": "40"}, "tail_values": []}, "nulled": {}, "error": null}, {"name": "names", "status": "completed", "disposition": "append", "table": "shop.names", "rows_read": 1, "rows_loaded": 1, "rows_quarantined": 0, "bytes_processed": 8, "loads": 1, "checkpoint": {"cursor": "name", "high": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_from": {"kind": "text", "text": "\u0141\u00f3d\u017a"}, "tail_values": ["\u0141\u00f3d\u017a", "\u0142\u00f3d\u017a"]}, "nulled": {"a: infinity": 2}, "error": null}]', NULL);
INSERT INTO pipeline.scheduled_runs VALUES ('0195511e-9a40-7000-8000-000000000002', 'shop', 'failed', 'manual', NULL, '2026-03-01 13:00:00.123456+00', '2026-03-01 13:00:01.123456+00', 'warehouse', 0, 0, '{"code": "source", "message": "it is gone", "hint": "bring it back", "exit_code": 3}', '[]', NULL);
INSERT INTO pipeline.scheduled_runs VALUES ('01a1fe12-f18a-7ae6-8e11-ce62a2a571f4', 'shop', 'completed', 'manual', NULL, '2026-03-01 14:00:00.123456+00', '2026-03-01 14:00:01.123456+00', 'warehouse', 0, 0, NULL, '[]', 1);
INSERT INTO pipeline.schema_version VALUES (1, '2026-11-21 12:26:56.741163+00');
ALTER TABLE ONLY pipeline.connector_state
    ADD CONSTRAINT connector_state_pkey PRIMARY KEY (connector, stream);
ALTER TABLE ONLY pipeline.connectors
    ADD CONSTRAINT connectors_pkey PRIMARY KEY (name);
ALTER TABLE ONLY pipeline.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (connector);
ALTER TABLE ONLY pipeline.scheduled_runs
    ADD CONSTRAINT scheduled_runs_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY pipeline.schema_version
    ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version);
CREATE INDEX ix_scheduled_runs_connector_started_at ON pipeline.scheduled_runs USING btree (connector, started_at);
CREATE INDEX ix_scheduled_runs_started_at ON pipeline.scheduled_runs USING btree (started_at);
