-- Revision 0001: the analysts' views, owned by earful_owner, who is no superuser. Additive changes only.
-- docs/sql.md explains them.

CREATE VIEW analytics_v1.runs AS
SELECT r.run_id, r.spec, coalesce(r.run_id = (SELECT run_id FROM ingest.current_run), false) AS is_current, r.created_at
  FROM ingest.runs r;
COMMENT ON VIEW analytics_v1.runs IS 'Grain: one row per run, that is models, versions, rules, prompts and decode options together.';
COMMENT ON COLUMN analytics_v1.runs."run_id" IS 'Id of the run: uuid5 of its spec';
COMMENT ON COLUMN analytics_v1.runs."spec" IS 'Models, versions, rules, prompts and decode options';
COMMENT ON COLUMN analytics_v1.runs."is_current" IS 'True for the one run that the other views show';
COMMENT ON COLUMN analytics_v1.runs."created_at" IS 'Instant at which the run was first opened (UTC)';

CREATE VIEW analytics_v1.calls AS
SELECT c.call_id, c.call_started_at, c.product, c.channels, c.roles,
       CASE WHEN c.state IN ('started', 'streaming', 'ended', 'transcribed', 'analysed')
            THEN coalesce(r.state, c.state) ELSE c.state END AS state,
       r.state AS run_state,
       coalesce(r.state IN ('analysed', 'no_speech', 'unsupported_language', 'dead_lettered', 'erased'),
                c.state IN ('no_speech', 'unsupported_language', 'audio_corrupt', 'dead_lettered', 'erased'))
           AS complete,
       c.close_reason, r.reason AS state_reason, c.duration_ms, c.gap_ms, c.late_chunks, r.utterances, c.paused,
       1 AS calls, c.trace_id, c.created_at, c.last_commit_at, r.transcribed_at, r.finished_at, r.run_id
  FROM ingest.calls c
  LEFT JOIN ingest.call_runs r ON r.call_id = c.call_id AND r.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.calls IS 'Grain: one row per call, whatever became of it; its state as of the current run.';
COMMENT ON COLUMN analytics_v1.calls."call_id" IS 'The producer''s id of the call';
COMMENT ON COLUMN analytics_v1.calls."call_started_at" IS 'Start of the call as the producer says (UTC)';
COMMENT ON COLUMN analytics_v1.calls."product" IS 'Product the call is about; null if the producer does not say';
COMMENT ON COLUMN analytics_v1.calls."channels" IS 'Channels of the recording, 1 or 2';
COMMENT ON COLUMN analytics_v1.calls."roles" IS 'Role of each channel: customer, agent or unknown';
COMMENT ON COLUMN analytics_v1.calls."state" IS 'started, streaming, ended, transcribed, analysed, or terminal: no_speech, unsupported_language, audio_corrupt, timed_out, dead_lettered, erased';
COMMENT ON COLUMN analytics_v1.calls."run_state" IS 'State in the current run: transcribed, analysed, no_speech, unsupported_language, dead_lettered; null before the call is transcribed';
COMMENT ON COLUMN analytics_v1.calls."complete" IS 'True if nothing more is to come in the current run';
COMMENT ON COLUMN analytics_v1.calls."close_reason" IS 'ended or timed_out; null while open';
COMMENT ON COLUMN analytics_v1.calls."state_reason" IS 'snake_case code where the state needs one';
COMMENT ON COLUMN analytics_v1.calls."duration_ms" IS 'Length of the audio, ms, >= 0';
COMMENT ON COLUMN analytics_v1.calls."gap_ms" IS 'Audio that never came, ms, >= 0';
COMMENT ON COLUMN analytics_v1.calls."late_chunks" IS 'Chunks that came when the call was over, >= 0';
COMMENT ON COLUMN analytics_v1.calls."utterances" IS 'Utterances of the call, >= 0; null before the call is transcribed';
COMMENT ON COLUMN analytics_v1.calls."paused" IS 'True while the producer has paused the call';
COMMENT ON COLUMN analytics_v1.calls."calls" IS 'Always 1: sum it to count calls';
COMMENT ON COLUMN analytics_v1.calls."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.calls."created_at" IS 'Instant of the first commit (UTC)';
COMMENT ON COLUMN analytics_v1.calls."last_commit_at" IS 'Instant of the last commit of audio (UTC)';
COMMENT ON COLUMN analytics_v1.calls."transcribed_at" IS 'Instant at which the last utterance was done (UTC)';
COMMENT ON COLUMN analytics_v1.calls."finished_at" IS 'Instant of the summary or of a terminal state (UTC)';
COMMENT ON COLUMN analytics_v1.calls."run_id" IS 'The current run; null before the call is transcribed in it';

