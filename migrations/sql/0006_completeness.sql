-- Revision 0006: a review counts once, and so does a call of which every record was refused.

CREATE OR REPLACE VIEW analytics_v1.completeness AS
WITH subjects AS (
    SELECT date_trunc('hour', call_started_at, 'UTC') AS hour, 'call' AS source, state, complete, gap_ms, late_chunks
      FROM analytics_v1.calls
    UNION ALL
    SELECT date_trunc('hour', h.changed_at, 'UTC'), 'review',
           coalesce(r.state, CASE WHEN d.found THEN 'dead_lettered' ELSE 'started' END),
           r.state IS NOT NULL OR coalesce(d.found, false), 0, 0
      FROM ingest.review_heads h
      LEFT JOIN (SELECT revision_id, min(state) AS state FROM ingest.reviews
                  WHERE run_id = (SELECT run_id FROM ingest.current_run) GROUP BY revision_id) r
        ON r.revision_id = h.revision_id
      LEFT JOIN (SELECT DISTINCT subject_id, topic_id, "offset", true AS found FROM ingest.dead_letters
                  WHERE stage = 'reviewer' AND run_id = (SELECT run_id FROM ingest.current_run)) d
        ON d.subject_id = h.review_id AND d.topic_id = h.topic_id AND d."offset" = h."offset"
     WHERE NOT h.deleted
    UNION ALL
    SELECT date_trunc('hour', max(d.failed_at), 'UTC'), 'review', 'dead_lettered', true, 0, 0
      FROM ingest.dead_letters d
     WHERE d.stage = 'reviewer' AND d.run_id = (SELECT run_id FROM ingest.current_run) AND d.replayed_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM ingest.review_heads h WHERE h.review_id = d.subject_id)
     GROUP BY coalesce(d.subject_id, d.dead_letter_id::text)
    UNION ALL
    SELECT date_trunc('hour', min(d.failed_at), 'UTC'), 'call', 'dead_lettered', true, 0, 0
      FROM ingest.dead_letters d
     WHERE d.stage = 'segmenter' AND d.subject_id IS NOT NULL AND d.replayed_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM ingest.calls c WHERE c.call_id = d.subject_id)
     GROUP BY d.subject_id
)
SELECT hour, source, count(*) AS total, count(*) FILTER (WHERE complete) AS complete,
       count(*) FILTER (WHERE NOT complete) AS open,
       count(*) FILTER (WHERE state = 'analysed') AS analysed, count(*) FILTER (WHERE state = 'no_speech') AS no_speech,
       count(*) FILTER (WHERE state = 'timed_out') AS timed_out,
       count(*) FILTER (WHERE state = 'dead_lettered') AS dead_lettered,
       count(*) FILTER (WHERE state IN ('unsupported_language', 'audio_corrupt', 'erased')) AS other_terminal,
       sum(gap_ms)::bigint AS gap_ms, sum(late_chunks)::bigint AS late_chunks,
       count(*) FILTER (WHERE complete)::double precision / count(*) AS complete_share
  FROM subjects
 GROUP BY hour, source;
COMMENT ON VIEW analytics_v1.calls IS 'Grain: one row per call of which a record was accepted; its state as of the current run.';
