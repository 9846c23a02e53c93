-- Revision 0001: who may do what. Three group roles without login; a login joins one (docs/sql.md).
-- Roles belong to the cluster, not to the database, so they may be there already, and a downgrade leaves them.

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN VALUES
        ('earful_owner', 'Owns the tables and views of Earful; migrations act as it'),
        ('earful_ingest', 'Workers: read and write the tables of ingest and pii'),
        ('earful_analyst', 'Analysts: read the views of analytics_v1, nothing else')
    LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted.column1);
            EXECUTE format('COMMENT ON ROLE %I IS %L', wanted.column1, wanted.column2);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- another database of this cluster made it
        END;
    END LOOP;
    -- A plain user who may create roles is their admin; to create objects as the owner it must also be a member.
    IF NOT pg_has_role(current_user, 'earful_owner', 'SET') THEN
        EXECUTE format('GRANT earful_owner TO %I', current_user);
    END IF;
END $$;

ALTER SCHEMA ingest OWNER TO earful_owner;
ALTER TABLE ingest.schema_version OWNER TO earful_owner;
CREATE SCHEMA pii AUTHORIZATION earful_owner;
CREATE SCHEMA analytics_v1 AUTHORIZATION earful_owner;
COMMENT ON SCHEMA ingest IS 'What the workers write; not for analysts';
COMMENT ON SCHEMA pii IS 'What people said and wrote, and raw payloads; restricted';
COMMENT ON SCHEMA analytics_v1 IS 'The analysts'' contract: views that only gain columns';