CREATE VIEW analytics_v1.utterances_by_run AS
SELECT u.utterance_id, u.call_id, u.call_started_at, c.product, u.channel, u.role, u.start_ms, u.end_ms,
       u.end_ms - u.start_ms AS duration_ms, u.call_started_at + u.start_ms * interval '1 millisecond' AS started_at,
       t.text, t.text_search, u.finish_reason, u.tokens, u.mean_logprob,
       u.model, u.model_version, u.infer_ms, u.queue_ms,
       u.run_id, u.trace_id, u.source_topic, u.source_partition, u.source_offset, u.source_at,
       u.committed_at
  FROM ingest.utterances u
  JOIN pii.utterance_texts t USING (utterance_id, run_id, call_started_at)
  LEFT JOIN ingest.calls c ON c.call_id = u.call_id;
COMMENT ON VIEW analytics_v1.utterances_by_run IS 'Grain: one row per utterance and run; every run.';
COMMENT ON COLUMN analytics_v1.utterances_by_run."utterance_id" IS 'Id of the utterance; the same in every run';
COMMENT ON COLUMN analytics_v1.utterances_by_run."call_id" IS 'The call';
COMMENT ON COLUMN analytics_v1.utterances_by_run."call_started_at" IS 'Start of the call (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.utterances_by_run."product" IS 'Product of the call; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances_by_run."channel" IS 'Channel, from 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."role" IS 'customer, agent or unknown';
COMMENT ON COLUMN analytics_v1.utterances_by_run."start_ms" IS 'Start, ms from the start of the call, >= 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."end_ms" IS 'End, ms from the start of the call';
COMMENT ON COLUMN analytics_v1.utterances_by_run."duration_ms" IS 'Length, ms, 0..30,000';
COMMENT ON COLUMN analytics_v1.utterances_by_run."started_at" IS 'Instant of the start (UTC)';
COMMENT ON COLUMN analytics_v1.utterances_by_run."text" IS 'What was said; empty if nothing was recognised';
COMMENT ON COLUMN analytics_v1.utterances_by_run."text_search" IS 'The text for full-text search, English stemming: text_search @@ websearch_to_tsquery(''english'', ...)';
COMMENT ON COLUMN analytics_v1.utterances_by_run."finish_reason" IS 'stop, length, no_speech or repetition';
COMMENT ON COLUMN analytics_v1.utterances_by_run."tokens" IS 'Tokens the model wrote, >= 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."mean_logprob" IS 'Mean log probability of the tokens, <= 0; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances_by_run."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.utterances_by_run."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.utterances_by_run."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.utterances_by_run."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances_by_run."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.utterances_by_run."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.utterances_by_run."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.utterances_by_run."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.utterances AS
SELECT * FROM analytics_v1.utterances_by_run WHERE run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.utterances IS 'Grain: one row per utterance, in the current run.';
COMMENT ON COLUMN analytics_v1.utterances."utterance_id" IS 'Id of the utterance; the same in every run';
COMMENT ON COLUMN analytics_v1.utterances."call_id" IS 'The call';
COMMENT ON COLUMN analytics_v1.utterances."call_started_at" IS 'Start of the call (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.utterances."product" IS 'Product of the call; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances."channel" IS 'Channel, from 0';
COMMENT ON COLUMN analytics_v1.utterances."role" IS 'customer, agent or unknown';
COMMENT ON COLUMN analytics_v1.utterances."start_ms" IS 'Start, ms from the start of the call, >= 0';
COMMENT ON COLUMN analytics_v1.utterances."end_ms" IS 'End, ms from the start of the call';
COMMENT ON COLUMN analytics_v1.utterances."duration_ms" IS 'Length, ms, 0..30,000';
COMMENT ON COLUMN analytics_v1.utterances."started_at" IS 'Instant of the start (UTC)';
COMMENT ON COLUMN analytics_v1.utterances."text" IS 'What was said; empty if nothing was recognised';
COMMENT ON COLUMN analytics_v1.utterances."text_search" IS 'The text for full-text search, English stemming: text_search @@ websearch_to_tsquery(''english'', ...)';
COMMENT ON COLUMN analytics_v1.utterances."finish_reason" IS 'stop, length, no_speech or repetition';
COMMENT ON COLUMN analytics_v1.utterances."tokens" IS 'Tokens the model wrote, >= 0';
COMMENT ON COLUMN analytics_v1.utterances."mean_logprob" IS 'Mean log probability of the tokens, <= 0; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.utterances."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.utterances."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.utterances."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.utterances."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.utterances."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.utterances."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.utterances."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.utterances."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.utterances."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.utterances."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.summaries AS
SELECT s.call_id, s.call_started_at, c.product, s.method, t.issue, t.outcome, t.actions, t.summary, s.evidence,
       s.model, s.model_version, s.infer_ms, s.queue_ms,
       s.run_id, s.trace_id, s.source_topic, s.source_partition, s.source_offset, s.source_at,
       s.committed_at
  FROM ingest.summaries s
  JOIN pii.summary_texts t USING (call_id, run_id, call_started_at)
  LEFT JOIN ingest.calls c ON c.call_id = s.call_id
 WHERE s.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.summaries IS 'Grain: one row per call, in the current run.';
