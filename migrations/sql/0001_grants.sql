-- Revision 0001: grants, after the tables and views exist. Only parents are granted, never a partition.

GRANT USAGE ON SCHEMA ingest, pii, analytics_v1 TO earful_ingest;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ingest, pii TO earful_ingest;
REVOKE INSERT, UPDATE, DELETE ON ingest.schema_version FROM earful_ingest;
GRANT SELECT ON ALL TABLES IN SCHEMA analytics_v1 TO earful_ingest;
GRANT USAGE ON SCHEMA analytics_v1 TO earful_analyst;
GRANT SELECT ON ALL TABLES IN SCHEMA analytics_v1 TO earful_analyst;
