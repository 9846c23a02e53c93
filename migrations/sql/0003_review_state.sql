-- Revision 0003: a review in a language that the models do not know says so, instead of being silently empty.

ALTER TABLE ingest.reviews ADD COLUMN state TEXT DEFAULT 'analysed' NOT NULL
    CONSTRAINT reviews_state_check CHECK (state IN ('analysed', 'unsupported_language'));
COMMENT ON COLUMN ingest.reviews.state IS 'analysed, or unsupported_language: its text is not English, so no aspect was looked for';

-- A view's columns stay as they are; new ones follow.
CREATE OR REPLACE VIEW analytics_v1.reviews AS
SELECT r.review_id, r.revision_id, r.created_at, r.version, r.product, r.rating, r.language, t.text, r.aspects,
       1 AS reviews, r.model, r.model_version, r.infer_ms, r.queue_ms,
       r.run_id, r.trace_id, r.source_topic, r.source_partition, r.source_offset, r.source_at,
       r.committed_at, r.state
  FROM ingest.reviews r
  JOIN ingest.review_heads h ON h.review_id = r.review_id AND h.revision_id = r.revision_id AND NOT h.deleted
  JOIN pii.review_texts t ON t.revision_id = r.revision_id AND t.run_id = r.run_id AND t.created_at = r.created_at
 WHERE r.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON COLUMN analytics_v1.reviews."state" IS 'analysed, or unsupported_language: its text is not English, so no aspect was looked for';