COMMENT ON COLUMN analytics_v1.summaries."call_id" IS 'The call';
COMMENT ON COLUMN analytics_v1.summaries."call_started_at" IS 'Start of the call (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.summaries."product" IS 'Product of the call; null if unknown';
COMMENT ON COLUMN analytics_v1.summaries."method" IS 'How it was made: extractive or generative';
COMMENT ON COLUMN analytics_v1.summaries."issue" IS 'Why the customer called; null if not found';
COMMENT ON COLUMN analytics_v1.summaries."outcome" IS 'How it ended; null if not found';
COMMENT ON COLUMN analytics_v1.summaries."actions" IS 'What was promised: a list of sentences';
COMMENT ON COLUMN analytics_v1.summaries."summary" IS 'The call in a few sentences';
COMMENT ON COLUMN analytics_v1.summaries."evidence" IS 'Which utterances support what: [{field, utterance_ids}]';
COMMENT ON COLUMN analytics_v1.summaries."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.summaries."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.summaries."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.summaries."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.summaries."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.summaries."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.summaries."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.summaries."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.summaries."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.summaries."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.summaries."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.reviews AS
SELECT r.review_id, r.revision_id, r.created_at, r.version, r.product, r.rating, r.language, t.text, r.aspects,
       1 AS reviews, r.model, r.model_version, r.infer_ms, r.queue_ms,
       r.run_id, r.trace_id, r.source_topic, r.source_partition, r.source_offset, r.source_at,
       r.committed_at
  FROM ingest.reviews r
  JOIN ingest.review_heads h ON h.review_id = r.review_id AND h.revision_id = r.revision_id AND NOT h.deleted
  JOIN pii.review_texts t ON t.revision_id = r.revision_id AND t.run_id = r.run_id AND t.created_at = r.created_at
 WHERE r.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.reviews IS 'Grain: one row per review, its newest revision, in the current run; deleted reviews are not shown.';
