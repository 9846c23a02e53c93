-- Revision 0007: comments that were not, or no longer, true.

COMMENT ON COLUMN ingest.aspect_mentions.infer_ms IS 'Time of the round trips to both models, waiting for them included, ms, >= 0';
COMMENT ON COLUMN ingest.aspect_mentions.queue_ms IS 'Always 0: the wait is part of infer_ms';
COMMENT ON COLUMN ingest.reviews.infer_ms IS 'Time of the round trips to both models, waiting for them included, ms, >= 0';
COMMENT ON COLUMN ingest.reviews.queue_ms IS 'Always 0: the wait is part of infer_ms';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."infer_ms" IS 'Time of the round trips to both models, waiting for them included, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."queue_ms" IS 'Always 0: the wait is part of infer_ms';
COMMENT ON COLUMN analytics_v1.aspect_mentions."infer_ms" IS 'Time of the round trips to both models, waiting for them included, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."queue_ms" IS 'Always 0: the wait is part of infer_ms';
COMMENT ON COLUMN analytics_v1.reviews."infer_ms" IS 'Time of the round trips to both models, waiting for them included, ms, >= 0';
COMMENT ON COLUMN analytics_v1.reviews."queue_ms" IS 'Always 0: the wait is part of infer_ms';
COMMENT ON COLUMN ingest.calls.late_chunks IS 'Chunks that came when the call was over or they had been given up as missing';
COMMENT ON COLUMN analytics_v1.calls."late_chunks" IS 'Chunks that came when the call was over or they had been given up as missing, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."late_chunks" IS 'Chunks that came when the call was over or they had been given up as missing, >= 0';
COMMENT ON COLUMN ingest.calls.state IS 'started, streaming, ended, timed_out or audio_corrupt: how far its audio is. What a run made of it is in ingest.call_runs';
COMMENT ON COLUMN ingest.attempts.attempts IS 'Times a worker began with this record after it took the partition over, or tried it alone, from 1';
COMMENT ON TABLE ingest.attempts IS 'Records that a worker began with, counted before they are decoded. Cleared on a clean revoke.';
COMMENT ON VIEW analytics_v1.aspect_mentions_by_run IS 'Grain: one row per aspect mentioned in an utterance of the customer, or of an unknown speaker, or in a review, and run; every run.';
COMMENT ON VIEW analytics_v1.aspect_mentions IS 'Grain: one row per aspect mentioned in an utterance of the customer, or of an unknown speaker, or in a review, in the current run.';
COMMENT ON COLUMN ingest.call_runs.state IS 'transcribed, analysed, no_speech, unsupported_language or dead_lettered';
COMMENT ON COLUMN analytics_v1.calls."state" IS 'started, streaming, ended, timed_out or audio_corrupt, as its audio; then what the current run made of it: transcribed, analysed, no_speech, unsupported_language or dead_lettered';
COMMENT ON COLUMN analytics_v1.completeness."other_terminal" IS 'Calls or reviews in unsupported_language, calls in audio_corrupt, >= 0';
