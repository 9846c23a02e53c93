-- Revision 0002: how much audio came too late, in the call's row and in the analysts' view of it.

ALTER TABLE ingest.calls ADD COLUMN late_ms BIGINT DEFAULT '0' NOT NULL;
COMMENT ON COLUMN ingest.calls.late_ms IS 'Audio of the late chunks, ms, as their producer says';

-- A view's columns stay as they are; new ones follow.
CREATE OR REPLACE VIEW analytics_v1.calls AS
SELECT c.call_id, c.call_started_at, c.product, c.channels, c.roles,
       CASE WHEN c.state IN ('started', 'streaming', 'ended', 'transcribed', 'analysed')
            THEN coalesce(r.state, c.state) ELSE c.state END AS state,
       r.state AS run_state,
       coalesce(r.state IN ('analysed', 'no_speech', 'unsupported_language', 'dead_lettered', 'erased'),
                c.state IN ('no_speech', 'unsupported_language', 'audio_corrupt', 'dead_lettered', 'erased'))
           AS complete,
       c.close_reason, r.reason AS state_reason, c.duration_ms, c.gap_ms, c.late_chunks, r.utterances, c.paused,
       1 AS calls, c.trace_id, c.created_at, c.last_commit_at, r.transcribed_at, r.finished_at, r.run_id, c.late_ms
  FROM ingest.calls c
  LEFT JOIN ingest.call_runs r ON r.call_id = c.call_id AND r.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON COLUMN analytics_v1.calls."late_ms" IS 'Audio of the late chunks, ms, >= 0';