COMMENT ON COLUMN analytics_v1.reviews."review_id" IS 'The producer''s id of the review';
COMMENT ON COLUMN analytics_v1.reviews."revision_id" IS 'Id of the newest revision';
COMMENT ON COLUMN analytics_v1.reviews."created_at" IS 'Creation of the review as the producer says (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.reviews."version" IS 'The producer''s version; null if it gives none';
COMMENT ON COLUMN analytics_v1.reviews."product" IS 'Product the review is about; null if unknown';
COMMENT ON COLUMN analytics_v1.reviews."rating" IS 'The author''s rating, on the producer''s scale; null if none';
COMMENT ON COLUMN analytics_v1.reviews."language" IS 'BCP 47 tag; null if unknown';
COMMENT ON COLUMN analytics_v1.reviews."text" IS 'What the author wrote';
COMMENT ON COLUMN analytics_v1.reviews."aspects" IS 'Aspects found in it, >= 0';
COMMENT ON COLUMN analytics_v1.reviews."reviews" IS 'Always 1: sum it to count reviews';
COMMENT ON COLUMN analytics_v1.reviews."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.reviews."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.reviews."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.reviews."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.reviews."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.reviews."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.reviews."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.reviews."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.reviews."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.reviews."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.reviews."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.aspect_mentions_by_run AS
SELECT m.mention_id, m.source, m.subject_at, m.occurred_at, m.product, m.call_id, m.utterance_id, m.review_id,
       m.aspect_id, m.aspect_text, m.span_start, m.span_end, m.polarity, m.sentiment, m.p_negative, m.p_neutral,
       m.p_positive, m.confidence, 1 AS mentions, m.model, m.model_version, m.infer_ms, m.queue_ms,
       m.run_id, m.trace_id, m.source_topic, m.source_partition, m.source_offset, m.source_at,
       m.committed_at
  FROM ingest.aspect_mentions m
  LEFT JOIN ingest.review_heads h
    ON h.review_id = m.review_id AND h.revision_id = m.revision_id AND NOT h.deleted
 WHERE m.source = 'utterance' OR h.review_id IS NOT NULL;
COMMENT ON VIEW analytics_v1.aspect_mentions_by_run IS 'Grain: one row per aspect mentioned in an utterance of the customer or in a review, and run; every run.';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."mention_id" IS 'Id of the mention; the same in every run that finds the same span';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."source" IS 'utterance or review';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."subject_at" IS 'Start of the call or creation of the review (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."occurred_at" IS 'Instant at which it was said or written (UTC)';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."product" IS 'Product of the call or review; null if unknown';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."call_id" IS 'The call; null for reviews';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."utterance_id" IS 'The utterance; null for reviews';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."review_id" IS 'The review; null for calls';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."aspect_id" IS 'The aspect in the taxonomy of the run';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."aspect_text" IS 'The aspect as it was said or written';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."span_start" IS 'First character of the aspect in the text, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."span_end" IS 'Character after the aspect''s last one';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."polarity" IS 'negative, neutral or positive: the likeliest';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."sentiment" IS 'p_positive - p_negative, -1..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."p_negative" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."p_neutral" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."p_positive" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."confidence" IS 'Confidence that the span is an aspect, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."mentions" IS 'Always 1: sum it to count mentions';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.aspect_mentions_by_run."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.aspect_mentions AS
SELECT * FROM analytics_v1.aspect_mentions_by_run WHERE run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.aspect_mentions IS 'Grain: one row per aspect mentioned in an utterance of the customer or in a review, in the current run.';
COMMENT ON COLUMN analytics_v1.aspect_mentions."mention_id" IS 'Id of the mention; the same in every run that finds the same span';
COMMENT ON COLUMN analytics_v1.aspect_mentions."source" IS 'utterance or review';
COMMENT ON COLUMN analytics_v1.aspect_mentions."subject_at" IS 'Start of the call or creation of the review (UTC); filter on it, it picks the partition';
COMMENT ON COLUMN analytics_v1.aspect_mentions."occurred_at" IS 'Instant at which it was said or written (UTC)';
COMMENT ON COLUMN analytics_v1.aspect_mentions."product" IS 'Product of the call or review; null if unknown';
COMMENT ON COLUMN analytics_v1.aspect_mentions."call_id" IS 'The call; null for reviews';
COMMENT ON COLUMN analytics_v1.aspect_mentions."utterance_id" IS 'The utterance; null for reviews';
COMMENT ON COLUMN analytics_v1.aspect_mentions."review_id" IS 'The review; null for calls';
COMMENT ON COLUMN analytics_v1.aspect_mentions."aspect_id" IS 'The aspect in the taxonomy of the run';
COMMENT ON COLUMN analytics_v1.aspect_mentions."aspect_text" IS 'The aspect as it was said or written';
COMMENT ON COLUMN analytics_v1.aspect_mentions."span_start" IS 'First character of the aspect in the text, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."span_end" IS 'Character after the aspect''s last one';
COMMENT ON COLUMN analytics_v1.aspect_mentions."polarity" IS 'negative, neutral or positive: the likeliest';
COMMENT ON COLUMN analytics_v1.aspect_mentions."sentiment" IS 'p_positive - p_negative, -1..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions."p_negative" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions."p_neutral" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions."p_positive" IS 'Calibrated probability, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions."confidence" IS 'Confidence that the span is an aspect, 0..1';
COMMENT ON COLUMN analytics_v1.aspect_mentions."mentions" IS 'Always 1: sum it to count mentions';
COMMENT ON COLUMN analytics_v1.aspect_mentions."model" IS 'Name of the model';
COMMENT ON COLUMN analytics_v1.aspect_mentions."model_version" IS 'Version of the model''s weights and code';
COMMENT ON COLUMN analytics_v1.aspect_mentions."infer_ms" IS 'Time the model computed, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."queue_ms" IS 'Time the request waited for the model, ms, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."run_id" IS 'Run that made the row';
COMMENT ON COLUMN analytics_v1.aspect_mentions."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
COMMENT ON COLUMN analytics_v1.aspect_mentions."source_topic" IS 'Kafka topic of the record the row was made from';
COMMENT ON COLUMN analytics_v1.aspect_mentions."source_partition" IS 'Partition of that record, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."source_offset" IS 'Offset of that record, from 0';
COMMENT ON COLUMN analytics_v1.aspect_mentions."source_at" IS 'Kafka''s timestamp of that record (UTC)';
COMMENT ON COLUMN analytics_v1.aspect_mentions."committed_at" IS 'Instant at which the row became visible (UTC)';

CREATE VIEW analytics_v1.aspect_daily AS
SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, product, source, aspect_id, count(*) AS mentions,
       count(*) FILTER (WHERE polarity = 'negative') AS negative,
       count(*) FILTER (WHERE polarity = 'neutral') AS neutral,
       count(*) FILTER (WHERE polarity = 'positive') AS positive,
       (count(*) FILTER (WHERE polarity = 'positive') - count(*) FILTER (WHERE polarity = 'negative'))::double precision
           / count(*) AS net_sentiment,
       sum(sentiment) AS sentiment_sum
  FROM analytics_v1.aspect_mentions
 GROUP BY 1, 2, 3, 4;
COMMENT ON VIEW analytics_v1.aspect_daily IS 'Grain: one row per day (UTC), product, source and aspect, in the current run.';
COMMENT ON COLUMN analytics_v1.aspect_daily."day" IS 'Day (UTC) on which it was said or written';
COMMENT ON COLUMN analytics_v1.aspect_daily."product" IS 'Product; null if unknown';
COMMENT ON COLUMN analytics_v1.aspect_daily."source" IS 'utterance or review';
COMMENT ON COLUMN analytics_v1.aspect_daily."aspect_id" IS 'The aspect in the taxonomy of the run';
COMMENT ON COLUMN analytics_v1.aspect_daily."mentions" IS 'Mentions, >= 1';
COMMENT ON COLUMN analytics_v1.aspect_daily."negative" IS 'Negative mentions, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_daily."neutral" IS 'Neutral mentions, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_daily."positive" IS 'Positive mentions, >= 0';
COMMENT ON COLUMN analytics_v1.aspect_daily."net_sentiment" IS '(positive - negative) / mentions, -1..1';
COMMENT ON COLUMN analytics_v1.aspect_daily."sentiment_sum" IS 'Sum of sentiment; over the sum of mentions it is the mean, -1..1';

CREATE VIEW analytics_v1.completeness AS
WITH subjects AS (
    SELECT date_trunc('hour', call_started_at, 'UTC') AS hour, 'call' AS source, state, complete, gap_ms, late_chunks
      FROM analytics_v1.calls
    UNION ALL
    SELECT date_trunc('hour', h.changed_at, 'UTC'), 'review',
           CASE WHEN r.found THEN 'analysed' WHEN d.found THEN 'dead_lettered' ELSE 'started' END,
           coalesce(r.found, d.found, false), 0, 0
      FROM ingest.review_heads h
      LEFT JOIN (SELECT DISTINCT revision_id, true AS found FROM ingest.reviews WHERE run_id = (SELECT run_id FROM ingest.current_run)) r
        ON r.revision_id = h.revision_id
      LEFT JOIN (SELECT DISTINCT subject_id, topic_id, "offset", true AS found FROM ingest.dead_letters
                  WHERE stage = 'reviewer' AND run_id = (SELECT run_id FROM ingest.current_run)) d
        ON d.subject_id = h.review_id AND d.topic_id = h.topic_id AND d."offset" = h."offset"
     WHERE NOT h.deleted
    UNION ALL
    SELECT date_trunc('hour', d.failed_at, 'UTC'), 'review', 'dead_lettered', true, 0, 0
      FROM ingest.dead_letters d
     WHERE d.stage = 'reviewer' AND d.run_id = (SELECT run_id FROM ingest.current_run) AND d.replayed_at IS NULL
       AND NOT EXISTS (SELECT 1 FROM ingest.review_heads h WHERE h.review_id = d.subject_id
                          AND h.topic_id = d.topic_id AND h."offset" = d."offset")
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
COMMENT ON VIEW analytics_v1.completeness IS 'Grain: one row per hour (UTC) and source: what came in and what became of it, in the current run.';
COMMENT ON COLUMN analytics_v1.completeness."hour" IS 'Hour (UTC): of the call''s start; for reviews of their newest revision''s arrival or failure';
COMMENT ON COLUMN analytics_v1.completeness."source" IS 'call or review';
COMMENT ON COLUMN analytics_v1.completeness."total" IS 'Calls or reviews, >= 1';
COMMENT ON COLUMN analytics_v1.completeness."complete" IS 'Those to which nothing more is to come, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."open" IS 'Those still on their way, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."analysed" IS 'Those fully analysed, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."no_speech" IS 'Calls without speech, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."timed_out" IS 'Calls whose end never came; complete once what came is analysed, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."dead_lettered" IS 'Those given up, see dead_letters, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."other_terminal" IS 'Calls in unsupported_language, audio_corrupt or erased, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."gap_ms" IS 'Audio that never came, ms, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."late_chunks" IS 'Chunks that came when their call was over, >= 0';
COMMENT ON COLUMN analytics_v1.completeness."complete_share" IS 'complete / total, 0..1';

CREATE VIEW analytics_v1.freshness AS
WITH delays AS (
    SELECT 'utterance' AS kind, source_at, committed_at FROM analytics_v1.utterances
    UNION ALL SELECT 'summary', source_at, committed_at FROM analytics_v1.summaries
    UNION ALL SELECT 'review', source_at, committed_at FROM analytics_v1.reviews
), timed AS (
    SELECT *, extract(epoch FROM committed_at - source_at)::double precision * 1000 AS delay_ms FROM delays
)
SELECT date_trunc('hour', committed_at, 'UTC') AS hour, kind, count(*) AS "rows",
       percentile_cont(0.5) WITHIN GROUP (ORDER BY delay_ms) AS p50_ms,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY delay_ms) AS p95_ms,
       max(delay_ms) AS max_ms, max(source_at) AS newest_source_at, max(committed_at) AS newest_committed_at
  FROM timed
 GROUP BY 1, 2;
COMMENT ON VIEW analytics_v1.freshness IS 'Grain: one row per hour of commit (UTC) and kind of row: how long after its Kafka record a row became visible, in the current run.';
COMMENT ON COLUMN analytics_v1.freshness."hour" IS 'Hour (UTC) in which the rows became visible';
COMMENT ON COLUMN analytics_v1.freshness."kind" IS 'utterance, summary or review';
COMMENT ON COLUMN analytics_v1.freshness."rows" IS 'Rows, >= 1';
COMMENT ON COLUMN analytics_v1.freshness."p50_ms" IS 'Median delay from the Kafka record''s timestamp to the row, ms';
COMMENT ON COLUMN analytics_v1.freshness."p95_ms" IS '95th percentile of the delay, ms';
COMMENT ON COLUMN analytics_v1.freshness."max_ms" IS 'Longest delay, ms';
COMMENT ON COLUMN analytics_v1.freshness."newest_source_at" IS 'Timestamp of the newest Kafka record among them (UTC)';
COMMENT ON COLUMN analytics_v1.freshness."newest_committed_at" IS 'Instant of the newest row (UTC)';

CREATE VIEW analytics_v1.dead_letters AS
SELECT d.dead_letter_id, d.stage, d.topic, d.partition, d."offset", d.reason, d.detail, d.subject_id, d.failed_at,
       d.replayed_at, d.replayed_partition, d.replayed_offset, 1 AS dead_letters, d.run_id, d.trace_id
  FROM ingest.dead_letters d
 WHERE d.stage = 'segmenter' OR d.run_id = (SELECT run_id FROM ingest.current_run);
COMMENT ON VIEW analytics_v1.dead_letters IS 'Grain: one row per record given up, of the segmenter or in the current run; without payload.';
COMMENT ON COLUMN analytics_v1.dead_letters."dead_letter_id" IS 'Id of the dead letter; earful deadletters show takes it';
COMMENT ON COLUMN analytics_v1.dead_letters."stage" IS 'Stage that gave the record up';
COMMENT ON COLUMN analytics_v1.dead_letters."topic" IS 'Source topic';
COMMENT ON COLUMN analytics_v1.dead_letters."partition" IS 'Source partition, from 0';
COMMENT ON COLUMN analytics_v1.dead_letters."offset" IS 'Source offset, from 0';
COMMENT ON COLUMN analytics_v1.dead_letters."reason" IS 'snake_case code of the reason';
COMMENT ON COLUMN analytics_v1.dead_letters."detail" IS 'One sentence, without text of the payload';
COMMENT ON COLUMN analytics_v1.dead_letters."subject_id" IS 'Call, review or utterance the record was about; null if unknown';
COMMENT ON COLUMN analytics_v1.dead_letters."failed_at" IS 'Instant of the verdict (UTC)';
COMMENT ON COLUMN analytics_v1.dead_letters."replayed_at" IS 'Instant of its replay (UTC); null: not replayed';
COMMENT ON COLUMN analytics_v1.dead_letters."replayed_partition" IS 'Partition of the replayed record; null: not replayed';
COMMENT ON COLUMN analytics_v1.dead_letters."replayed_offset" IS 'Offset of the replayed record; null: not replayed';
COMMENT ON COLUMN analytics_v1.dead_letters."dead_letters" IS 'Always 1: sum it to count dead letters';
COMMENT ON COLUMN analytics_v1.dead_letters."run_id" IS 'Run in which it was given up';
COMMENT ON COLUMN analytics_v1.dead_letters."trace_id" IS 'W3C trace id, 32 hex digits; null if unknown';
